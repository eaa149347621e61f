package prepaid

import "gardu/internal/txn"

// takeOut is the reason in Config.RejectCodes that removes a documented code.
const takeOut = "unknown"

var rejectReasons = []txn.Reason{
	txn.ReasonRefused, txn.ReasonBadField, txn.ReasonTooMany, txn.ReasonNotFound,
	txn.ReasonBlocked, txn.ReasonNotAllowed, txn.ReasonMisconfigured,
}

// listed is one line of the document's table of codes.
type listed struct {
	code   string
	says   string // in the document's words
	reason txn.Reason
}

// documented is the document's table "API error codes" and the codes of its
// sibling pages (docs/providers.md, "Prepaid"). A code that is not here says
// nothing: the outcome is then unknown.
var documented = []listed{
	{"1001", "CARD_NOT_FOUND", txn.ReasonNotFound},
	{"1030", "INVALID_MESSAGE", txn.ReasonMisconfigured},
	{"1031", "INVALID_BANK_ID", txn.ReasonMisconfigured},
	{"1032", "INVALID_CLIENT_CHANNEL", txn.ReasonMisconfigured},
	{"1034", "INVALID_MOBILE_NUMBER", txn.ReasonBadField},
	{"1049", "INVALID_SECURE_CODE", txn.ReasonMisconfigured},
	{"1088", "INVALID_DATE_FORMAT", txn.ReasonBadField},
	{"1090", "CARD_PROFILEID_MANDATORY", txn.ReasonMisconfigured},
	{"1091", "INVALID_CARDPROFILE_ID", txn.ReasonMisconfigured},
	{"1092", "INVALID_EMAIL_ADDRESS", txn.ReasonBadField},
	{"1231", "DATA_NOT_FOUND", txn.ReasonNotFound},
	{"1237", "DUPLICATE_MOBILE_NUMBER_WITH_MULTIPLE_ACCOUNT", txn.ReasonRefused},
	{"1262", "a header is missing", txn.ReasonMisconfigured},
	{"1264", "a header is missing", txn.ReasonMisconfigured},
	{"1306", "PROFILE_NOTFOUND", txn.ReasonNotFound},
	{"1309", "CARDPROFILE_MISTMATCH", txn.ReasonRefused}, // so spelt
	{"1310", "a header is missing", txn.ReasonMisconfigured},
	{"1311", "a header is missing", txn.ReasonMisconfigured},
}

func documentedRejections() map[string]txn.Reason {
	m := make(map[string]txn.Reason, len(documented))
	for _, l := range documented {
		m[l.code] = l.reason
	}
	return m
}

// Codes is the documented table as docs/response-codes.md shows it.
func Codes() []txn.Meaning {
	var all []txn.Meaning
	for _, code := range Default().SuccessCodes {
		all = append(all, txn.Meaning{Code: code, Says: "SUCCESS", Outcome: txn.HasSucceeded})
	}
	for _, l := range documented {
		all = append(all, txn.Meaning{Code: l.code, Says: l.says, Outcome: txn.WasRejected, Reason: l.reason, Do: l.do()})
	}
	return all
}

func (l *listed) do() string {
	switch l.code {
	case "1031":
		return "Compare prepaid.bank_id with what the platform gave."
	case "1032":
		return "Compare prepaid.client_id and entity_id with what the platform gave."
	case "1049":
		return "Renew the secureCode credential with the platform."
	case "1262", "1264", "1310", "1311":
		return "Ask the platform which header it misses; consumer_custom_id is the one that only some gateways demand."
	}
	return ""
}

var _ txn.Explainer = (*Provider)(nil)

// Explain implements txn.Explainer, by the table in force.
func (p *Provider) Explain(code string) (txn.Meaning, bool) {
	if p.success[code] {
		return txn.Meaning{Code: code, Says: "SUCCESS", Outcome: txn.HasSucceeded}, true
	}
	why, ok := p.rejected[code]
	if !ok {
		return txn.Meaning{}, false
	}
	m := txn.Meaning{Code: code, Says: "set by prepaid.reject_codes", Outcome: txn.WasRejected, Reason: why}
	for i := range documented {
		if l := &documented[i]; l.code == code {
			m.Says = l.says
			if l.reason == why {
				m.Do = l.do()
			}
		}
	}
	return m, true
}

// rejections is the table in force.
func (c *Config) rejections() map[string]txn.Reason {
	table := documentedRejections()
	for code, reason := range c.RejectCodes {
		if reason == takeOut {
			delete(table, code)
			continue
		}
		table[code] = txn.Reason(reason)
	}
	return table
}
