package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/prepaid"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// codeTables are the tables of every provider, and what is made of an answer that
// is in none of them.
var codeTables = []struct {
	title string
	rows  []txn.Meaning
}{
	{"Finpay and Netzme (SNAP)", snap.Codes()},
	{"Prepaid", prepaid.Codes()},
	{"Without a code, or with one that is in no table", []txn.Meaning{
		{Code: "any other", Says: "a code that no document lists", Outcome: txn.Unknown, Reason: txn.ReasonUnlisted},
		{Code: "5xx", Says: "a server's failure, whatever it says", Outcome: txn.Unknown, Reason: txn.ReasonServerError},
		{Code: "none", Says: "an answer without a code, or one that cannot be read", Outcome: txn.Unknown, Reason: txn.ReasonUnreadable},
		{Code: "none", Says: "no answer after the first byte left", Outcome: txn.Unknown, Reason: txn.ReasonNoAnswer},
		{Code: "none", Says: "an answer to another request", Outcome: txn.Unknown, Reason: txn.ReasonEchoMismatch},
		{Code: "none", Says: "no connection before the first byte left", Outcome: txn.NotSent, Reason: txn.ReasonLinkDown},
		{Code: "none", Says: "a certificate that is not the provider's", Outcome: txn.NotSent, Reason: txn.ReasonLinkUntrusted},
		{Code: "none", Says: "the token does not sign", Outcome: txn.NotSent, Reason: txn.ReasonKeystore},
	}},
}

// TestEveryCodeHasWords: whatever a provider's table says has words for the
// customer in both languages and advice for the operator.
func TestEveryCodeHasWords(t *testing.T) {
	for _, table := range codeTables {
		for _, m := range table.rows {
			t.Run(table.title+" "+m.Code+" "+m.Says, func(t *testing.T) {
				require.NotEmpty(t, m.Says)
				require.NotZero(t, m.Outcome)
				if m.Reason == "" {
					require.Equal(t, txn.HasSucceeded, m.Outcome, "only a plain success needs no reason")
					return
				}
				w, ok := ui.ReasonWords(m.Reason)
				require.True(t, ok, "the screen has no words for %s", m.Reason)
				require.NotEmpty(t, w.ID)
				require.NotEmpty(t, w.EN)
				require.NotEqual(t, w.ID, w.EN)
				a, ok := txn.Advise(m.Reason)
				require.True(t, ok)
				require.NotEmpty(t, a.Means)
				require.NotEmpty(t, a.Do)
			})
		}
	}
}

const codesPage = "../../docs/response-codes.md"

// TestResponseCodesPage holds docs/response-codes.md against the tables in code;
// UPDATE_GOLDEN=1 writes it.
func TestResponseCodesPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Response codes

What is made of every answer, what the customer reads and what an operator does. The tables are the ones in the code: a test writes this page
(` + "`UPDATE_GOLDEN=1 go test ./cmd/agent -run TestResponseCodesPage`" + `) and fails where it differs. The rules behind them are in
[providers.md](providers.md): the HTTP status and the last two digits decide, the more cautious of the two counts, and a code that stands in
no table is unknown and never a success.

` + "`gardu queue show`" + ` prints the operator's part for one request.
`)
	for _, table := range codeTables {
		fmt.Fprintf(&b, "\n## %s\n\n| code | the document's words | outcome | reason | what to do beyond the reason's advice |\n|---|---|---|---|---|\n", table.title)
		for _, m := range table.rows {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Code, m.Says, m.Outcome, reasonLink(m.Reason), m.Do)
		}
	}
	b.WriteString("\n## Reasons\n\n| reason | the customer reads (id) | (en) | what it means | what to do |\n|---|---|---|---|---|\n")
	for _, r := range txn.Reasons() {
		w, ok := ui.ReasonWords(r)
		require.True(t, ok, "the screen has no words for %s", r)
		a, ok := txn.Advise(r)
		require.True(t, ok)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r, w.ID, w.EN, a.Means, a.Do)
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(codesPage, []byte(b.String()), 0o644)) //nolint:gosec // G306: a page of the documentation
	}
	page, err := os.ReadFile(codesPage)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(page), "run UPDATE_GOLDEN=1 go test ./cmd/agent -run TestResponseCodesPage")
}

func reasonLink(r txn.Reason) string {
	if r == "" {
		return ""
	}
	return "`" + string(r) + "`"
}
