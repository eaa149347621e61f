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

// TestWordsOfTheCauseFit draws what is said of one cause and not of another, on
// every layout and in both languages.
func TestWordsOfTheCauseFit(t *testing.T) {
	for _, l := range layouts {
		for _, lang := range languages {
			t.Run(l.name+"/"+string(lang), func(t *testing.T) {
				t.Parallel()
				k := newKiosk(t, browser(t), l, short)
				k.examine()
				k.load()
				id := k.send(lang, txn.FinpayResetPIN)
				k.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
				k.at(ui.Pending)
				k.shot("30-pending-unasked")
				k.engine.Move(id, uitest.Answer(txn.Unknown, txn.Unresolved, txn.ReasonNoReadback))
				k.at(ui.Unresolved)
				k.leave()

				k.review(lang, txn.FinpayResetPIN)
				k.wait("the earlier request's number", `document.body.textContent.includes('`+ui.ShortReference(id)+`')`)
				k.shot("31-review-doubt")
				for i, why := range []txn.Reason{txn.ReasonThrottled, txn.ReasonLinkUntrusted, txn.ReasonKeystore} {
					k.engine.Trouble(txn.Link{Provider: "finpay", Reason: why, NextTry: time.Now().Add(time.Minute)})
					if i == 0 {
						k.tap("do-confirm")
					} else {
						k.tap("do-decline")
						k.review(lang, txn.FinpayResetPIN)
						k.tap("do-confirm")
					}
					k.at(ui.OfferQueue)
					k.shot("32-offer-" + string(why))
				}
				k.tap("do-decline")
				k.engine.SetLink("finpay", true)
				k.review(lang, txn.FinpayResetPIN)
				k.engine.Trouble(txn.Link{Provider: "finpay", Reason: txn.ReasonAuthRefused, Held: true, NextTry: time.Now().Add(time.Minute)})
				k.tap("do-confirm")
				k.at(ui.Fail)
				k.shot("33-unavailable")
				k.leave()
				k.engine.SetLink("finpay", true)

				k.engine.Fail("Preview", &txn.CooldownError{Until: time.Now().Add(95 * time.Minute), Refused: true})
				k.start(lang, txn.FinpayResetPIN)
				k.identify(txn.FinpayResetPIN)
				k.at(ui.Cooldown)
				require.Regexp(t, `^1:3[45]:\d\d$`, js[string](k, `document.querySelector('.count').textContent`))
				k.shot("34-cooldown-refused")
				k.leave()

				for _, why := range []string{"audit", "disk_full"} {
					k.server.SetHealth(ui.Health{Reason: why})
					k.at(ui.OutOfService)
					k.speak(lang)
					k.shot("35-" + why)
					k.server.SetHealth(ui.Health{OK: true})
					k.at(ui.Attract)
				}
				k.quietConsole()
			})
		}
	}
}
