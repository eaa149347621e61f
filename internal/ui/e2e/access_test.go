//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

func (k *kiosk) press(keys string) {
	k.t.Helper()
	require.NoError(k.t, chromedp.Do(k.ctx, chromedp.KeyEvent(keys)))
}

// focus goes from control to control until it comes to the named one, and wants to see where it is.
func (k *kiosk) focus(step, name string) {
	k.t.Helper()
	for range 70 {
		k.press(step)
		if js[string](k, `document.activeElement?.dataset?.focus ?? ''`) == name {
			require.True(k.t, js[bool](k, `(() => { const s = getComputedStyle(document.activeElement); return document.activeElement.matches(':focus-visible') && parseFloat(s.outlineWidth) >= 3 && s.outlineStyle === 'solid' })()`), "the focus on %s can be seen", name)
			return
		}
	}
	k.t.Fatalf("the focus never reached %s", name)
}

// hand is one way of working without touching the screen.
type hand struct {
	name  string
	step  string // goes to the next control
	press string // does what the control says
	types bool   // there are keys for letters and digits
}

// TestWithoutTouch walks every operation with a keyboard, with the arrows of a keypad for
// blind users, and with the two switches of somebody who can press no more than two keys.
func TestWithoutTouch(t *testing.T) {
	for _, h := range []hand{{"keyboard", kb.Tab, kb.Enter, true}, {"arrows", kb.ArrowDown, kb.Enter, true}, {"switches", kb.Tab, " ", false}} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			k := newKiosk(t, browser(t), layouts[1], short)
			k.load()
			ops := operations
			if h.name != "keyboard" {
				ops = []txn.Operation{txn.PrepaidResetPIN} // every kind of screen there is
			}
			for _, op := range ops {
				k.walkWith(h, op)
			}
			k.quietConsole()
		})
	}
}

var firstField = map[txn.Operation]string{
	txn.FinpayResetPIN: "phoneNo", txn.FinpayBind: "phoneNo", txn.FinpayUnbind: "phoneNo", txn.NetzmeForgotPIN: "custIdMerchant", txn.PrepaidResetPIN: "urn",
}

func (k *kiosk) walkWith(h hand, op txn.Operation) {
	do := func(name string) { k.t.Helper(); k.focus(h.step, name); k.press(h.press) }
	write := func(text string) {
		k.t.Helper()
		if h.types {
			k.press(text)
			return
		}
		for _, c := range strings.ToLower(text) {
			do("key-" + string(c))
		}
	}
	k.at(ui.Attract)
	do("do-lang")
	k.wait("English", `document.documentElement.lang === 'en'`)
	do("do-start")
	k.at(ui.Home)
	require.Equal(k.t, "title", js[string](k, `document.activeElement.dataset.focus`), "a new screen takes the focus to its title")
	require.NotEmpty(k.t, js[string](k, `document.querySelector('[aria-live=polite]').textContent`), "and is announced")
	do("op-" + string(op))
	k.at(ui.Consent)
	do("do-agree")
	k.at(ui.Ident)
	for _, v := range typedFor[op] {
		write(v)
		do("do-next")
	}
	if op == txn.PrepaidResetPIN {
		for _, step := range []struct {
			at    ui.State
			typed string
		}{{ui.Verify, "77314159"}, {ui.PIN, "4815"}, {ui.PINAgain, "4815"}} {
			k.at(step.at)
			write(step.typed)
			do("do-send")
		}
	}
	k.at(ui.Review)
	do("do-confirm")
	k.at(ui.Working)
	last := k.engine.Last()
	require.Equal(k.t, op, last.Operation)
	require.Equal(k.t, typedFor[op][0], last.Fields[firstField[op]])
	k.engine.Move(last.ID, uitest.Send)
	switch op {
	case txn.FinpayBind:
		k.engine.Move(last.ID, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{txn.DataLinkURL: "https://a.example/", txn.DataLinkDomain: "a.example"}))
		k.at(ui.BindQR)
	case txn.FinpayUnbind:
		k.engine.Move(last.ID, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
		k.at(ui.OTP)
		write("696969")
		do("do-send")
		k.at(ui.Working)
		k.engine.Move(last.ID, uitest.Send)
	case txn.FinpayResetPIN, txn.NetzmeForgotPIN, txn.PrepaidResetPIN: // one call is all
	}
	k.engine.Move(last.ID, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	do("do-receipt")
	k.at(ui.Receipt)
	do("do-back")
	k.at(ui.Done)
	do("do-finish")
	k.at(ui.Attract)
}

// TestPreferences: contrast and the low layout are switched on the screen and are gone after the wipe.
// The low layout keeps to every rule, axe's too, on screens of each kind.
func TestPreferences(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, l := range layouts {
		for _, lang := range languages {
			if testing.Short() && lang != ui.Indonesian {
				continue
			}
			k := newKiosk(t, ctx, l, short)
			k.examine()
			k.load()
			k.at(ui.Attract)
			k.low()
			k.speak(lang)
			k.shot("60-low-attract")
			k.start(lang, txn.PrepaidResetPIN)
			k.shot("60-low-consent")
			k.tap("do-agree")
			k.at(ui.Ident)
			for _, v := range typedFor[txn.PrepaidResetPIN] {
				k.shot("60-low-ident-" + v[:1])
				k.keys(v)
				k.tap("do-next")
			}
			k.at(ui.Verify)
			k.shot("60-low-verify")
			k.pin("77314159")
			k.at(ui.PIN)
			k.pin("4815")
			k.at(ui.PINAgain)
			k.pin("4815")
			k.at(ui.Review)
			k.shot("60-low-review")
			k.tap("do-contrast")
			k.wait("contrast", `document.documentElement.dataset.theme === 'contrast'`)
			k.settle()
			k.picture("60-low-review.both")
			k.look("60-low-review.both")
			k.tap("do-stop")
			k.wait("nothing of it after the wipe", `document.querySelector('main')?.dataset.state === 'ATTRACT' && !document.documentElement.dataset.theme && !document.documentElement.dataset.reach`)

			k.engine.SetLink("finpay", false)
			k.low()
			k.at(ui.Attract)
			k.speak(lang)
			k.tap("do-start")
			k.at(ui.Home)
			k.shot("60-low-home-offline")
			k.tap("do-stop")
			k.at(ui.Attract)
			k.engine.SetLink("finpay", true)
			k.low()
			id := k.send(lang, txn.FinpayBind)
			k.engine.Move(id, uitest.Await(txn.AwaitLink, txn.ReasonLinkOpen, 5*time.Minute, map[string]string{
				txn.DataLinkURL: "https://webview.finnet.example/" + strings.Repeat("eyJ0eXAiOiJKV1Qi", 50), txn.DataLinkDomain: "webview.finnet.example",
			}))
			k.at(ui.BindQR)
			k.shot("60-low-bind-qr")
			k.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
			k.at(ui.Pending)
			k.shot("60-low-pending")
			k.tap("do-receipt")
			k.at(ui.Receipt)
			k.shot("60-low-receipt")
			k.leave()
			k.quietConsole()
		}
	}
}

// low switches the low layout on.
func (k *kiosk) low() {
	k.t.Helper()
	k.tap("do-reach")
	k.wait("the low layout", `document.documentElement.dataset.reach === 'low'`)
	require.Equal(k.t, "true", js[string](k, `document.querySelector('[data-focus=do-reach]').getAttribute('aria-pressed')`))
}

// TestMotion: who asks the system for less motion sees none.
func TestMotion(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[1], short)
	k.load()
	k.at(ui.Attract)
	moving := `document.getAnimations().filter((a) => a.playState === 'running').length`
	require.Positive(t, js[int](k, moving), "the hand beckons")
	feature := []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}}
	_, err := chromedp.Call(k.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: feature})
	require.NoError(t, err)
	k.wait("rest", moving+` === 0`)
	k.send(ui.English, txn.FinpayResetPIN)
	require.Zero(t, js[int](k, moving))
}

// listen notes what the page fetches to be heard.
const listen = `(() => { const f = window.fetch; window.heard = []; window.fetch = (a, ...r) => { if (/^\/(speech|sounds)\//.test(a)) window.heard.push(a); return f(a, ...r); }; return true })()`

// TestSpeech: nothing is said until the customer asks; then every screen, the control in focus and what
// is openly typed; and never anything of what is typed secretly.
func TestSpeech(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[0], short)
	k.load()
	k.at(ui.Attract)
	js[bool](k, listen)
	heard := func(part string) {
		k.t.Helper()
		k.wait("to hear "+part, fmt.Sprintf(`window.heard.some((a) => a.startsWith(%q))`, part))
	}
	k.tap("do-lang")
	k.wait("English", `document.documentElement.lang === 'en'`)
	k.tap("do-lang")
	k.wait("Indonesian", `document.documentElement.lang === 'id'`)
	heard("/sounds/key.wav")
	require.Zero(t, js[int](k, `window.heard.filter((a) => a.startsWith('/speech')).length`), "silent until asked")
	k.tap("do-speech")
	heard("/speech/id/speech.on/0")
	heard("/speech/id/ATTRACT.title/0")
	require.Equal(t, "running", js[string](k, `document.querySelector('gardu-app').audio.state`))
	k.tap("do-start")
	heard("/speech/id/HOME.title/0")
	k.press(kb.Tab)
	heard("/speech/id/operation.finpay.reset_pin/0")
	k.tap("op-prepaid.reset_pin")
	heard("/speech/id/CONSENT.body.prepaid.reset_pin/0")
	k.tap("do-agree")
	heard("/speech/id/field.urn/0")
	k.at(ui.Ident)
	k.keys("70000000008")
	heard("/speech/id/letter/8")
	k.tap("do-next")
	k.keys("1745")
	k.tap("do-next")
	k.keys("IN00001201001868")
	k.tap("do-next")
	k.at(ui.Verify)
	heard("/speech/id/VERIFY.title/0")
	// From here on secrets are typed, by touch, by keyboard, and from key to key by Tab.
	js[bool](k, `(window.heard = [], document.querySelector('gardu-app').audio.hush(), true)`)
	k.pin("77314159")
	k.at(ui.PIN)
	heard("/speech/id/PIN.title/0")
	k.press("4815")
	for range 16 {
		k.press(kb.Tab)
	}
	k.tap("do-send")
	k.at(ui.PINAgain)
	heard("/speech/id/PIN_AGAIN.title/0")
	k.keys("4815")
	time.Sleep(300 * time.Millisecond)
	require.Empty(t, js[[]string](k, `window.heard.filter((a) => a.includes('/letter/') || a.includes('/number/') && !/number\/(4|6|12)$/.test(a))`), "only how long a PIN may be (4 to 6) and a staff code (4 to 12) is said in numbers")
	k.tap("do-send")
	k.at(ui.Review)
	k.tap("do-confirm")
	k.at(ui.Working)
	heard("/speech/id/WORKING.title/0")
	k.engine.Move(k.engine.Last().ID, uitest.Send)
	k.engine.Move(k.engine.Last().ID, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	heard("/speech/id/DONE.body.prepaid.reset_pin/0")
	heard("/sounds/success.wav")
	k.tap("do-finish")
	k.at(ui.Attract)
	k.wait("the new page", `!!document.querySelector('gardu-app').audio && window.heard === undefined`)
	require.False(t, js[bool](k, `document.querySelector('gardu-app').audio.speaking`), "the next customer has not asked")
	k.press(kb.F1)
	k.wait("F1 starts it", `document.querySelector('gardu-app').audio.speaking`)
	k.quietConsole()
}

// sayings notes what the page wants said, whether or not the clips were fetched before.
const sayings = `(() => { const { audio } = document.querySelector('gardu-app'), say = audio.say.bind(audio); window.sayings = []; audio.say = (...what) => { window.sayings.push(JSON.stringify(what.filter(Boolean))); return say(...what); }; return true })()`

// TestSpeechTellsWhatIsOnlySeen: who listens learns what a banner, a countdown, a note on a card, capitals and
// signs tell who sees, and where they are when a question over the screen is gone.
func TestSpeechTellsWhatIsOnlySeen(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[0], func(o *ui.Options) {
		short(o)
		o.Timeouts.Screens[ui.Home] = 10 * time.Second
		o.Timeouts.StillThere = 2 * time.Minute
	})
	k.load()
	k.at(ui.Attract)
	js[bool](k, listen)
	js[bool](k, sayings)
	k.tap("do-speech")
	k.wait("speech", `document.querySelector('gardu-app').audio.speaking`)
	fetched := func(part string) {
		k.t.Helper()
		k.wait("to hear "+part, fmt.Sprintf(`window.heard.some((a) => a.startsWith(%q))`, part))
	}
	said := func(part string) {
		k.t.Helper()
		k.wait("it says "+part, fmt.Sprintf(`window.sayings.some((s) => s.includes(%q))`, part))
		js[bool](k, `(window.sayings = [], true)`)
	}

	k.engine.SetLink("finpay", false)
	k.wait("banner", `!document.querySelector('.banner').hidden`)
	k.tap("do-start")
	k.at(ui.Home)
	fetched("/speech/id/OFFLINE.title/0")
	fetched("/speech/id/OFFLINE.waits/0")
	fetched("/speech/id/operation.finpay.bind/0")
	k.press(kb.Tab)
	fetched("/speech/id/HOME.waits/0")
	k.wait("the question", `document.querySelector('.overlay')?.dataset.what?.startsWith('STILL_THERE')`)
	fetched("/speech/id/STILL_THERE.title/0")
	js[bool](k, `(window.sayings = [], true)`)
	k.tap("do-stay")
	said(`"key":"HOME.title"`)

	k.tap("op-netzme.forgot_pin")
	k.at(ui.Consent)
	k.tap("do-agree")
	k.at(ui.Ident)
	k.keys("m_")
	fetched("/speech/id/letter/capital")
	fetched("/speech/id/letter/underscore")
	k.tap("do-stop")
	k.at(ui.Attract)

	k.engine.SetLink("finpay", true)
	k.wait("no banner", `document.querySelector('.banner').hidden`)
	id := k.send(ui.Indonesian, txn.FinpayUnbind)
	js[bool](k, listen)
	js[bool](k, sayings)
	k.tap("do-speech")
	k.engine.Move(id, uitest.Await(txn.AwaitOTP, txn.ReasonOTPWanted, 5*time.Minute, nil))
	k.at(ui.OTP)
	fetched("/speech/id/OTP.left/0")
	fetched("/speech/id/number/5")
	fetched("/speech/id/show.minutes/1")
	k.quietConsole()
}
