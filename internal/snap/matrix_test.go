package snap_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// TestSandboxTakesEverySignature: both modes, both encodings, the query signed and
// not, on a path with a query, against the sandbox's own reading of the standard.
// With one setting wrong it refuses, so that the test could fail.
func TestSandboxTakesEverySignature(t *testing.T) {
	for _, mode := range []string{snap.Symmetric, snap.Asymmetric} {
		for _, encoding := range []string{snap.Base64, snap.Hex} {
			for _, query := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s query %t", mode, encoding, query), func(t *testing.T) {
					signs := query
					b := newBench(t, func(c *upstream.Config) {
						p := &c.Finpay.Partners[0]
						p.Mode, p.SignatureEncoding, p.SignQuery = mode, encoding, &signs
					})
					ca := filepath.Join(t.TempDir(), "ca.pem")
					require.NoError(t, os.WriteFile(ca, b.CA(), 0o600))
					client, err := wire.New(patient(ca))
					require.NoError(t, err)
					t.Cleanup(client.Close)
					submit := func(change func(*snap.FinpayConfig)) txn.Answer {
						c := snap.FinpayDefaults()
						c.BaseURL, c.ClientID, c.ChannelID, c.Origin, c.MerchantID = "https://"+b.Addr(upstream.Finpay), clientID, "95221", "www.bank.example", merchant
						c.Mode, c.SignatureEncoding, c.SignQuery = mode, encoding, query
						c.ResetPIN.Path = "/v1.0/pin/reset?lang=id&v=1%2F2"
						change(&c)
						f, err := snap.NewFinpay(c, snap.Keys{Token: benchKey(), Secret: softMAC(clientKey)}, client, slog.New(slog.DiscardHandler), nil)
						require.NoError(t, err)
						r := b.request(txn.FinpayResetPIN, phone)
						at := txn.Attempt{Step: 1, Serial: b.serial.Add(1)}
						at.ExternalID = txn.Identity{Kiosk: 12, Salt: 3456}.ExternalID(at.Serial)
						return f.Submit(t.Context(), txn.Call{Request: r, Attempt: at, NewExternalID: b.id})
					}
					a := submit(func(*snap.FinpayConfig) {})
					require.Equal(t, txn.HasSucceeded, a.Outcome, "%+v", a)
					b.clean(t)
					for name, wrong := range map[string]func(*snap.FinpayConfig){
						"mode": func(c *snap.FinpayConfig) {
							c.Mode = map[string]string{snap.Symmetric: snap.Asymmetric, snap.Asymmetric: snap.Symmetric}[mode]
						},
						"encoding": func(c *snap.FinpayConfig) {
							c.SignatureEncoding = map[string]string{snap.Base64: snap.Hex, snap.Hex: snap.Base64}[encoding]
						},
						"query": func(c *snap.FinpayConfig) { c.SignQuery = !query },
					} {
						a := submit(wrong)
						require.Equal(t, txn.NotSent, a.Outcome, "%s: %+v", name, a)
						require.True(t, a.Hold, name)
					}
				})
			}
		}
	}
}
