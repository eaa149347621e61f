package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

// startSandbox plays Finpay and the prepaid platform for a kiosk whose public key is
// in a file: sandbox PUBLIC.PEM. It sets FINPAY, PREPAID and CA.
func startSandbox(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sandbox PUBLIC.PEM")
	}
	s, err := upstream.New(upstream.Config{
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
	require.Equal(t, 30*24*time.Hour, certificateSoon)
}
