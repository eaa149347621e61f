package prepaid

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// The files in testdata/samples are the document's samples as they stand there.

func sampleOf(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "samples", name))
	require.NoError(t, err)
	return b
}

// sampledCall is the call of the document's sample. Its clientTxnId has 25 characters.
func sampledCall(t *testing.T, zone *time.Location) txn.Call {
	t.Helper()
	at, err := time.ParseInLocation(dateTime, "20160715025837", zone)
	require.NoError(t, err)
	return txn.Call{
		Request: &txn.Request{
			Operation: txn.PrepaidResetPIN, Reference: "201507271458370149gM90jY0", Step: 1,
			Fields: map[string]string{FieldURN: "70000000008", FieldLast4: "1745", FieldCustomer: "IN00001201001868"},
		},
		Attempt: txn.Attempt{Step: 1, Serial: 7, Began: at},
		Secret:  secret.Clone([]byte("121200")),
	}
}

// TestDocumentsSample: with the sample's values our message is the sample, byte for
// byte but for its spaces, and its answer is a success, though it mixes numbers and
// texts.
func TestDocumentsSample(t *testing.T) {
	c := newCipher(t)
	var want bytes.Buffer
	require.NoError(t, json.Compact(&want, sampleOf(t, "reset_pin.request.json")))
	client := answers(200, `{"token":"`+testToken(t, IVPrefix, sampleOf(t, "reset_pin.answer.json"))+`"}`)
	p := newProvider(t, testConfig(), c, client)
	call := sampledCall(t, p.zone)
	message := p.resetMessage(call.Request.Reference, call.Attempt.Began, call.Request.Fields, []byte("121200"))
	require.Equal(t, want.String(), string(message))

	a := p.Submit(t.Context(), call)
	require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
	require.Equal(t, "00", a.Code)
	require.Equal(t, map[string]string{DataRefNo: "6007283", DataTxnNumber: "1031", DataResponseTime: "20160715025837"}, a.Data)
}

// TestDocumentsEnvelope: the printed envelope has typographic quotes and is no JSON,
// and behind them a token that nobody holds the key of. Neither is a success.
func TestDocumentsEnvelope(t *testing.T) {
	printed := sampleOf(t, "reset_pin_as_printed.txt")
	mended := bytes.ReplaceAll(bytes.ReplaceAll(printed, []byte("“"), []byte(`"`)), []byte("”"), []byte(`"`))
	for name, body := range map[string][]byte{"as printed": printed, "quotes mended": mended} {
		t.Run(name, func(t *testing.T) {
			p := newProvider(t, testConfig(), newCipher(t), answers(200, string(body)))
			a := p.Submit(t.Context(), sampledCall(t, p.zone))
			require.Equal(t, txn.Unknown, a.Outcome, "%+v", a)
			require.Equal(t, txn.ReasonUnreadable, a.Reason)
		})
	}
}
