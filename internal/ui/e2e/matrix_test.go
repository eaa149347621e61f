//go:build e2e

package e2e_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

var operations = []txn.Operation{txn.FinpayResetPIN, txn.FinpayBind, txn.FinpayUnbind, txn.NetzmeForgotPIN, txn.PrepaidResetPIN}

var providers = map[txn.Operation]string{
	txn.FinpayResetPIN: "finpay", txn.FinpayBind: "finpay", txn.FinpayUnbind: "finpay", txn.NetzmeForgotPIN: "netzme", txn.PrepaidResetPIN: "prepaid",
}

// ways are how a request may go, as a customer lives through it.
var ways = []struct {
	name string
	walk func(*kiosk, ui.Lang, txn.Operation)
}{
	{"online", (*kiosk).online},
	{"offline then back", (*kiosk).offlineThenBack},
	{"in doubt", (*kiosk).inDoubt},
	{"refused", (*kiosk).refused},
}

// TestMatrix walks every operation in both languages through every way, by touch.
func TestMatrix(t *testing.T) {
	for _, l := range layouts {
		if testing.Short() && l.name != "terminal" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			k := newKiosk(t, browser(t), l, short)
			k.load()
			walks := 0
			for _, op := range operations {
				for _, lang := range languages {
					for _, way := range ways {
						k.at(ui.Attract)
						way.walk(k, lang, op)
						walks++
					}
				}
			}
			require.Equal(t, len(operations)*2*4, walks)
			k.quietConsole()
		})
	}
}

// succeed goes on from the first sending to the provider's yes, with what the operation asks of the customer meanwhile.
func (k *kiosk) succeed(id string, op txn.Operation) {
	k.t.Helper()
	switch op {
	case txn.FinpayBind:
		k.engine.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
			txn.DataLinkURL: "https://webview.finnet.example/verify?linkageToken=eyJ0eXAi", txn.DataLinkDomain: "webview.finnet.example",
		}))
		k.at(ui.BindQR)
	case txn.FinpayUnbind:
		k.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
		k.at(ui.OTP)
		k.pin("696969")
		k.at(ui.Working)
		k.engine.Move(id, uitest.Send)
	case txn.FinpayResetPIN, txn.NetzmeForgotPIN, txn.PrepaidResetPIN: // one call is all
	}
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
}

func (k *kiosk) online(l ui.Lang, op txn.Operation) {
	k.succeed(k.send(l, op), op)
	k.tap("do-receipt")
	k.at(ui.Receipt)
	k.wait("the receipt's code", `!!document.querySelector('.receipt .qr path')`)
	k.leave()
}

func (k *kiosk) offlineThenBack(l ui.Lang, op txn.Operation) {
	provider := providers[op]
	if op == txn.PrepaidResetPIN { // may not wait: it is refused before a PIN is typed, and possible again later
		k.start(l, op)
		k.engine.SetLink(provider, false)
		k.identify(op)
		k.at(ui.Fail)
		require.Contains(k.t, js[string](k, `document.querySelector('main').innerText`), map[ui.Lang]string{ui.Indonesian: "Tidak ada yang disimpan", ui.English: "Nothing was kept"}[l])
		k.leave()
		k.engine.SetLink(provider, true)
		k.succeed(k.send(l, op), op)
		k.leave()
		return
	}
	k.review(l, op)
	k.engine.SetLink(provider, false)
	k.wait("the banner", `!document.querySelector('.banner').hidden`)
	k.tap("do-confirm")
	k.at(ui.OfferQueue)
	k.tap("do-hold")
	k.at(ui.Queued)
	id := k.engine.Last().ID
	require.False(k.t, k.engine.Last().EverSent(), "queued is not sent")
	k.engine.SetLink(provider, true)
	k.engine.Move(id, uitest.Send)
	k.at(ui.Working)
	k.succeed(id, op)
	k.leave()
}

func (k *kiosk) inDoubt(l ui.Lang, op txn.Operation) {
	id := k.send(l, op)
	k.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
	k.at(ui.Pending)
	require.Zero(k.t, js[int](k, `document.querySelectorAll('[data-focus="do-cancel"]').length`), "no cancel once a byte has left")
	k.tap("do-wait")
	k.engine.Move(id, func(r *txn.Request) { r.State, r.Reason = txn.Unresolved, txn.ReasonNoReadback })
	k.at(ui.Unresolved)
	k.leave()
}

func (k *kiosk) refused(l ui.Lang, op txn.Operation) {
	k.engine.Move(k.send(l, op), uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonRefused))
	k.at(ui.Fail)
	require.Contains(k.t, js[string](k, `document.querySelector('h1').innerText`), map[ui.Lang]string{ui.Indonesian: "Tidak ada yang berubah", ui.English: "Nothing has changed"}[l])
	k.leave()
}
