// Package queue keeps requests in one bbolt file, sealed, and is the Store that
// the engine of package txn writes to. What Add and Update returned nil for is
// synced to disk.
//
// # Trust
//
// Whoever copies the file learns how many requests there are, their ids,
// operations and times, and whether one holds a secret; no customer identifier
// stands in clear. Whoever changes a byte of a record makes it unreadable:
// bbolt has no checksums over data, the seal is also the checksum. Whoever puts
// a whole older file in its place is noticed by the witness file beside it, which
// knows the number of the last commit (DB.Behind). What cannot be noticed is an
// older file together with its own older witness, and one record replaced, inside
// a file that is otherwise current, by its own older version under the same key.
//
// # A record
//
// The key is the record's sequence number, 8 bytes, big-endian like all numbers
// here. The value is a clear header and one sealed box:
//
//	offset  size  content
//	0       4     "GDR" and the format's version, 0x01
//	4       4     number of the data key
//	8       8     creation of the request, signed, milliseconds since 1970
//	16      8     expiry of the request, likewise
//	24      1     secret: 0 none, 1 PIN, 2 one-time password
//	25      8     secret's generation, random; zeros where none
//	33      1     n, length of the request id, 26
//	34      n     request id, letters and digits
//	34+n    1     m, length of the operation, 1 to 64
//	35+n    m     operation
//	35+n+m  4     b, length of the box
//	39+n+m  b     box: 12 bytes random nonce, AES-256-GCM ciphertext, 16 bytes tag
//
// Nothing may follow. The additional data of the box is, each with a length of
// 4 bytes before it: the label "gardu journal record", the journal id (16
// bytes), sequence (8), schema version (4), key number (4), request id,
// operation, creation (8), expiry (8), secret (1), generation (8). So a record
// does not open in another place, in another journal or under another header.
//
// The box holds 4 bytes length, the request as JSON without its sequence number,
// and, where there is a secret, the secret's own box to the end.
//
// # Keys
//
// A data key is 32 random bytes, held in memory and stored in the file wrapped
// by the KEK, which never leaves its token. A new one is made at each Open,
// after 24 hours and after 2^24 seals; one that seals nothing any more is
// deleted.
//
// A PIN or one-time password has a key of its own. That key is stored, wrapped
// by the PIN KEK, only in a folder on tmpfs and never in bbolt, which keeps
// deleted bytes in freed pages: overwriting and unlinking that small file is
// what makes the secret unreadable everywhere, also in copies of the journal.
// After a power loss such a secret is gone, as designed (txn.ErrSecretLost).
//
// docs/storage.md has the other formats, the rules of opening and what an
// operator does with a journal that does not open.
package queue
