//go:build e2e

package e2e_test

import (
	"errors"
	"flag"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// typedFor is what a customer types, field by field.
var typedFor = map[txn.Operation][]string{
	txn.FinpayResetPIN:  {"081234567890"},
	txn.FinpayBind:      {"081234567890"},
	txn.FinpayUnbind:    {"081234567890"},
	txn.NetzmeForgotPIN: {"M_CUST-77.A"},
	txn.PrepaidResetPIN: {"70000000008", "1745", "IN00001201001868"},
}

// start goes from the attract screen to a chosen operation in a language.
func (k *kiosk) start(l ui.Lang, op txn.Operation) {
	k.t.Helper()
	k.at(ui.Attract)
	k.speak(l)
	k.tap("do-start")
	k.at(ui.Home)
	k.tap("op-" + string(op))
	k.at(ui.Consent)
}

func (k *kiosk) identify(op txn.Operation) {
	k.t.Helper()
	k.tap("do-agree")
	k.at(ui.Ident)
	for _, v := range typedFor[op] {
		k.keys(v)
		k.tap("do-next")
	}
}

func (k *kiosk) pin(pin string) {
	k.t.Helper()
	k.keys(pin)
	k.tap("do-send")
}

// review goes all the way to the last screen before sending.
func (k *kiosk) review(l ui.Lang, op txn.Operation) {
	k.t.Helper()
	k.start(l, op)
	k.identify(op)
	if op == txn.PrepaidResetPIN {
		k.at(ui.Verify)
		k.pin("77314159")
		k.at(ui.PIN)
		k.pin("481516")
		k.at(ui.PINAgain)
		k.pin("481516")
	}
	k.at(ui.Review)
}

// send submits and returns the request's id.
func (k *kiosk) send(l ui.Lang, op txn.Operation) string {
	k.t.Helper()
	k.review(l, op)
	k.tap("do-confirm")
	k.at(ui.Working)
	id := k.engine.Last().ID
	k.engine.Move(id, uitest.Send)
	return id
}

// leave ends the session and waits for the next customer's screen. The goodbye between
// them is too short here to be seen for certain; TestOverlays sees it.
func (k *kiosk) leave() {
	k.t.Helper()
	k.tap("do-finish")
	k.at(ui.Attract)
	k.wait("Indonesian after the wipe", `document.documentElement.lang === 'id'`)
}

// short makes the goodbye quick, and gives the screens that ask before they end the time that
// a picture and axe take on a busy machine.
func short(o *ui.Options) {
	o.Timeouts.Screens = map[ui.State]time.Duration{ui.Goodbye: 300 * time.Millisecond}
	for _, row := range ui.Screens() {
		if row.Ask {
			o.Timeouts.Screens[row.State] = 5 * time.Minute
		}
	}
}

func TestEveryScreen(t *testing.T) {
	for _, l := range layouts {
		if testing.Short() && l.name != "portrait" {
			continue
		}
		for _, lang := range languages {
			t.Run(l.name+"/"+string(lang), func(t *testing.T) {
				t.Parallel()
				k := newKiosk(t, browser(t), l, short)
				k.examine()
				k.load()
				k.before(lang)
				k.finpay(lang)
				k.netzme(lang)
				k.prepaid(lang)
				k.bind(lang)
				k.unbind(lang)
				k.refusals(lang)
				k.trouble(lang)
				k.quietConsole()
			})
		}
	}
}

func (k *kiosk) before(l ui.Lang) {
	k.at(ui.Attract)
	k.speak(l)
	k.shot("01-attract")
	k.tap("do-start")
	k.at(ui.Home)
	k.shot("02-home")
	k.engine.SetLink("finpay", false)
	k.engine.SetLink("prepaid", false)
	k.wait("banner", `!document.querySelector('.banner').hidden && document.querySelectorAll('.card-note').length === 4`)
	k.shot("02-home-offline")
	k.engine.SetLink("finpay", true)
	k.engine.SetLink("prepaid", true)
	k.wait("no banner", `document.querySelector('.banner').hidden`)
	k.tap("do-stop")
	k.at(ui.Attract)
}

func (k *kiosk) finpay(l ui.Lang) {
	op := txn.FinpayResetPIN
	k.start(l, op)
	k.shot("03-consent-finpay-reset")
	k.tap("do-agree")
	k.at(ui.Ident)
	k.shot("04-ident-empty")
	k.keys("0712")
	k.tap("do-next")
	k.wait("the fault", `!!document.querySelector('.field-wrong')`)
	k.shot("04-ident-wrong")
	k.tap("key-clear")
	k.keys("081234567890")
	k.shot("04-ident-phone")
	k.tap("do-next")
	k.at(ui.Review)
	k.shot("08-review-finpay-reset")
	k.tap("do-confirm")
	k.at(ui.Working)
	id := k.engine.Last().ID
	k.engine.Move(id, uitest.Send)
	k.shot("11-working")
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	k.shot("20-done-finpay-reset")
	k.tap("do-receipt")
	k.at(ui.Receipt)
	k.shot("30-receipt")
	k.leave()

	// Offline: the customer agrees to wait, then cancels.
	k.engine.SetLink("finpay", false)
	k.review(l, op)
	k.tap("do-confirm")
	k.at(ui.OfferQueue)
	k.shot("09-offer-queue")
	k.tap("do-hold")
	k.at(ui.Queued)
	k.shot("12-queued")
	k.tap("do-cancel")
	k.at(ui.Cancelled)
	k.shot("22-cancelled")
	k.engine.SetLink("finpay", true)
	k.leave()

	// Doubt, provider's pending, slow sending, and the honest end of a doubt.
	id = k.send(l, op)
	k.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
	k.at(ui.Pending)
	k.shot("13-pending-in-doubt")
	k.tap("do-wait")
	k.wait("the notice", `!!document.querySelector('.notice')`)
	k.shot("13-pending-waiting")
	k.engine.Move(id, func(r *txn.Request) { r.State, r.Reason = txn.Pending, txn.ReasonInProgress })
	k.wait("the other words", `document.querySelector('main').classList.contains('tone-waiting')`)
	k.shot("13-pending-processing")
	k.engine.Move(id, func(r *txn.Request) { r.State, r.Reason = txn.Unresolved, txn.ReasonNoReadback })
	k.at(ui.Unresolved)
	k.shot("23-unresolved")
	k.leave()

	// The longest refusals.
	for _, why := range []txn.Reason{txn.ReasonBlocked, txn.ReasonMisconfigured, txn.ReasonTooMany} {
		id = k.send(l, op)
		k.engine.Move(id, func(r *txn.Request) {
			uitest.Answer(txn.WasRejected, txn.Rejected, why)(r)
			r.Code = "4030418"
		})
		k.at(ui.Fail)
		k.shot("21-fail-" + string(why))
		k.leave()
	}
	id = k.send(l, op)
	k.engine.Move(id, uitest.Requeue(txn.ReasonThrottled))
	k.at(ui.Queued)
	k.shot("12-queued-throttled")
	k.engine.Move(id, func(r *txn.Request) { r.State, r.Reason = txn.Expired, txn.ReasonWaitedTooLong })
	k.at(ui.Expired)
	k.shot("24-expired")
	k.leave()
}

func (k *kiosk) netzme(l ui.Lang) {
	op := txn.NetzmeForgotPIN
	k.start(l, op)
	k.shot("03-consent-netzme")
	k.tap("do-agree")
	k.at(ui.Ident)
	k.keys("M_CUST")
	k.shot("04-ident-letters")
	k.keys("-77.A")
	k.tap("do-next")
	k.at(ui.Review)
	k.shot("08-review-netzme")
	k.tap("do-confirm")
	k.at(ui.Working)
	id := k.engine.Last().ID
	k.engine.Move(id, func(r *txn.Request) {
		uitest.Answer(txn.HasSucceeded, txn.Succeeded, "")(r)
		r.Cooldown = time.Now().Add(5 * time.Minute)
	})
	k.at(ui.Done)
	k.shot("20-done-netzme")
	k.leave()
	k.engine.Fail("Preview", &txn.CooldownError{Until: time.Now().Add(4 * time.Minute)})
	k.start(l, op)
	k.identify(op)
	k.at(ui.Cooldown)
	k.shot("25-cooldown")
	k.leave()
}

func (k *kiosk) prepaid(l ui.Lang) {
	op := txn.PrepaidResetPIN
	k.start(l, op)
	k.shot("03-consent-prepaid")
	k.tap("do-agree")
	k.at(ui.Ident)
	k.shot("04-ident-prepaid-1")
	k.keys("70000000008")
	k.tap("do-next")
	k.keys("1745")
	k.tap("do-next")
	k.keys("IN00001201001868")
	k.shot("04-ident-prepaid-3")
	k.tap("do-next")
	k.at(ui.Verify)
	k.shot("05-verify")
	k.pin("11111111")
	k.wait("the refusal", `!!document.querySelector('.notice')`)
	k.shot("05-verify-refused")
	k.pin("77314159")
	k.at(ui.PIN)
	k.shot("06-pin")
	k.keys("4815")
	k.shot("06-pin-typed")
	require.NotContains(k.t, js[string](k, `document.documentElement.outerHTML`), "4815", "the PIN is not in the document")
	k.tap("do-send")
	k.at(ui.PINAgain)
	k.shot("07-pin-again")
	k.pin("9999")
	k.at(ui.PIN)
	k.shot("06-pin-mismatch")
	k.pin("4815")
	k.at(ui.PINAgain)
	k.pin("4815")
	k.at(ui.Review)
	k.shot("08-review-prepaid")
	k.tap("do-confirm")
	k.at(ui.Working)
	id := k.engine.Last().ID
	require.Equal(k.t, "4815", string(k.engine.Secret(id).Bytes()))
	k.engine.Move(id, uitest.Send)
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	k.shot("20-done-prepaid")
	k.leave()

	k.start(l, op)
	k.engine.SetLink("prepaid", false)
	k.identify(op)
	k.at(ui.Fail)
	k.shot("21-fail-offline-refused")
	k.engine.SetLink("prepaid", true)
	k.leave()
}

func (k *kiosk) bind(l ui.Lang) {
	op := txn.FinpayBind
	id := k.send(l, op)
	k.engine.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
		txn.DataLinkURL:    "https://webview.finnet.example/partner/binding/pin-verification?linkageToken=" + strings.Repeat("eyJ0eXAiOiJKV1QiLCJhbGci", 37),
		txn.DataLinkDomain: "webview.finnet.example",
	}))
	k.at(ui.BindQR)
	k.wait("the code", `!!document.querySelector('.qr path')`)
	k.shot("14-bind-qr")
	k.tap("do-type-code")
	k.keys("a1b2")
	k.shot("14-bind-code")
	require.NotContains(k.t, js[string](k, `document.querySelector('main').textContent`), "A1B2", "what the page ends with is a secret")
	k.engine.Fail("Redeem", txn.ErrCodeRefused)
	k.keys("c3d4")
	k.tap("do-send")
	k.wait("the refusal", `!!document.querySelector('.notice')`)
	k.shot("14-bind-code-refused")
	k.tap("do-scan")
	k.wait("the QR code again", `!!document.querySelector('.qr path')`)
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, txn.ReasonConfirmed))
	k.at(ui.Done)
	k.shot("20-done-bind")
	k.leave()
	id = k.send(l, op)
	k.engine.Move(id, uitest.Answer(txn.WasRejected, txn.Rejected, txn.ReasonAlreadyLinked))
	k.at(ui.Fail)
	k.shot("21-fail-already-linked")
	k.leave()
}

func (k *kiosk) unbind(l ui.Lang) {
	op := txn.FinpayUnbind
	k.start(l, op)
	k.shot("03-consent-unbind")
	k.identify(op)
	k.at(ui.Review)
	k.shot("08-review-unbind")
	k.tap("do-confirm")
	k.at(ui.Working)
	id := k.engine.Last().ID
	k.engine.Move(id, uitest.Send)
	k.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	k.at(ui.OTP)
	k.shot("15-otp")
	k.pin("696969")
	k.at(ui.Working)
	k.engine.Move(id, uitest.Send)
	k.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWrong, 4*time.Minute, nil))
	k.at(ui.OTPBad)
	k.shot("16-otp-bad")
	k.pin("696960")
	k.at(ui.Working)
	k.engine.Move(id, uitest.Requeue(txn.ReasonLinkDown))
	k.at(ui.Queued)
	k.shot("12-queued-otp")
	k.engine.Move(id, uitest.Send)
	k.at(ui.Working)
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	k.shot("20-done-unbind")
	k.leave()
	for _, end := range []struct {
		state txn.State
		why   txn.Reason
		want  ui.State
		name  string
	}{
		{txn.Rejected, txn.ReasonOTPBlocked, ui.OTPLocked, "18-otp-locked"},
		{txn.Expired, txn.ReasonOTPTimeout, ui.OTPExpired, "17-otp-expired"},
	} {
		id = k.send(l, op)
		k.engine.Move(id, uitest.Answer(txn.WasRejected, end.state, end.why))
		k.at(end.want)
		k.shot(end.name)
		k.leave()
	}
}

// refusals are the screens of a request that did not come about.
func (k *kiosk) refusals(l ui.Lang) {
	op := txn.FinpayResetPIN
	for _, c := range []struct {
		method string
		err    error
		want   ui.State
		name   string
	}{
		{"Preview", &txn.LimitError{Scope: "customer", Until: time.Now().Add(20 * time.Minute)}, ui.Limit, "26-limit"},
		{"Preview", &txn.LimitError{Scope: "kiosk", Until: time.Now().Add(20 * time.Minute)}, ui.Limit, "26-limit-kiosk"},
		{"Preview", txn.ErrFull, ui.Full, "27-full"},
		{"Preview", errors.New("the token is on fire"), ui.Fail, "21-fail-internal"},
	} {
		k.engine.Fail(c.method, c.err)
		k.start(l, op)
		k.identify(op)
		k.at(c.want)
		k.shot(c.name)
		k.leave()
	}
	release := k.engine.Hold("Accept")
	k.review(l, op)
	k.tap("do-confirm")
	k.wait("saving", `document.querySelector('main').dataset.state === 'SUBMIT'`)
	k.shot("10-submit")
	release()
	k.at(ui.Working)
	k.engine.Move(k.engine.Last().ID, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	k.leave()
}

// trouble is when the kiosk itself cannot serve.
func (k *kiosk) trouble(l ui.Lang) {
	k.at(ui.Attract)
	k.server.SetHealth(ui.Health{Reason: "token_absent", Hint: "No token in slot 0: plug the token in; the agent finds it by itself within a minute."})
	k.at(ui.OutOfService)
	k.speak(l)
	k.shot("40-out-of-service")
	k.server.SetHealth(ui.Health{OK: true})
	k.at(ui.Attract)
}

// TestMain makes a page of all pictures, of whichever tests ran. Where all did, there
// is one of every screen in both languages.
func TestMain(m *testing.M) {
	code := m.Run()
	if whole := flag.Lookup("test.run").Value.String() == "" && !testing.Short(); code == 0 && whole {
		for _, s := range ui.Screens() {
			for _, l := range languages {
				if _, ok := pictured.Load(shown{s.State, l}); !ok {
					fmt.Fprintf(os.Stderr, "there is no picture of %s in %s\n", s.State, l)
					code = 1
				}
			}
		}
	}
	if err := writeIndex(); err != nil {
		fmt.Fprintln(os.Stderr, "write the index of pictures:", err)
		code = 1
	}
	os.Exit(code)
}

func writeIndex() error {
	files, err := filepath.Glob(filepath.Join(pictures, "*", "*.png"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for i, f := range files {
		if files[i], err = filepath.Rel(pictures, f); err != nil {
			return err
		}
	}
	page := template.Must(template.New("").Parse(`<!doctype html><meta charset="utf-8"><title>Screens</title>
<style>body{font:14px sans-serif;background:#ddd}figure{display:inline-block;margin:8px;vertical-align:top}img{max-width:420px;max-height:520px;display:block;background:#fff}</style>
{{range .}}<figure><a href="{{.}}"><img loading="lazy" src="{{.}}" alt=""></a><figcaption>{{.}}</figcaption></figure>
{{end}}`))
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(pictures, "index.html"))
	if err != nil {
		return err
	}
	if err := page.Execute(f, files); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
