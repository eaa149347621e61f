//go:build e2e

package e2e_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: what authenticators compute (RFC 6238)
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/cmd/demo/stage"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// authenticator is what an operator's phone computes from the code it scanned: RFC
// 6238, written here a second time so that the agent's own is not held against itself.
func authenticator(t *testing.T, uri string, at time.Time) string {
	t.Helper()
	u, err := url.Parse(uri)
	require.NoError(t, err)
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	require.NoError(t, err)
	mac := hmac.New(sha1.New, seed)
	require.NoError(t, binary.Write(mac, binary.BigEndian, at.Unix()/30))
	sum := mac.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[19]&15:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000)
}

// TestWholeChain is the product as a branch has it, every part the real one: the
// programs gardu and sandbox, a token, a journal, TLS between them, Chromium before
// them. Customers are served, an answer is lost, the agent is killed under the
// screen, and an operator with an authenticator settles what nobody knows.
func TestWholeChain(t *testing.T) {
	const operator, pin = "7001", "837261504962"
	t.Chdir("../../..") // where the programs are built
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	s, err := stage.SetUp(ctx, dir, stage.Plan{
		Delivery: stage.Delivery{RetryBase: "200ms", RetryMax: "1s", ReadBase: "300ms", ReadMax: "1s", Quiet: "3s", Unresolved: "5s", Probe: "1s", Call: "10s"},
		PINMax:   12, Say: t.Logf,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(stage.RuntimeDir(dir))) })

	// An operator is let in before the agent starts.
	config, err := os.ReadFile(s.Path("gardu.toml"))
	require.NoError(t, err)
	named := strings.Replace(string(config), "[screen]\n", fmt.Sprintf("[screen]\noperators_file = %q\n", s.Path("operators.toml")), 1)
	require.NotEqual(t, string(config), named)
	require.NoError(t, os.WriteFile(s.Path("gardu.toml"), []byte(named), 0o600))
	var made struct {
		URI string `json:"uri"`
	}
	out, err := s.Gardu(ctx, "", "ui", "operator", "add", operator, "--json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &made))

	p, err := s.Start(ctx)
	require.NoError(t, err)
	t.Cleanup(p.Stop)
	k := &kiosk{t: t, layout: layouts[0], lang: ui.Indonesian}
	k.tab(browser(t))
	ticket, err := s.Ticket(ctx)
	require.NoError(t, err)
	require.NoError(t, chromedp.Do(k.ctx, chromedp.Navigate(ticket)))
	up := s.Platforms()
	happened := func(times int, op txn.Operation, subject string) {
		t.Helper()
		n, err := up.Count(ctx, string(op), subject)
		require.NoError(t, err)
		require.Equal(t, times, n, "%s happened to %s", op, subject)
	}
	work := func(l ui.Lang, op txn.Operation) {
		t.Helper()
		k.start(l, op)
		k.identify(op)
		if op == txn.PrepaidResetPIN {
			for _, step := range []struct {
				at    ui.State
				typed string
			}{{ui.Verify, s.StaffCode}, {ui.PIN, pin}, {ui.PINAgain, pin}} {
				k.at(step.at)
				k.pin(step.typed)
			}
		}
		k.at(ui.Review)
		k.tap("do-confirm")
	}

	work(ui.Indonesian, txn.FinpayResetPIN)
	k.at(ui.Done)
	happened(1, txn.FinpayResetPIN, stage.Customer)
	k.tap("do-receipt")
	k.at(ui.Receipt)
	k.wait("the receipt's code", `!!document.querySelector('.receipt .qr path')`)
	k.leave()

	work(ui.English, txn.PrepaidResetPIN)
	k.at(ui.Done)
	sum, arrived := sha256.Sum256([]byte(s.PINSalt+pin)), 0
	effects, err := up.Effects(ctx)
	require.NoError(t, err)
	for _, e := range effects {
		if e.PINDigest == hex.EncodeToString(sum[:]) {
			arrived += e.Count
		}
	}
	require.Equal(t, 1, arrived, "the platform has the very PIN that was touched here")
	require.NotContains(t, js[string](k, `document.documentElement.outerHTML`), pin)
	k.leave()

	// Killed while a customer types, and started again: the page comes back by itself.
	k.start(ui.English, txn.PrepaidResetPIN)
	k.identify(txn.PrepaidResetPIN)
	k.at(ui.Verify)
	history := k.historyLength()
	p.KillAgent()
	require.NoError(t, p.StartAgent(ctx))
	k.waitFor(40*time.Second, "the welcome screen of the new agent", `document.querySelector('main')?.dataset.state === 'ATTRACT' && document.documentElement.lang === 'id'`)
	require.Equal(t, history, k.historyLength())

	// The answer is lost where nobody can be asked: in doubt, in the end unresolved.
	require.NoError(t, up.Fault(ctx, stage.Fault{Provider: "finpay", Kind: "break_after_effect", Times: 1}))
	work(ui.Indonesian, txn.FinpayResetPIN)
	k.at(ui.Pending)
	require.Zero(t, js[int](k, `document.querySelectorAll('[data-focus="do-cancel"]').length`))
	k.tap("do-wait")
	k.at(ui.Unresolved)
	happened(2, txn.FinpayResetPIN, stage.Customer) // the first one's, and this one's once
	number := js[string](k, `document.querySelector('gardu-app').docs.session.reference`)
	k.leave()

	// An operator settles it, with the code of the moment.
	k.toOperator()
	k.keys(operator)
	k.tap("do-send")
	k.pads = nil // another button came, and the pad moved up
	k.keys(authenticator(t, made.URI, time.Now()))
	k.tap("do-send")
	k.at(ui.OpHome)
	k.wait("the first look", `!!document.querySelector('.operator-facts')`)
	k.tap("do-op_queue")
	k.at(ui.OpQueue)
	k.tap("op-" + number)
	k.at(ui.OpRequest)
	k.tap("act-succeeded")
	k.tap("evidence-portal")
	k.keys("T-4711")
	k.tap("do-op_act")
	k.wait("it was done", `!!document.querySelector('.notice')`)
	require.NotContains(t, js[string](k, `document.documentElement.outerHTML + JSON.stringify(document.querySelector('gardu-app').docs)`), stage.Customer[6:], "nothing of the customer")
	k.tap("do-op_exit")
	k.at(ui.OpExit)
	k.at(ui.Attract)

	rows, err := s.Queue(ctx)
	require.NoError(t, err)
	states := map[string]string{}
	for _, r := range rows {
		states[ui.ShortReference(r.ID)] = r.State
	}
	require.Equal(t, "succeeded", states[number])
	require.Len(t, rows, 3)
	book, err := os.ReadFile(s.Path("state", "audit.log"))
	require.NoError(t, err)
	for _, want := range []string{`"act":"operator.login"`, `"who":"operator ` + operator + `"`, "T-4711"} {
		require.Contains(t, string(book), want)
	}
	require.NoError(t, s.AuditUnbroken(ctx))
	violations, err := up.Violations(ctx)
	require.NoError(t, err)
	require.Empty(t, violations)
	log, err := os.ReadFile(s.Path("log", "gardu.log"))
	require.NoError(t, err)
	require.NoError(t, stage.NewNeedles(pin, s.StaffCode).Find("the log", log))
	require.Empty(t, strings.Join(filter(filter(k.said(), "WebSocket"), "ERR_CONNECTION_REFUSED"), "\n"), "nothing but the browser's own word for the agent that was gone")
}
