// Package audit keeps the tamper-evident record of every act that cannot be
// undone: a call sent to a provider, a key made or destroyed, an operator's
// decision.
//
// # Trust
//
// The record is a file of lines, each bound to the one before by its hash.
// Changing, removing or moving a line breaks the chain from there on, and Verify
// says where. What a chain alone cannot show is a tail that was cut off, or a file
// that somebody with the right to write it made anew from some line on. For that
// the journal stores, sealed, the head of the chain (Head.Stamp) with each of its
// commits, and CompareStamp holds the file against it.
//
// Lines carry no secret and no customer: a request is named by our id for it, a
// call by its external id.
//
// # A line
//
// One JSON object without spaces, its members in this order, ended by a newline:
//
//	{"seq":7,"time":"2026-05-04T09:30:00.123+07:00","act":"attempt.begin",
//	"object":"01JB…","result":"","who":"agent","attrs":{"external_id":"…"},
//	"prev":"<64 hex>","hash":"<64 hex>"}
//
// (shown on three lines here). seq counts from 1. attrs are sorted by name, byte
// by byte. Strings hold printable characters only; '"' and '\' have a '\' before
// them, and nothing else is escaped. prev is the hash of the line before, 64
// zeros for the first. hash is the SHA-256, in lower-case hexadecimal, of the
// line's bytes up to and without `,"hash":`.
//
// There is one way to write each record, so a line that decodes and does not
// encode to the same bytes was not written by this package.
//
// # Gaps
//
// A power loss may take lines that were not synced (entries on the delivery path
// cost no sync of their own), and may leave half a line. Open moves what is no
// line to a file of its own beside the record and goes on with a line whose act is
// "audit.gap". A gap that was found and written down is history; a chain that
// does not fit is an alarm.
package audit
