package snap

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

func TestForgotPINSample(t *testing.T) {
	body := strings.Replace(sample(t, "netzme_forgot_pin.answer.json"), "testinga202203090000000001", testRef, 1)
	n := newNetzme(t, &fakeHTTP{answer: always(200, body)}, nil)
	require.Equal(t, txn.Answer{
		Outcome: txn.HasSucceeded, Code: "2000000", Text: "Successful", HTTPStatus: 200, Cooldown: 5 * time.Minute,
	}, n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1)))
	// The sample as it stands answers another request.
	n = newNetzme(t, &fakeHTTP{answer: always(200, sample(t, "netzme_forgot_pin.answer.json"))}, nil)
	a := n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1))
	require.Equal(t, txn.Unknown, a.Outcome)
	require.Equal(t, txn.ReasonEchoMismatch, a.Reason)
	require.Zero(t, a.Cooldown)
}

func TestForgotPINAnswers(t *testing.T) {
	echo := `"partnerReferenceNo":"` + testRef + `"`
	for _, tc := range []struct {
		name     string
		status   int
		body     string
		change   func(*NetzmeConfig)
		outcome  txn.Outcome
		cooldown time.Duration
	}{
		{"cooldown as a text", 200, `{"responseCode":"2000000",` + echo + `,"additionalInfo":{"timeLeftInMillis":"1500"}}`, nil, txn.HasSucceeded, 1500 * time.Millisecond},
		{"no cooldown", 200, `{"responseCode":"2000000",` + echo + `}`, nil, txn.HasSucceeded, 0},
		{"negative", 200, `{"responseCode":"2000000",` + echo + `,"additionalInfo":{"timeLeftInMillis":-1}}`, nil, txn.HasSucceeded, 0},
		{"beyond the bound", 200, `{"responseCode":"2000000",` + echo + `,"additionalInfo":{"timeLeftInMillis":9007199254740000}}`, nil, txn.HasSucceeded, 24 * time.Hour},
		{"no info but a text", 200, `{"responseCode":"2000000",` + echo + `,"additionalInfo":"x"}`, nil, txn.HasSucceeded, 0},
		{"no echo", 200, `{"responseCode":"2000000"}`, nil, txn.Unknown, 0},
		{"no echo, not required", 200, `{"responseCode":"2000000"}`, func(c *NetzmeConfig) { c.RequireEcho = false }, txn.HasSucceeded, 0},
		{"wrong echo, not required", 200, `{"responseCode":"2000000","partnerReferenceNo":"x"}`, func(c *NetzmeConfig) { c.RequireEcho = false }, txn.Unknown, 0},
		{"too often, with the time left", 403, `{"responseCode":"4030004","additionalInfo":{"timeLeftInMillis":60000}}`, nil, txn.WasRejected, time.Minute},
		{"too often, without", 403, `{"responseCode":"4030004"}`, nil, txn.WasRejected, time.Hour},
		{"doubt starts no cooldown", 500, `{"responseCode":"5000000","additionalInfo":{"timeLeftInMillis":60000}}`, nil, txn.Unknown, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetzme(t, &fakeHTTP{answer: always(tc.status, tc.body)}, tc.change)
			a := n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1))
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.cooldown, a.Cooldown)
		})
	}
}

// TestPINInAnAnswerIsDropped: wherever it stands, it goes nowhere.
func TestPINInAnAnswerIsDropped(t *testing.T) {
	const pin = testOTP // the log of every test is held against it too
	for _, status := range []string{"200", "400", "500"} {
		body := `{"responseCode":"` + status + `0000","responseMessage":"PIN baru ` + pin + `","partnerReferenceNo":"` + testRef +
			`","pin":"` + pin + `","newPin":` + pin + `,"additionalInfo":{"timeLeftInMillis":1000,"pin":"` + pin + `"}}`
		n := newNetzme(t, &fakeHTTP{answer: byPath(map[string]string{"forgot-pin": body})}, nil)
		a := n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1))
		require.Equal(t, "PIN baru ######", a.Text)
		noSecret(t, a)
	}
}

func TestExchangeErrors(t *testing.T) {
	for _, tc := range []struct {
		name    string
		err     error
		outcome txn.Outcome
		reason  txn.Reason
		alarm   bool
	}{
		{"not sent", &wire.Error{Op: wire.OpConnect, Host: "h", Err: errors.New("refused")}, txn.NotSent, txn.ReasonLinkDown, false},
		{"untrusted", &wire.Error{Op: wire.OpTLS, Host: "h", Err: errors.New("x509"), Untrusted: true, Hint: "name the file in ca_file"}, txn.NotSent, txn.ReasonLinkUntrusted, true},
		{"sent", &wire.Error{Op: wire.OpReceive, Host: "h", Err: wire.ErrTruncated, Sent: true}, txn.Unknown, txn.ReasonNoAnswer, false},
		{"an error that says nothing", errors.New("something"), txn.Unknown, txn.ReasonNoAnswer, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetzme(t, &fakeHTTP{answer: func(wire.Request) (*wire.Reply, error) { return nil, tc.err }}, nil)
			a := n.Submit(t.Context(), request(txn.NetzmeForgotPIN, 1))
			require.Equal(t, tc.outcome, a.Outcome)
			require.Equal(t, tc.reason, a.Reason)
			require.Equal(t, tc.alarm, a.Alarm != "")
			require.Zero(t, a.HTTPStatus)
			require.NotEmpty(t, a.Text)
		})
	}
}
