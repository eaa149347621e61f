package txn

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reasons are the constants of reason.go, read from the source, so that a new one
// cannot be forgotten.
func reasons(t *testing.T) []Reason {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	require.NoError(t, err)
	var all []Reason
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Reason") {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			all = append(all, Reason(s))
		}
		return true
	})
	require.Greater(t, len(all), 40)
	return all
}

func TestEveryReasonHasAdvice(t *testing.T) {
	known := map[Reason]bool{}
	for _, r := range reasons(t) {
		known[r] = true
		a, ok := Advise(r)
		require.True(t, ok, "no advice for %s", r)
		for _, s := range []string{a.Means, a.Do} {
			require.True(t, strings.HasSuffix(s, "."), "%s: %q is no sentence", r, s)
		}
	}
	for r := range advice {
		require.True(t, known[r], "advice for %s, which is no reason", r)
	}
}

type knowing struct{ Provider }

func (knowing) Explain(code string) (Meaning, bool) {
	if code == "4040908" {
		return Meaning{Says: "Invalid merchant", Reason: ReasonMisconfigured, Do: "Check merchant_id."}, true
	}
	return Meaning{}, false
}

func TestExplain(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    Request
		want Explanation
	}{
		{"a listed code", Request{State: Rejected, Reason: ReasonMisconfigured, Code: "4040908"}, Explanation{"Invalid merchant", advice[ReasonMisconfigured].Means, "Check merchant_id."}},
		{"a listed code that is not why", Request{State: Expired, Reason: ReasonWaitedTooLong, Code: "4040908"}, Explanation{"Invalid merchant", advice[ReasonWaitedTooLong].Means, advice[ReasonWaitedTooLong].Do}},
		{"an unlisted code", Request{State: InDoubt, Reason: ReasonUnlisted, Code: "4990999"}, Explanation{"a code that no document lists", advice[ReasonUnlisted].Means, advice[ReasonUnlisted].Do}},
		{"no code", Request{State: Queued, Reason: ReasonLinkDown}, Explanation{"", advice[ReasonLinkDown].Means, advice[ReasonLinkDown].Do}},
		{"no reason", Request{State: Succeeded}, Explanation{"", "The provider accepted it.", "Nothing."}},
	} {
		t.Run(tc.name, func(t *testing.T) { require.Equal(t, tc.want, explain(knowing{}, &tc.r)) })
	}
	for _, s := range []State{Queued, Sending, Pending, InDoubt, Succeeded, Rejected, Expired, Cancelled, Unresolved, "of a later release"} {
		x := explain(nil, &Request{State: s, Code: "x"})
		require.NotEmpty(t, x.Means)
		require.NotEmpty(t, x.Do)
	}
}
