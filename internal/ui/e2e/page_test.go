//go:build e2e

package e2e_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// TestOverlays shows what lies over the screens, and the screens that pass quickly.
func TestOverlays(t *testing.T) {
	t.Parallel()
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			k := newKiosk(t, browser(t), l, func(o *ui.Options) {
				// Long enough for the pictures, also where a machine is busy.
				o.Timeouts.Screens = map[ui.State]time.Duration{ui.Goodbye: 5 * time.Second, ui.PIN: 5 * time.Second}
				o.Timeouts.StillThere = 2 * time.Minute
			})
			k.examine()
			k.load()
			for _, lang := range languages {
				k.start(lang, txn.PrepaidResetPIN)
				k.identify(txn.PrepaidResetPIN)
				k.at(ui.Verify)
				k.pin("77314159")
				k.at(ui.PIN)
				k.keys("48")
				k.wait("the question", `document.querySelector('.overlay')?.dataset.what?.startsWith('STILL_THERE')`)
				k.shot("50-still-there")
				k.tap("do-stay")
				k.at(ui.PIN)
				require.Zero(t, js[int](k, `document.querySelectorAll(".dot").length`), "what was typed is gone")
				k.shot("06-pin-cleared")
				k.tap("do-stop")
				k.at(ui.Attract)

				id := k.send(lang, txn.FinpayResetPIN)
				k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
				k.at(ui.Done)
				k.tap("do-finish")
				k.at(ui.Goodbye)
				k.shot("31-goodbye")
				k.at(ui.Attract)
			}
			k.quietConsole()
		})
	}
}

// TestUnsure shows a request of which the journal does not say whether it is stored, with the number to ask by.
func TestUnsure(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, l := range layouts {
		for _, lang := range languages {
			if testing.Short() && l.name != "portrait" {
				continue
			}
			k := newKiosk(t, ctx, l, func(o *ui.Options) {
				short(o)
				o.Timeouts.Call = 4 * time.Second
			})
			k.examine()
			k.load()
			k.engine.Hold("Accept")
			k.review(lang, txn.FinpayResetPIN)
			k.tap("do-confirm")
			k.at(ui.Unsure)
			number := js[string](k, `document.querySelector('.number dd').textContent`)
			require.Regexp(t, `^[A-Z2-7]{4}-[A-Z2-7]{4}$`, number)
			k.shot("28-unsure")
			k.tap("do-receipt")
			k.at(ui.Receipt)
			require.Contains(t, js[string](k, `document.querySelector('.receipt').innerText`), number)
			k.leave()
			k.quietConsole()
		}
	}
}

// TestBoot shows an agent that is only starting.
func TestBoot(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, l := range layouts {
		k := newKiosk(t, ctx, l, func(o *ui.Options) {
			o.Engine = nil
			o.Timeouts.Screens = map[ui.State]time.Duration{ui.Boot: 10 * time.Minute}
		})
		k.examine()
		k.load()
		for _, lang := range languages {
			k.at(ui.Boot)
			k.speak(lang)
			k.shot("00-boot")
		}
		k.quietConsole()
	}
}

// TestTheBanksLook holds the page to the same rules in a light brand's colours and with its logo.
func TestTheBanksLook(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	logo := filepath.Join(t.TempDir(), "logo.svg")
	drawing := `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 30"><rect width="90" height="30" rx="6" fill="#7a0019"/><circle cx="15" cy="15" r="8" fill="#ffd500"/></svg>`
	require.NoError(t, os.WriteFile(logo, []byte(drawing), 0o600))
	for _, l := range layouts {
		k := newKiosk(t, ctx, l, func(o *ui.Options) {
			short(o)
			o.Brand = "Bank Pembangunan Daerah Nusantara Raya"
			o.Look = ui.Look{Colour: "#ffd500", Accent: "#7a0019", LogoFile: logo}
		})
		k.examine()
		k.load()
		k.at(ui.Attract)
		k.wait("the logo", `document.querySelector('.plate img').naturalWidth > 0 && document.querySelector('.plate img').src.endsWith('/logo')`)
		k.shot("70-look-attract")
		k.start(ui.Indonesian, txn.PrepaidResetPIN)
		k.shot("70-look-consent")
		k.identify(txn.PrepaidResetPIN)
		k.at(ui.Verify)
		k.shot("70-look-verify")
		k.quietConsole()
	}
}

// TestAgentLost ends the agent under an open screen.
func TestAgentLost(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			for _, lang := range languages {
				k := newKiosk(t, ctx, l, short)
				k.examine()
				k.load()
				id := k.send(lang, txn.FinpayResetPIN)
				k.engine.Move(id, uitest.Answer(txn.Unknown, txn.InDoubt, txn.ReasonNoAnswer))
				k.at(ui.Pending)
				k.stop()
				k.wait("the overlay", `document.querySelector('.overlay')?.dataset.what?.startsWith('AGENT_LOST')`)
				k.shot("51-agent-lost")
				require.True(t, js[bool](k, `document.querySelector('main').inert`), "input is frozen")
			}
		})
	}
}

// TestAgentRestart: a page whose agent was replaced under it comes back by itself.
func TestAgentRestart(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[0], func(o *ui.Options) { o.CookieKey = []byte(strings.Repeat("k", 32)) })
	k.load()
	k.start(ui.English, txn.PrepaidResetPIN)
	k.identify(txn.PrepaidResetPIN)
	k.at(ui.Verify)
	history := k.historyLength()
	k.stop()
	o := k.options
	var err error
	o.Listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp4", k.addr)
	require.NoError(t, err)
	server, err := ui.New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	k.at(ui.Attract)
	require.Equal(t, "id", js[string](k, `document.documentElement.lang`))
	require.Equal(t, history, k.historyLength())
	require.NotContains(t, js[string](k, `document.documentElement.outerHTML`), typedFor[txn.PrepaidResetPIN][0])
	cancel()
	require.NoError(t, <-served)
}

// TestSecondScreen: the page that was loaded last is in charge; the other says so and stays quiet.
func TestSecondScreen(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	for _, lang := range languages {
		k := newKiosk(t, ctx, layouts[0], short)
		k.load()
		k.at(ui.Attract)
		k.speak(lang)
		other := k.sibling(ctx)
		other.load()
		other.at(ui.Attract)
		k.wait("the message", `document.querySelector('.overlay')?.dataset.what?.startsWith('OTHER_SCREEN')`)
		k.shot("52-other-screen")
		other.tap("do-start")
		other.at(ui.Home)
	}
}

// TestReload: a page that is loaded anew in the middle goes on where it was.
func TestReload(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, browser(t), layouts[0], short)
	k.load()
	id := k.send(ui.English, txn.FinpayResetPIN)
	require.NoError(t, chromedp.Do(k.ctx, chromedp.Reload()))
	k.at(ui.Working)
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	k.at(ui.Done)
	require.Equal(t, "en", js[string](k, `document.documentElement.lang`))
	k.leave()
	require.Empty(t, js[string](k, `document.cookie + JSON.stringify([...Object.keys(localStorage), ...Object.keys(sessionStorage)]).slice(1, -1)`), "nothing the page could read is kept")
	k.quietConsole()
}
