//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// The client that docs/protocol-ui.md offers serves a customer from the welcome to the
// wipe, over a connection that is cut on the way.
func TestDocumentedClientServesACustomer(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "examples", "client.js"))
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(string(source), "\n"), 30, "it is meant to be read at a glance")
	k := newKiosk(t, browser(t), layouts[0], short)
	k.load()
	k.at(ui.Attract)
	awaited[bool](k, fmt.Sprintf(`(async () => { %s
		window.command = await gardu((docs, text) => { window.docs = docs; window.heading = text(docs.session.title, docs.session.params); });
		return true })()`, source))
	at := func(s ui.State) {
		t.Helper()
		k.wait("screen "+string(s), fmt.Sprintf(`window.docs?.session.state === %q && !window.docs.session.busy`, s))
	}
	do := func(name, args string) {
		t.Helper()
		require.True(t, awaited[bool](k, fmt.Sprintf(`command(%q, %s).then((r) => r.ok)`, name, args)), name)
	}
	at(ui.Attract)
	require.Equal(t, "Selamat datang", js[string](k, `heading`))
	do("lang", `{lang: 'en'}`)
	k.wait("English", `heading === 'Welcome'`)
	do("start", `{}`)
	at(ui.Home)
	do("choose", fmt.Sprintf(`{operation: %q}`, txn.FinpayResetPIN))
	at(ui.Consent)
	do("agree", `{}`)
	at(ui.Ident)
	require.Equal(t, "field", awaited[string](k, `command('submit_fields', {phoneNo: '0712'}).then((r) => r.code)`))
	do("submit_fields", `{phoneNo: '081234567890'}`)
	at(ui.Review)
	k.wires.cut()
	do("confirm", `{}`)
	at(ui.Working)
	id := k.engine.Last().ID
	k.engine.Move(id, uitest.Send)
	k.engine.Move(id, uitest.Answer(txn.HasSucceeded, txn.Succeeded, ""))
	at(ui.Done)
	do("finish", `{}`)
	k.wait("a page loaded anew: nothing of the client is left", `typeof window.command === 'undefined'`)
	k.at(ui.Attract)
}
