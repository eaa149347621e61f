package prepaid

import "gardu/internal/txn"

// takeOut is the reason in Config.RejectCodes that removes a documented code.
const takeOut = "unknown"

var rejectReasons = []txn.Reason{
	txn.ReasonRefused, txn.ReasonBadField, txn.ReasonTooMany, txn.ReasonNotFound,
	txn.ReasonBlocked, txn.ReasonNotAllowed, txn.ReasonMisconfigured,
}

// documentedRejections is the document's table "API error codes" and the codes of
// its sibling pages (docs/providers.md, "Prepaid"). A code that is not here says
// nothing: the outcome is then unknown.
func documentedRejections() map[string]txn.Reason {
	return map[string]txn.Reason{
		"1001": txn.ReasonNotFound,      // CARD_NOT_FOUND
		"1030": txn.ReasonMisconfigured, // INVALID_MESSAGE
		"1031": txn.ReasonMisconfigured, // INVALID_BANK_ID
		"1032": txn.ReasonMisconfigured, // INVALID_CLIENT_CHANNEL
		"1034": txn.ReasonBadField,      // INVALID_MOBILE_NUMBER
		"1049": txn.ReasonMisconfigured, // INVALID_SECURE_CODE
		"1088": txn.ReasonBadField,      // INVALID_DATE_FORMAT
		"1090": txn.ReasonMisconfigured, // CARD_PROFILEID_MANDATORY
		"1091": txn.ReasonMisconfigured, // INVALID_CARDPROFILE_ID
		"1092": txn.ReasonBadField,      // INVALID_EMAIL_ADDRESS
		"1231": txn.ReasonNotFound,      // DATA_NOT_FOUND
		"1237": txn.ReasonRefused,       // DUPLICATE_MOBILE_NUMBER_WITH_MULTIPLE_ACCOUNT
		"1262": txn.ReasonMisconfigured, // a header is missing
		"1264": txn.ReasonMisconfigured, // a header is missing
		"1306": txn.ReasonNotFound,      // PROFILE_NOTFOUND
		"1309": txn.ReasonRefused,       // CARDPROFILE_MISTMATCH, so spelt
		"1310": txn.ReasonMisconfigured, // a header is missing
		"1311": txn.ReasonMisconfigured, // a header is missing
	}
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
