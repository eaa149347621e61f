package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/keystore"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// startSandbox plays Finpay and the prepaid platform for a kiosk whose public key is
// in a file: sandbox PUBLIC.PEM [CLIENT-CA.PEM]. With the second file only clients
// with a certificate from there get in. It sets FINPAY, PREPAID and CA.
func startSandbox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: sandbox PUBLIC.PEM [CLIENT-CA.PEM]")
	}
	clients := ""
	if len(args) == 2 {
		clients = ts.MkAbs(args[1])
	}
	s, err := upstream.New(upstream.Config{
		TLS: upstream.TLSConfig{ClientCAFile: clients},
		Finpay: &upstream.FinpayConfig{MerchantID: "m", AnyCustomer: true, Page: "tls", SNAPConfig: upstream.SNAPConfig{
			Partners: []upstream.Partner{{ClientID: "c", ClientSecret: "myclientsecret-of-24-byt", PublicKey: ts.ReadFile(args[0])}},
		}},
		Prepaid: &upstream.PrepaidConfig{Key: strings.Repeat("0123456789abcdef", 3), APIKey: "key", ClientID: "2000", BankID: "7000", SecureCode: "code", AnyCard: true},
	})
	ts.Check(err)
	ts.Check(s.Start(context.Background()))
	ts.Defer(func() {
		if n := len(s.Effects()); n > 0 {
			ts.Fatalf("a check had %d effects on customers", n)
		}
		ts.Check(s.Close())
	})
	ts.Setenv("FINPAY", s.URL(upstream.Finpay))
	ts.Setenv("PREPAID", s.URL(upstream.Prepaid))
	ca := ts.MkAbs("ca.pem")
	ts.Check(os.WriteFile(ca, s.CA(), 0o600))
	ts.Setenv("CA", ca)
}

func TestTheVerdictOfManyLines(t *testing.T) {
	for _, c := range []struct {
		name  string
		codes []int
		want  int
	}{
		{"nothing failed", nil, exitDone},
		{"network alone", []int{exitNetwork, exitNetwork}, exitNetwork},
		{"network and something else", []int{exitNetwork, exitFailed}, exitFailed},
		{"the token counts most", []int{exitFailed, exitToken, exitNetwork}, exitToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &preflight{a: &app{out: new(bytes.Buffer)}}
			p.ok("a", "is right")
			p.warn("b", "is odd", "look at it")
			p.skip("c", "not reached")
			for _, code := range c.codes {
				p.fail(code, "d", "is wrong", "mend it")
			}
			err := p.verdict()
			if c.want == exitDone {
				require.NoError(t, err)
				return
			}
			var ce *codeError
			require.ErrorAs(t, err, &ce)
			require.Equal(t, c.want, ce.code)
		})
	}
}

func TestALineIsOneLine(t *testing.T) {
	var out bytes.Buffer
	p := &preflight{a: &app{out: &out}}
	p.failed(exitFailed, "module", errors.New("the driver says:\n\tno such\nslot"))
	p.warn("clock", "is apart", "set it")
	require.Equal(t, "FAIL  module                       the driver says: no such slot\n"+
		"warn  clock                        is apart; set it\n", out.String())
}

func TestWhereAFolderWillBe(t *testing.T) {
	dir := t.TempDir()
	at, there := nearest(dir)
	require.True(t, there)
	require.Equal(t, dir, at)
	at, there = nearest(filepath.Join(dir, "a", "b"))
	require.False(t, there)
	require.Equal(t, dir, at)

	var out bytes.Buffer
	p := &preflight{a: &app{out: &out}}
	p.folder("f", "audit.path", filepath.Join(dir, "a"))
	p.folder("f", "audit.path", dir)
	require.Contains(t, out.String(), "will be made when the agent starts")
	require.Contains(t, out.String(), "can be written")
	p.room(dir)
	require.Contains(t, out.String(), "MB free")
}

func TestTheCheckOpensACopyOfTheJournal(t *testing.T) {
	from := filepath.Join(t.TempDir(), "j")
	require.NoError(t, os.WriteFile(from, []byte("x"), 0o600))
	require.False(t, busy(from))
	to := from + ".copy"
	require.NoError(t, copyFile(from, to))
	b, err := os.ReadFile(to) //nolint:gosec // the test's own file
	require.NoError(t, err)
	require.Equal(t, "x", string(b))
	require.Error(t, copyFile(from, to), "nothing is written over")
	require.ErrorIs(t, copyFile(from+"none", to+"2"), os.ErrNotExist)
}

func TestCertificatesThatEndSoon(t *testing.T) {
	for _, c := range []struct {
		name string
		left time.Duration
		want string
	}{
		{"a year", 365 * 24 * time.Hour, "ok    certificate x"},
		{"a month and a day", 31*24*time.Hour + time.Hour, "ok    certificate x"},
		{"less than a month", 29 * 24 * time.Hour, "warn  certificate x"},
		{"over", -time.Hour, "FAIL  certificate x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			p := &preflight{a: &app{out: &out}}
			p.certificate("certificate x", "x", &wire.Examination{Chain: []*x509.Certificate{
				{Subject: pkix.Name{CommonName: "leaf"}, NotAfter: time.Now().Add(c.left)},
				{Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour)},
			}})
			require.Contains(t, out.String(), c.want)
			require.Contains(t, out.String(), `"leaf"`)
		})
	}
}

func TestACertificateThatHasNotBegun(t *testing.T) {
	var out bytes.Buffer
	p := &preflight{a: &app{out: &out}}
	p.certificate("certificate x", "x", &wire.Examination{Chain: []*x509.Certificate{
		{Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().AddDate(0, 0, 2), NotAfter: time.Now().AddDate(1, 0, 0)},
		{Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(9, 0, 0)},
	}})
	require.Contains(t, out.String(), `FAIL  certificate x                "leaf" begins on `)
	require.Contains(t, out.String(), "set this machine's date and time")
	require.Equal(t, exitFailed, p.all[0].code, "that does not mend itself with the line")
}

// toldTime is a provider whose clock is apart, and whose access may be refused: errs
// are what one probe after the other comes to.
type toldTime struct {
	apart time.Duration
	known bool
	errs  []error
}

func (*toldTime) Submit(context.Context, txn.Call) txn.Answer { return txn.Answer{} }
func (p *toldTime) Time() (time.Time, bool)                   { return time.Now().Add(p.apart), p.known }

func (p *toldTime) Probe(context.Context) (err error) {
	if len(p.errs) > 0 {
		err, p.errs = p.errs[0], p.errs[1:]
	}
	return err
}

func TestAccessAndClockOfAProvider(t *testing.T) {
	failed := func(reasons ...txn.Reason) (all []error) {
		for _, r := range reasons {
			all = append(all, &txn.ProbeError{Reason: r, Err: errors.New("4017300 no")})
		}
		return all
	}
	for _, c := range []struct {
		name  string
		built txn.Provider
		want  []string
	}{
		{"right", &toldTime{0, true, nil}, []string{"ok    access token finpay", "ok    clock finpay"}},
		{"behind", &toldTime{4 * time.Minute, true, nil}, []string{"warn  clock finpay", "4m0s apart", "time service", "the agent corrects"}},
		{"ahead", &toldTime{-2 * time.Hour, true, nil}, []string{"warn  clock finpay", "2h0m0s apart"}},
		{"corrected", &toldTime{-2 * time.Hour, true, failed(txn.ReasonClockCorrected)}, []string{"ok    access token finpay", "warn  clock finpay", "the agent corrects"}},
		{"corrected, and refused all the same", &toldTime{-2 * time.Hour, true, failed(txn.ReasonClockCorrected, txn.ReasonAuthRefused)},
			[]string{"FAIL  access token finpay", "warn  clock finpay"}},
		{"too far to be corrected", &toldTime{90 * time.Hour, true, failed(txn.ReasonAuthRefused)},
			[]string{"FAIL  access token finpay", "FAIL  clock finpay", "90h0m0s apart", "set this machine's date and time"}},
		{"refused", &toldTime{0, true, failed(txn.ReasonAuthRefused)}, []string{"FAIL  access token finpay", "not given: 4017300 no; compare client id", "ok    clock"}},
		{"throttled", &toldTime{0, true, failed(txn.ReasonThrottled)}, []string{"FAIL  access token finpay", "wait some minutes"}},
		{"token away", &toldTime{0, true, failed(txn.ReasonKeystore)}, []string{"FAIL  access token finpay", "the lines above"}},
		{"not the platform", &toldTime{0, true, failed(txn.ReasonLinkDown)}, []string{"FAIL  access token finpay", "no word on our signature", "token_path"}},
		{"silent", &toldTime{0, false, failed(txn.ReasonLinkDown)}, []string{"skip  clock finpay"}},
		{"not built", nil, []string{"skip  access token finpay", "no key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			p := &preflight{a: &app{out: &out}}
			p.access(t.Context(), builtProvider{provider: provider{"finpay", newFinpaySettings()}, built: c.built, why: "no key"})
			for _, want := range c.want {
				require.Contains(t, out.String(), want)
			}
		})
	}
}

// TestAReleaseIsNotToBlameForATokenThatIsAway: an update may be what mends it.
func TestAReleaseIsNotToBlameForATokenThatIsAway(t *testing.T) {
	for _, self := range []bool{false, true} {
		p := &preflight{a: &app{out: new(bytes.Buffer)}, self: self}
		p.tokenFailed(fmt.Errorf("open: %w", keystore.ErrTokenAbsent))
		require.Equal(t, self, p.verdict() == nil)
		p = &preflight{a: &app{out: new(bytes.Buffer)}, self: self}
		p.tokenFailed(fmt.Errorf("open: %w", keystore.ErrModule))
		require.Error(t, p.verdict(), "a driver that does not load is the program's to judge")
	}
}
