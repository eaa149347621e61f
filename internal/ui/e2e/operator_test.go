//go:build e2e

package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

const operatorID, operatorCode = "70010042", "626262"

// corner touches the beginning of the head n times.
func (k *kiosk) corner(n int) {
	k.t.Helper()
	for range n {
		require.NoError(k.t, chromedp.Do(k.ctx, chromedp.TapXY(12, 12)))
	}
}

// toOperator touches the corner five times, again where a busy machine was too slow
// for the three seconds that they may take.
func (k *kiosk) toOperator() {
	k.t.Helper()
	for range 10 {
		k.corner(5)
		deadline := time.Now().Add(4 * time.Second)
		for time.Now().Before(deadline) {
			if js[string](k, `document.querySelector('main').dataset.state`) == string(ui.OpLogin) {
				k.at(ui.OpLogin)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	k.t.Fatal("five touches in the corner lead nowhere")
}

func TestOperatorScreen(t *testing.T) {
	for _, l := range layouts {
		if testing.Short() && l.name != "portrait" {
			continue
		}
		for _, lang := range languages {
			t.Run(l.name+"/"+string(lang), func(t *testing.T) {
				operator := uitest.NewOperator(operatorID, operatorCode)
				operator.Set(func(v *ui.OperatorView) {
					v.Counts = map[txn.State]int{txn.Queued: 6, txn.Sending: 1, txn.InDoubt: 1, txn.Unresolved: 1, txn.Succeeded: 212}
					for i, r := range []ui.OperatorRow{
						{State: txn.Unresolved, Operation: txn.FinpayUnbind, Reason: txn.ReasonNoReadback, Sent: true}, {State: txn.InDoubt, Operation: txn.FinpayBind, Reason: txn.ReasonNoAnswer, Sent: true},
						{State: "unreadable"}, {State: txn.Queued, Operation: txn.PrepaidResetPIN, Reason: txn.ReasonLinkDown}, {State: txn.Queued, Operation: txn.NetzmeForgotPIN}, {State: txn.Sending, Operation: txn.FinpayBind, Sent: true},
					} {
						r.ID, r.Created = fmt.Sprintf("AAAABBBBCCCC000%d", i), time.Now().Add(-time.Duration(i)*17*time.Minute)
						v.Rows = append(v.Rows, r)
					}
				})
				k := newKiosk(t, browser(t), l, func(o *ui.Options) {
					short(o)
					o.Operator = operator
					o.Timeouts.Screens[ui.OpExit] = 8 * time.Second // long enough for its picture, also where a machine is busy
				})
				k.layout.capitals = 4 // tables for those who look after the machine, not for customers
				k.examine()
				k.load()
				k.at(ui.Attract)
				pages := k.historyLength()
				k.speak(lang)
				k.corner(4)
				require.Equal(t, string(ui.Attract), js[string](k, `document.querySelector('main').dataset.state`), "four are too few")
				k.toOperator()
				k.shot("60-op-login")
				k.keys(operatorID)
				k.tap("do-send")
				k.pads = nil // another button came, and the pad moved up
				k.keys("111111")
				k.shot("60-op-login-code")
				k.tap("do-send")
				k.wait("the refusal", `!!document.querySelector('.notice')`)
				k.shot("60-op-login-wrong")
				k.tap("do-kind")
				k.pads = nil
				k.shot("60-op-login-letters")
				k.tap("do-kind")
				k.pads = nil
				k.keys(operatorCode)
				k.tap("do-send")
				k.at(ui.OpHome)
				k.wait("the first look", `!!document.querySelector('.operator-facts')`)
				k.engine.Trouble(txn.Link{Provider: "finpay", Known: true, Held: true, Reason: txn.ReasonAuthRefused, NextTry: time.Now().Add(10 * time.Minute)})
				k.wait("the trouble", `!!document.querySelector('.fact.bad')`)
				k.shot("61-op-home")
				k.tap("do-op_queue")
				k.at(ui.OpQueue)
				k.shot("62-op-queue")
				k.tap("do-next")
				k.wait("the second page", `document.querySelectorAll('.card').length === 2`)
				k.tap("do-last")
				k.wait("the first page", `document.querySelectorAll('.card').length === 4`)
				k.tap("op-CCCC-0000")
				k.at(ui.OpRequest)
				k.shot("63-op-request")
				k.tap("act-rejected")
				k.shot("63-op-request-evidence")
				k.tap("evidence-portal")
				k.keys("T-4711")
				k.shot("63-op-request-note")
				k.tap("do-op_act")
				k.wait("it was done", `!!document.querySelector('.notice')`)
				k.shot("63-op-request-done")
				require.Contains(t, operator.Log(), "resolve AAAABBBBCCCC0000 by "+operatorID+": Seen in the provider's portal; T-4711")
				k.tap("do-back")
				k.at(ui.OpQueue)
				k.tap("do-back")
				k.at(ui.OpHome)
				k.tap("do-op_test")
				k.at(ui.OpTest)
				k.shot("64-op-test")
				require.Greater(t, js[float64](k, `document.querySelector('.test-grid').getBoundingClientRect().height / innerHeight`), 0.35, "the fields cover what the screens use")
				for n := range 32 {
					k.tap(fmt.Sprintf("field-%d", n))
				}
				k.wait("every field", `document.querySelectorAll('.test-field[aria-pressed=true]').length === 32`)
				k.tap("do-sound")
				k.tap("do-back")
				k.at(ui.OpHome)
				k.tap("do-op_drain")
				k.at(ui.OpDrain)
				k.shot("65-op-drain")
				k.tap("do-op_close")
				k.wait("it is stopped", `!!document.querySelector('[data-focus="do-op_serve"]')`)
				k.shot("65-op-drain-stopped")
				k.tap("do-op_serve")
				k.wait("it serves", `!!document.querySelector('[data-focus="do-op_close"]')`)
				k.tap("do-back")
				k.at(ui.OpHome)
				operator.Set(func(v *ui.OperatorView) { v.Rows = nil })
				k.tap("do-op_queue")
				k.at(ui.OpQueue)
				k.wait("an empty queue", `document.querySelectorAll('.card').length === 0`)
				require.Contains(t, js[string](k, `document.querySelector('.stage').innerText`), map[ui.Lang]string{ui.Indonesian: "Tidak ada yang menunggu", ui.English: "Nothing is waiting"}[lang])
				k.shot("62-op-queue-empty")
				k.tap("do-op_exit")
				k.at(ui.OpExit)
				k.shot("66-op-exit")
				k.at(ui.Attract)
				k.wait("nothing of the operator", fmt.Sprintf(`!document.documentElement.outerHTML.includes(%q) && !document.querySelector('gardu-app').docs.operator`, operatorID))
				require.Equal(t, pages, k.historyLength())
				k.quietConsole()
			})
		}
	}
}
