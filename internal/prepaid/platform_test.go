package prepaid_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"fmt"
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

// These tests speak with the sandbox's platform, which is written from the
// documents alone and checks every byte that it gets: what both sides misread
// would have to be misread twice.

const (
	key  = "000102030405060708090a0b0c0d0e0f1011121314151617"
	salt = "test-salt"
	pin  = "938271" // no port and no time has these digits
)

// blockCipher is AES-192-CBC in memory, in place of the token device.
type blockCipher struct{ block cipher.Block }

func (c blockCipher) EncryptCBC(_ context.Context, iv, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(out, in)
	return out, nil
}

func (c blockCipher) DecryptCBC(_ context.Context, iv, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(out, in)
	return out, nil
}

type bench struct {
	platform *upstream.Server
	provider *prepaid.Provider
	cfg      prepaid.Config
	logged   *bytes.Buffer
	serial   int
}

func newBench(t *testing.T, change func(*upstream.PrepaidConfig, *prepaid.Config)) *bench {
	t.Helper()
	ours := prepaid.Default()
	ours.ClientID, ours.BankID, ours.Verification = "2000", "7000", prepaid.VerifyByStaff
	theirs := &upstream.PrepaidConfig{
		Key: key, APIKey: "api-key", ClientID: "2000", BankID: "7000", SecureCode: "secure-code",
		Cards: []upstream.Card{{URN: "70000000008", Last4Digits: "1745", CustomerID: "IN00001201001868"}},
	}
	if change != nil {
		change(theirs, &ours)
	}
	s, err := upstream.New(upstream.Config{Prepaid: theirs, PINSalt: salt})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Close()) })

	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, s.CA(), 0o600))
	patience := wire.Duration(2 * time.Minute)
	client, err := wire.New(wire.Options{CAFile: ca, DialTimeout: patience, TLSTimeout: patience, HeaderTimeout: patience, Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(client.Close)

	raw, err := hex.DecodeString(key)
	require.NoError(t, err)
	block, err := aes.NewCipher(raw)
	require.NoError(t, err)
	ours.BaseURL = s.URL(upstream.Prepaid)
	b := &bench{platform: s, cfg: ours, logged: new(bytes.Buffer)}
	b.provider, err = prepaid.New(ours, prepaid.Secrets{
		APIKey: secret.Clone([]byte("api-key")), SecureCode: secret.Clone([]byte("secure-code")),
	}, blockCipher{block}, prepaid.ScreenEntry{}, client, slog.New(slog.NewTextHandler(b.logged, nil)))
	require.NoError(t, err)
	return b
}

func card() map[string]string {
	return map[string]string{"urn": "70000000008", "last4Digits": "1745", "customerId": "IN00001201001868"}
}

// submit makes one call as the engine would.
func (b *bench) submit(t *testing.T, fields map[string]string) (txn.Answer, string) {
	t.Helper()
	pol := b.provider.Policies()[0]
	require.True(t, pol.Enabled)
	require.NoError(t, pol.CheckFields(fields))
	b.serial++
	ref := txn.Identity{Kiosk: 17, Salt: 12345}.ShortReference(uint64(b.serial))
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	go b.platform.WhenHanging(ctx, giveUp)
	a := b.provider.Submit(ctx, txn.Call{
		Request: &txn.Request{Operation: txn.PrepaidResetPIN, Fields: fields, Reference: ref, Step: 1},
		Attempt: txn.Attempt{Step: 1, Serial: uint64(b.serial), Began: time.Now()},
		Secret:  secret.Clone([]byte(pin)),
	})
	require.NotContains(t, b.logged.String(), pin)
	require.NotContains(t, fmt.Sprintf("%+v", a), pin)
	return a, ref
}

func (b *bench) requireOneReset(t *testing.T, ref string) {
	t.Helper()
	effects := b.platform.Effects()
	require.Len(t, effects, 1)
	require.Equal(t, ref, effects[0].Identity)
	require.Equal(t, 1, effects[0].Count)
	require.Equal(t, "IN00001201001868", effects[0].Subject)
	require.Equal(t, upstream.PINDigest(salt, []byte(pin)), effects[0].PINDigest)
}

func TestPlatformResetsThePIN(t *testing.T) {
	for name, change := range map[string]func(*upstream.PrepaidConfig, *prepaid.Config){
		"defaults":  nil,
		"suffix":    func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.IVMode, c.IV = "suffix", prepaid.IVSuffix },
		"zero":      func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.IVMode, c.IV = "zero", prepaid.IVZero },
		"urn text":  func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.URNAs, c.URNAsNumber = "string", false },
		"result":    func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.AnswerField, c.AnswerField = "result", "result" },
		"code 0":    func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.SuccessCode = "0" },
		"code 201":  func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.SuccessCode = "201" },
		"zone":      func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.Zone, c.Zone = "Asia/Jakarta", "Asia/Jakarta" },
		"consumer":  func(u *upstream.PrepaidConfig, c *prepaid.Config) { u.ConsumerCustomID, c.ConsumerCustomID = "k", "k" },
		"short ids": func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.ClientTxnIDMax = 14 },
		"static": func(u *upstream.PrepaidConfig, c *prepaid.Config) {
			u.IVMode, c.IV = "static", prepaid.IVStatic
			u.StaticIV, c.StaticIV = "000102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0f"
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, change)
			require.NoError(t, b.provider.Probe(t.Context()))
			a, ref := b.submit(t, card())
			require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
			require.Equal(t, 200, a.HTTPStatus)
			require.NotEmpty(t, a.Data[prepaid.DataRefNo])
			require.NotEmpty(t, a.Data[prepaid.DataTxnNumber])
			b.requireOneReset(t, ref)
			require.Empty(t, b.platform.Violations())
			require.Empty(t, b.logged.String())
		})
	}
}

func TestPlatformKnowsNoSuchCard(t *testing.T) {
	for _, plain := range []bool{false, true} {
		b := newBench(t, func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.PlainErrors = plain })
		for _, field := range []string{"urn", "last4Digits", "customerId"} {
			wrong := card()
			wrong[field] = wrong[field][:len(wrong[field])-1] + "3"
			a, _ := b.submit(t, wrong)
			require.Equal(t, txn.WasRejected, a.Outcome, "%s: %+v", field, a)
			require.Equal(t, txn.ReasonNotFound, a.Reason)
			require.Equal(t, "1001", a.Code)
		}
		require.Empty(t, b.platform.Effects())
		require.Empty(t, b.platform.Violations())
	}
}

func TestPlatformMisbehaves(t *testing.T) {
	// Here the HTTP status says no and the body says "00"; how a body without that
	// code is read stands in TestAnswers.
	const contradictory = txn.ReasonUnreadable
	yes, no := true, false
	for name, tt := range map[string]struct {
		fault   upstream.Fault
		outcome txn.Outcome
		reason  txn.Reason
		effect  bool // the PIN was reset, whatever was answered
	}{
		"down":                         {upstream.Fault{Kind: upstream.KindDown}, txn.NotSent, txn.ReasonLinkDown, false},
		"untrusted":                    {upstream.Fault{Kind: upstream.KindTLSBroken, Times: 1}, txn.NotSent, txn.ReasonLinkUntrusted, false},
		"slow":                         {upstream.Fault{Kind: upstream.KindSlow, DelayMS: 50, Times: 1}, txn.HasSucceeded, "", true},
		"broken in the header":         {upstream.Fault{Kind: upstream.KindBreakAtByte, Byte: 20, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, false},
		"broken before the effect":     {upstream.Fault{Kind: upstream.KindBreakBeforeEffect, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, false},
		"broken after the effect":      {upstream.Fault{Kind: upstream.KindBreakAfterEffect, RST: true, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, true},
		"silent":                       {upstream.Fault{Kind: upstream.KindHang, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, false},
		"silent after the effect":      {upstream.Fault{Kind: upstream.KindHang, Effect: &yes, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, true},
		"garbage":                      {upstream.Fault{Kind: upstream.KindGarbage, Times: 1}, txn.Unknown, txn.ReasonUnreadable, true},
		"garbage without effect":       {upstream.Fault{Kind: upstream.KindGarbage, Effect: &no, Times: 1}, txn.Unknown, txn.ReasonUnreadable, false},
		"truncated":                    {upstream.Fault{Kind: upstream.KindTruncated, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, true},
		"endless":                      {upstream.Fault{Kind: upstream.KindHuge, Times: 1}, txn.Unknown, txn.ReasonNoAnswer, true},
		"another's answer":             {upstream.Fault{Kind: upstream.KindWrongEcho, Times: 1}, txn.Unknown, txn.ReasonEchoMismatch, true},
		"redirect":                     {upstream.Fault{Kind: upstream.KindRedirect, Times: 1}, txn.Unknown, contradictory, false},
		"throttled":                    {upstream.Fault{Kind: upstream.KindThrottle, Times: 1}, txn.Unknown, contradictory, false},
		"401":                          {upstream.Fault{Kind: upstream.KindStatus, Status: 401, Times: 1}, txn.WasRejected, txn.ReasonMisconfigured, false},
		"403":                          {upstream.Fault{Kind: upstream.KindStatus, Status: 403, Times: 1}, txn.WasRejected, txn.ReasonMisconfigured, false},
		"503":                          {upstream.Fault{Kind: upstream.KindStatus, Status: 503, Times: 1}, txn.Unknown, txn.ReasonServerError, false},
		"500 after the effect":         {upstream.Fault{Kind: upstream.KindAnswerAfterEffect, Status: 500, Times: 1}, txn.Unknown, txn.ReasonServerError, true},
		"profile mismatch":             {upstream.Fault{Kind: upstream.KindStatus, Status: 200, Code: "1309", Times: 1}, txn.WasRejected, txn.ReasonRefused, false},
		"unlisted code after effect":   {upstream.Fault{Kind: upstream.KindAnswerAfterEffect, Status: 200, Code: "77", Times: 1}, txn.Unknown, txn.ReasonUnlisted, true},
		"settings refused by platform": {upstream.Fault{Kind: upstream.KindStatus, Status: 200, Code: "1049", Times: 1}, txn.WasRejected, txn.ReasonMisconfigured, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			tt.fault.Provider = upstream.Prepaid
			_, err := b.platform.Inject(tt.fault)
			require.NoError(t, err)
			a, ref := b.submit(t, card())
			require.Equal(t, tt.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tt.reason, a.Reason)
			if tt.effect {
				b.requireOneReset(t, ref)
			} else {
				require.Empty(t, b.platform.Effects())
			}
			require.Empty(t, b.platform.Violations())
			requests := 0
			for _, e := range b.platform.Ledger(upstream.LedgerFilter{Provider: upstream.Prepaid}) {
				if e.Stage != upstream.StageConnected {
					requests++
				}
			}
			require.LessOrEqual(t, requests, 1, "one call, never a second")
		})
	}
}

func TestPlatformIsUnreachableForTheProbe(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.platform.Inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindTLSBroken, Times: 1})
	require.NoError(t, err)
	var pe *txn.ProbeError
	require.ErrorAs(t, b.provider.Probe(t.Context()), &pe)
	require.Equal(t, txn.ReasonLinkUntrusted, pe.Reason)

	_, err = b.platform.Inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindDown})
	require.NoError(t, err)
	require.Error(t, b.provider.Probe(t.Context()))
}

func TestPlatformRefusesOurSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*upstream.PrepaidConfig, *prepaid.Config)
		code   string
	}{
		"api key":     {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.APIKey = "other" }, ""},
		"secure code": {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.SecureCode = "other" }, "1049"},
		"client":      {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.ClientID = "2001" }, "1032"},
		"bank":        {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.BankID = "7001" }, "1031"},
		"consumer":    {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.ConsumerCustomID = "kiosk" }, ""},
		"envelope":    {func(u *upstream.PrepaidConfig, _ *prepaid.Config) { u.IVMode = "suffix" }, "1030"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tt.change)
			a, _ := b.submit(t, card())
			require.Equal(t, txn.WasRejected, a.Outcome, "%+v", a)
			require.Equal(t, txn.ReasonMisconfigured, a.Reason)
			require.Equal(t, tt.code, a.Code)
			require.NotEmpty(t, a.Alarm)
			require.Empty(t, b.platform.Effects())
		})
	}
}

func TestPlatformVerifiesTheCardholder(t *testing.T) {
	b := newBench(t, func(u *upstream.PrepaidConfig, c *prepaid.Config) {
		u.VerifyCardholder = &upstream.VerifyConfig{}
		c.Verification, c.VerifyMessageCode, c.VerifyAnswerMessageCode = prepaid.VerifyByCardholder, "1130", "1131"
	})
	require.Equal(t, txn.VerdictOK, b.provider.Verify(t.Context(), card()).Verdict)
	wrong := card()
	wrong["last4Digits"] = "1746"
	v := b.provider.Verify(t.Context(), wrong)
	require.Equal(t, txn.VerdictMismatch, v.Verdict)
	require.Equal(t, txn.ReasonNotFound, v.Reason)
	require.Equal(t, "1001", v.Code)

	_, err := b.platform.Inject(upstream.Fault{Provider: upstream.Prepaid, Kind: upstream.KindBreakAfterEffect, Times: 1})
	require.NoError(t, err)
	require.Equal(t, txn.VerdictUnknown, b.provider.Verify(t.Context(), card()).Verdict)
	require.Empty(t, b.platform.Effects())
	require.Empty(t, b.platform.Violations())
}
