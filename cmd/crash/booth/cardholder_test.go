package booth

import (
	"crypto/aes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/prepaid"
	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// TestTheIssuerConfirmsTheCardFirst goes the whole way of prepaid.reset_pin with
// verification by the platform's own call: engine, journal, provider and wire as they
// are shipped, against the sandbox.
func TestTheIssuerConfirmsTheCardFirst(t *testing.T) {
	const envelope = "0123456789abcdefghijklmn"
	sandbox, err := upstream.New(upstream.Config{PINSalt: "salt", Prepaid: &upstream.PrepaidConfig{
		Key: envelope, KeyEncoding: "raw", APIKey: "api", ClientID: "2000", BankID: "7000", SecureCode: "code",
		VerifyCardholder: &upstream.VerifyConfig{},
		Cards:            []upstream.Card{{URN: "70000000008", Last4Digits: "1745", CustomerID: "IN00001201001868"}},
	}})
	require.NoError(t, err)
	require.NoError(t, sandbox.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, sandbox.Close()) })
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, sandbox.CA(), 0o600))
	// Nothing hangs here, so a limit is only to end what does.
	const limit = time.Minute
	client, err := wire.New(wire.Options{CAFile: ca, DialTimeout: wire.Duration(limit), TLSTimeout: wire.Duration(limit), Timeout: wire.Duration(limit)})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	block, err := aes.NewCipher([]byte(envelope))
	require.NoError(t, err)
	cfg := prepaid.Default()
	cfg.BaseURL, cfg.ClientID, cfg.BankID = sandbox.URL(upstream.Prepaid), "2000", "7000"
	cfg.Verification, cfg.VerifyMessageCode, cfg.VerifyAnswerMessageCode = prepaid.VerifyByCardholder, "1130", "1131"
	log := slog.New(slog.DiscardHandler)
	p, err := prepaid.New(cfg, prepaid.Secrets{APIKey: secret.Clone([]byte("api")), SecureCode: secret.Clone([]byte("code"))},
		cbc{block}, prepaid.ScreenEntry{}, client, log)
	require.NoError(t, err)
	r := &cutRig{t: t, sandbox: sandbox}
	r.start(dir, []txn.Offer{{Policy: p.Policies()[0], Provider: p}}, log, limit)
	r.linked(txn.PrepaidResetPIN)

	card := map[string]string{"urn": "70000000008", "last4Digits": "1746", "customerId": "IN00001201001868"}
	n := txn.New{Key: "key-of-the-visit", Operation: txn.PrepaidResetPIN, Fields: card, Secret: secret.Clone([]byte("938271"))}
	_, err = r.engine.Accept(t.Context(), n)
	require.ErrorIs(t, err, txn.ErrUnverified)
	_, err = r.engine.Verify(t.Context(), txn.PrepaidResetPIN, card)
	var no *txn.VerifyError
	require.ErrorAs(t, err, &no)
	require.Equal(t, txn.VerdictMismatch, no.Verdict)
	require.Equal(t, "1001", no.Code)

	card["last4Digits"] = "1745"
	n.VerifiedBy, err = r.engine.Verify(t.Context(), txn.PrepaidResetPIN, card)
	require.NoError(t, err)
	require.NoError(t, r.engine.Each(t.Context(), func(*txn.Request, error) error {
		require.Fail(t, "a verification was stored")
		return nil
	}))
	q, err := r.engine.Accept(t.Context(), n)
	require.NoError(t, err)
	q = r.until(q.ID, settled)
	require.Equal(t, txn.Succeeded, q.State, q.Reason)
	require.Equal(t, n.VerifiedBy, q.Data[txn.DataVerifiedBy])
	effects := sandbox.Effects()
	require.Len(t, effects, 1)
	require.Equal(t, 1, effects[0].Count)
	require.Equal(t, upstream.PINDigest("salt", []byte("938271")), effects[0].PINDigest)
	require.Empty(t, sandbox.Violations())
}
