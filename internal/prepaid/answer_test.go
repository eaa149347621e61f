package prepaid

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

func TestAnswers(t *testing.T) {
	sealed := func(changes map[string]any) string { return sealedReply(t, changes) }
	code := func(c any) string { return sealed(map[string]any{"responseCode": c, "responseMessage": "No"}) }
	plain := func(changes map[string]any) string { return string(reply(t, changes)) }
	tests := []struct {
		name    string
		status  int
		body    string
		outcome txn.Outcome
		reason  txn.Reason
		code    string
		alarm   bool
	}{
		{"success", 200, sealed(nil), txn.HasSucceeded, "", "00", false},
		{"success 0", 200, code("0"), txn.HasSucceeded, "", "0", false},
		{"success 0 as number", 200, code(0), txn.HasSucceeded, "", "0", false},
		{"success 201 as number", 200, code(201), txn.HasSucceeded, "", "201", false},
		{"numbers as strings", 200, sealed(map[string]any{"urn": "70000000008", "bankId": "7000"}), txn.HasSucceeded, "", "00", false},
		{"strings as numbers", 200, sealed(map[string]any{"messageCode": 1121, "clientId": 2000}), txn.HasSucceeded, "", "00", false},
		{"unknown fields beside", 200, sealed(map[string]any{"extra": map[string]any{"a": []int{1}}, "f": 1.5}), txn.HasSucceeded, "", "00", false},
		{"nulls in what decides nothing", 200, sealed(map[string]any{"description": nil, "accosaRefNo": nil}), txn.HasSucceeded, "", "00", false},
		{"envelope in result", 200, strings.Replace(sealed(nil), "token", "result", 1), txn.HasSucceeded, "", "00", false},
		{"the configured field first", 200, `{"result":"AAAA",` + sealed(nil)[1:], txn.HasSucceeded, "", "00", false},

		{"000 is not 00", 200, code("000"), txn.Unknown, txn.ReasonUnlisted, "000", false},
		{"00 with a space", 200, code("00 "), txn.Unknown, txn.ReasonUnlisted, "", false},
		{"200 is not 201", 200, code(200), txn.Unknown, txn.ReasonUnlisted, "200", false},
		{"no code", 200, sealed(map[string]any{"responseCode": nil}), txn.Unknown, txn.ReasonUnreadable, "", false},
		{"empty code", 200, code(""), txn.Unknown, txn.ReasonUnreadable, "", false},
		{"code is a word", 200, code(true), txn.Unknown, txn.ReasonUnreadable, "", true},
		{"code is a fraction", 200, code(0.5), txn.Unknown, txn.ReasonUnreadable, "", true},
		{"code is a list", 200, code([]string{"00"}), txn.Unknown, txn.ReasonUnreadable, "", true},
		{"key in another case", 200, strings.ReplaceAll(plain(nil), "responseCode", "ResponseCode"), txn.Unknown, txn.ReasonUnreadable, "", false},

		{"another transaction", 200, sealed(map[string]any{"clientTxnId": "0001aB3d00007y"}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"transaction in another case", 200, sealed(map[string]any{"clientTxnId": "0001AB3D00007Z"}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no transaction", 200, sealed(map[string]any{"clientTxnId": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"another message code", 200, sealed(map[string]any{"messageCode": "1120"}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no message code", 200, sealed(map[string]any{"messageCode": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"another urn", 200, sealed(map[string]any{"urn": 70000000009}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no urn", 200, sealed(map[string]any{"urn": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"another customer", 200, sealed(map[string]any{"customerId": "IN0"}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no customer", 200, sealed(map[string]any{"customerId": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"another client", 200, sealed(map[string]any{"clientId": "2001"}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no client", 200, sealed(map[string]any{"clientId": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"another bank", 200, sealed(map[string]any{"bankId": 7001}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},
		{"no bank", 200, sealed(map[string]any{"bankId": nil}), txn.Unknown, txn.ReasonEchoMismatch, "00", false},

		{"success in clear", 200, plain(nil), txn.Unknown, txn.ReasonUnreadable, "00", false},
		{"success with 201", 201, sealed(nil), txn.Unknown, txn.ReasonUnreadable, "00", false},
		{"success with 302", 302, sealed(nil), txn.Unknown, txn.ReasonUnreadable, "00", false},
		{"success with 400", 400, sealed(nil), txn.Unknown, txn.ReasonUnreadable, "00", false},
		{"success with 403", 403, sealed(nil), txn.Unknown, txn.ReasonUnreadable, "00", false},
		{"success with 500", 500, sealed(nil), txn.Unknown, txn.ReasonServerError, "00", false},

		{"1001", 200, code("1001"), txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"1231", 200, code("1231"), txn.WasRejected, txn.ReasonNotFound, "1231", false},
		{"1306", 200, code("1306"), txn.WasRejected, txn.ReasonNotFound, "1306", false},
		{"1309 as number", 200, code(1309), txn.WasRejected, txn.ReasonRefused, "1309", false},
		{"1237", 200, code("1237"), txn.WasRejected, txn.ReasonRefused, "1237", false},
		{"1030", 200, code("1030"), txn.WasRejected, txn.ReasonMisconfigured, "1030", true},
		{"1031", 200, code("1031"), txn.WasRejected, txn.ReasonMisconfigured, "1031", true},
		{"1032", 200, code("1032"), txn.WasRejected, txn.ReasonMisconfigured, "1032", true},
		{"1049", 200, code("1049"), txn.WasRejected, txn.ReasonMisconfigured, "1049", true},
		{"1090", 200, code("1090"), txn.WasRejected, txn.ReasonMisconfigured, "1090", true},
		{"1091", 200, code("1091"), txn.WasRejected, txn.ReasonMisconfigured, "1091", true},
		{"1262", 200, code("1262"), txn.WasRejected, txn.ReasonMisconfigured, "1262", true},
		{"1264", 200, code("1264"), txn.WasRejected, txn.ReasonMisconfigured, "1264", true},
		{"1310", 200, code("1310"), txn.WasRejected, txn.ReasonMisconfigured, "1310", true},
		{"1311", 200, code("1311"), txn.WasRejected, txn.ReasonMisconfigured, "1311", true},
		{"1034", 200, code("1034"), txn.WasRejected, txn.ReasonBadField, "1034", false},
		{"1088", 200, code("1088"), txn.WasRejected, txn.ReasonBadField, "1088", false},
		{"1092", 200, code("1092"), txn.WasRejected, txn.ReasonBadField, "1092", false},
		{"unlisted", 200, code("1234"), txn.Unknown, txn.ReasonUnlisted, "1234", false},
		{"unlisted, negative", 200, code(-1), txn.Unknown, txn.ReasonUnlisted, "-1", false},
		{"long code", 200, code(strings.Repeat("9", 33)), txn.Unknown, txn.ReasonUnlisted, "", false},
		{"configured code", 200, code("1400"), txn.WasRejected, txn.ReasonBlocked, "1400", false},
		{"code taken out", 200, code("1401"), txn.Unknown, txn.ReasonUnlisted, "1401", false},

		{"rejection of another", 200, sealed(map[string]any{"responseCode": "1001", "clientTxnId": "x"}), txn.Unknown, txn.ReasonEchoMismatch, "1001", false},
		{"rejection without echo", 200, sealed(map[string]any{"responseCode": "1001", "clientTxnId": nil}), txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection with empty echo", 200, sealed(map[string]any{"responseCode": "1001", "clientTxnId": ""}), txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection in clear", 400, `{"responseCode":1001,"responseMessage":"CARD_NOT_FOUND"}`, txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection in clear of another", 400, `{"responseCode":1001,"clientTxnId":"x"}`, txn.Unknown, txn.ReasonEchoMismatch, "1001", false},
		{"rejection in clear, token null", 200, `{"token":null,"responseCode":"1001"}`, txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection in clear, result a word", 200, `{"result":"FAILURE","responseCode":"1001"}`, txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection with 401", 401, `{"responseCode":"1049"}`, txn.WasRejected, txn.ReasonMisconfigured, "1049", true},
		{"rejection with 404", 404, code("1001"), txn.WasRejected, txn.ReasonNotFound, "1001", false},
		{"rejection with 202", 202, code("1001"), txn.Unknown, txn.ReasonUnreadable, "1001", false},
		{"rejection with 503", 503, code("1001"), txn.Unknown, txn.ReasonServerError, "1001", false},
		{"code twice", 400, `{"responseCode":"1001","responseCode":"1001"}`, txn.Unknown, txn.ReasonUnlisted, "", true},

		{"gateway 401", 401, `{"message":"No API key found in request"}`, txn.WasRejected, txn.ReasonMisconfigured, "", true},
		{"gateway 401 empty", 401, "", txn.WasRejected, txn.ReasonMisconfigured, "", true},
		{"gateway 403 page", 403, "<html>", txn.WasRejected, txn.ReasonMisconfigured, "", true},
		{"403 with an unlisted code", 403, `{"responseCode":"4711"}`, txn.Unknown, txn.ReasonUnlisted, "4711", false},
		{"403 with an envelope that does not open", 403, `{"token":"AAAA"}`, txn.Unknown, txn.ReasonUnreadable, "", true},
		{"400 without a code", 400, `{"message":"Bad Request"}`, txn.Unknown, txn.ReasonUnlisted, "", true},
		{"404 page", 404, "<html>", txn.Unknown, txn.ReasonUnlisted, "", true},
		{"429", 429, "", txn.Unknown, txn.ReasonUnlisted, "", true},
		{"redirect", 307, "", txn.Unknown, txn.ReasonUnlisted, "", true},
		{"500 page", 500, "<html>", txn.Unknown, txn.ReasonServerError, "", false},
		{"503 with an envelope that does not open", 503, `{"token":"AAAA"}`, txn.Unknown, txn.ReasonServerError, "", false},

		{"empty", 200, "", txn.Unknown, txn.ReasonUnreadable, "", false},
		{"page", 200, "<html>", txn.Unknown, txn.ReasonUnreadable, "", false},
		{"list", 200, `[{"responseCode":"1001"}]`, txn.Unknown, txn.ReasonUnreadable, "", false},
		{"envelope twice", 200, `{"token":"AAAA",` + sealed(nil)[1:], txn.Unknown, txn.ReasonUnreadable, "", false},
		{"two objects", 200, sealed(nil) + sealed(nil), txn.Unknown, txn.ReasonUnreadable, "", false},
		{"byte order mark", 200, "\ufeff" + sealed(nil), txn.Unknown, txn.ReasonUnreadable, "", false},
		{"envelope is a number", 200, `{"token":1}`, txn.Unknown, txn.ReasonUnreadable, "", false},
		{"no UTF-8", 200, "{\"token\":\"\xff\"}", txn.Unknown, txn.ReasonUnreadable, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(func(c *Config) { c.RejectCodes = map[string]string{"1400": "blocked", "1401": "unknown"} })
			client := answers(tt.status, tt.body)
			a := newProvider(t, cfg, newCipher(t), client).Submit(t.Context(), testCall())
			require.Equal(t, tt.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tt.reason, a.Reason)
			require.Equal(t, tt.code, a.Code)
			require.Equal(t, tt.status, a.HTTPStatus)
			require.Equal(t, tt.alarm, a.Alarm != "", a.Alarm)
			require.Len(t, client.sent, 1, "one call, never a second")
			require.Zero(t, a.Hold)
			require.Zero(t, a.Again)
			if tt.outcome != txn.HasSucceeded {
				require.Empty(t, a.Data)
			}
		})
	}
}

func TestAnswerFieldDecidesWhereThereAreBoth(t *testing.T) {
	good := testToken(t, IVPrefix, reply(t, nil))
	body := `{"token":"AAAA","result":"` + good + `"}`
	for field, want := range map[string]txn.Outcome{"token": txn.Unknown, "result": txn.HasSucceeded} {
		p := newProvider(t, testConfig(func(c *Config) { c.AnswerField = field }), newCipher(t), answers(200, body))
		require.Equal(t, want, p.Submit(t.Context(), testCall()).Outcome, field)
	}
}

func TestSuccessKeepsThePlatformsNumbers(t *testing.T) {
	const wide = `{"urn":70000000008,"customerId":"IN00001201001868","responseCode":0,"messageCode":1121,"clientTxnId":"0001aB3d00007z",` +
		`"clientId":2000,"bankId":7000,"accosaRefNo":123456789012345678901234567890,"accosaTransactionId":"1031",` +
		`"responseDateTime":20160715025837,"responseMessage":"Done\u0007 \u00e9\n"}`
	p := newProvider(t, testConfig(), newCipher(t), answers(200, `{"token":"`+testToken(t, IVPrefix, []byte(wide))+`"}`))
	a := p.Submit(t.Context(), testCall())
	require.Equal(t, txn.HasSucceeded, a.Outcome)
	require.Equal(t, map[string]string{
		DataRefNo: "123456789012345678901234567890", DataTxnNumber: "1031", DataResponseTime: "20160715025837",
	}, a.Data)
	require.Equal(t, "Done  é", a.Text)
}

func TestWhatTheJournalWouldKeepIsBounded(t *testing.T) {
	long := strings.Repeat("é", 5000)
	p := newProvider(t, testConfig(), newCipher(t), answers(200, sealedReply(t, map[string]any{
		"responseMessage": long, "accosaRefNo": strings.Repeat("1", 65), "accosaTransactionId": "a b", "responseDateTime": "",
	})))
	a := p.Submit(t.Context(), testCall())
	require.Equal(t, txn.HasSucceeded, a.Outcome)
	require.Equal(t, strings.Repeat("é", 200), a.Text)
	require.Empty(t, a.Data)

	p = newProvider(t, testConfig(), newCipher(t), answers(200, sealedReply(t, map[string]any{"responseMessage": nil})))
	require.Equal(t, "Reset Pin", p.Submit(t.Context(), testCall()).Text)
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"token":"AAAA"}`), false)
	f.Add(200, []byte(documentOrder), true)
	f.Add(403, []byte(`{"responseCode":"1001","clientTxnId":null}`), false)
	f.Add(200, []byte(`{"urn":1e3}`), true)
	f.Add(200, []byte(`{"a\u0022":{"b":["}"]},"responseCode":"00"}`), true)
	want := expected{messageCode: "1121", txnID: "0001aB3d00007z", fields: testCall().Request.Fields}
	pin := []byte(canaryPIN)
	f.Fuzz(func(t *testing.T, status int, body []byte, wrap bool) {
		p := newProvider(t, testConfig(), newCipher(t), answers(200, ""))
		if wrap {
			body = []byte(`{"token":"` + testToken(t, IVPrefix, body) + `"}`)
		}
		r, err := p.read(t.Context(), body)
		if err != nil {
			require.Same(t, errUnreadable, err)
		}
		a := p.judge(status, r, err, want, pin)
		require.Contains(t, []txn.Outcome{txn.Unknown, txn.WasRejected, txn.HasSucceeded}, a.Outcome)
		require.LessOrEqual(t, len(a.Code), maxCode)
		require.NotContains(t, a.Text, canaryPIN)
		if a.Outcome == txn.HasSucceeded {
			require.Equal(t, 200, status)
			require.True(t, r.sealed)
			require.True(t, r.fields.is("clientTxnId", want.txnID))
		}
		if a.Outcome == txn.WasRejected && r.spoke {
			require.Contains(t, documentedRejections(), a.Code)
		}
	})
}
