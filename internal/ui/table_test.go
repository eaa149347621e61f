package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
)

func TestEveryScreenHasAWayOut(t *testing.T) {
	seen := map[State]bool{}
	for _, row := range Screens() {
		t.Run(string(row.State), func(t *testing.T) {
			require.False(t, seen[row.State], "one row per screen")
			seen[row.State] = true
			require.Positive(t, row.Limit, "a screen without a time limit")
			require.Contains(t, screenTable, row.Then, "a way out that is no screen")
			require.NotEmpty(t, row.Tone)
			if row.Ask {
				require.True(t, row.Wipes, "whoever does not answer has left")
				require.Equal(t, Attract, row.Then)
				require.NotEmpty(t, row.Commands, "a question over a screen where nothing can be done")
			}
			if row.Holds {
				require.True(t, row.Ask || row.State == Submit, "a PIN is held where nobody asks")
			}
			for _, part := range []string{"title", "body"} {
				if row.State == Ident && part == "body" {
					continue // its fields say it
				}
				require.Contains(t, row.Texts, part)
			}
		})
	}
	for _, name := range constants(t, "state.go", "State") {
		require.True(t, seen[State(name)], "screen %s is not in the table", name)
	}
}

// constants reads the values of a type's constants from a source file, so that a
// new one cannot be forgotten here.
func constants(t *testing.T, file, typ string) []string {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	var values []string
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); !ok || id.Name != typ {
			return true
		}
		for _, v := range spec.Values {
			s, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			require.NoError(t, err)
			values = append(values, s)
		}
		return true
	})
	require.NotEmpty(t, values)
	return values
}

func TestEveryCommandIsCarriedOutAndLabelled(t *testing.T) {
	for name := range commandTable {
		require.Contains(t, handlers, name)
	}
	for name := range handlers {
		require.Contains(t, commandTable, name, "a handler for a command that no screen has")
	}
	for _, row := range Screens() {
		for _, c := range row.Commands {
			_, own := textTable[string(row.State)+".do."+c.Name]
			_, common := textTable["do."+c.Name]
			switch c.Name {
			case "choose": // labelled by the operations
			default:
				require.True(t, own || common, "%s has no label on %s", c.Name, row.State)
			}
			secrets := 0
			for _, a := range c.Args {
				if a.Secret {
					secrets++
				}
			}
			require.LessOrEqual(t, secrets, 1, "a command holds one secret at most")
		}
	}
}

var braces = regexp.MustCompile(`\{\w+\}`)

func TestEveryTextIsThereInBothLanguages(t *testing.T) {
	for key, text := range textTable {
		for lang, v := range map[Lang]string{Indonesian: text.ID, English: text.EN} {
			require.NotEmpty(t, v, "%s in %s", key, lang)
			require.Equal(t, strings.TrimSpace(v), v, "%s in %s", key, lang)
			require.NotContains(t, v, "  ", "%s in %s", key, lang)
		}
		id, en := braces.FindAllString(text.ID, -1), braces.FindAllString(text.EN, -1)
		sort.Strings(id)
		sort.Strings(en)
		require.Equal(t, id, en, "%s: the languages fill in different words", key)
	}
}

var allOperations = []txn.Operation{txn.FinpayResetPIN, txn.FinpayBind, txn.FinpayUnbind, txn.NetzmeForgotPIN, txn.PrepaidResetPIN}

// What is said of the three that must never be taken for each other.
func TestQueuedDoubtAndFailedAreWorlds(t *testing.T) {
	tones := map[Tone]State{}
	letters := map[string]State{}
	for _, s := range []State{Queued, Pending, Fail, Done} {
		tone := screenTable[s].Tone
		require.NotContains(t, tones, tone)
		require.NotContains(t, letters, tone.letter())
		tones[tone], letters[tone.letter()] = s, s
	}
	for _, s := range []State{Pending, Unresolved, Unsure} {
		for part, text := range screenTable[s].Texts {
			for _, again := range []string{"try again", "coba lagi", "Try again", "Coba lagi"} {
				require.NotContains(t, text.ID+text.EN, again, "%s.%s: never \"try again\" in doubt", s, part)
			}
		}
		require.NotContains(t, commandNames(s), "cancel")
	}
	require.NotContains(t, commandNames(Working), "cancel", "no cancel once a byte has left")
}

func commandNames(s State) []string {
	var names []string
	for _, c := range screenTable[s].Commands {
		names = append(names, c.Name)
	}
	return names
}

func TestEveryOperationHasItsWords(t *testing.T) {
	for _, op := range allOperations {
		require.Contains(t, textTable, "operation."+string(op))
		for _, s := range []State{Consent, Done} {
			require.Equal(t, string(s)+".body."+string(op), textKey(s, "body", string(op)))
		}
		require.Equal(t, "DONE.title."+string(op), textKey(Done, "title", string(op)))
		require.Equal(t, "IDENT.title."+string(op), textKey(Ident, "title", string(op)))
	}
}

func TestEveryReasonAndRuleHasItsWords(t *testing.T) {
	for _, r := range constants(t, "../txn/reason.go", "Reason") {
		if r == string(txn.ReasonOTPWanted) || r == string(txn.ReasonLinkOpen) {
			continue // their screens say it
		}
		require.Contains(t, textTable, "reason."+r)
	}
	for _, r := range constants(t, "../txn/policy.go", "Rule") {
		require.Contains(t, textTable, "rule."+r)
	}
}

// Every key that the page's modules name must exist, and keys that they build
// from parts must have the parts.
func TestPageNamesOnlyTextsThatExist(t *testing.T) {
	named := regexp.MustCompile(`words\.(?:t|has|firstKey)\('([^'$]+)'`)
	built := regexp.MustCompile(`'((?:[A-Z_]+|do|key|entry|show|rule|field|operation|busy)(?:\.[a-z_]+)+)'`)
	files, err := filepath.Glob("page/*.js")
	require.NoError(t, err)
	found := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, re := range []*regexp.Regexp{named, built} {
			for _, m := range re.FindAllStringSubmatch(string(src), -1) {
				if _, isOperation := operationTexts["operation."+m[1]]; isOperation {
					continue
				}
				require.Contains(t, textTable, m[1], f)
				found++
			}
		}
	}
	require.Greater(t, found, 30)
	for _, s := range []string{"working", "queued", "doubt", "waiting", "done", "failed", "nothing", "halted"} {
		src, err := os.ReadFile("page/icons.js")
		require.NoError(t, err)
		require.Contains(t, string(src), "\n  "+s+": [", "the tone has a sign of its own")
	}
}

// The page must never make markup of text, nor reach out of the kiosk.
func TestPageMakesNoMarkup(t *testing.T) {
	files, err := filepath.Glob("page/*.*")
	require.NoError(t, err)
	for _, f := range files {
		if strings.HasSuffix(f, ".txt") {
			continue // licences name their homes
		}
		src, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "localStorage", "sessionStorage", "indexedDB", "window.open", "https://", "setAttribute('style'", "autocomplete"} {
			require.NotContains(t, string(src), bad, f)
		}
	}
}

func TestMaskLeavesNoMoreThanItsOwnerNeeds(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "12": "••", "1234": "1••4", "081234567890": "0812•••••890", "70000000008": "700••••••08", "M_CUST-77.A": "M_C••••••.A",
	} {
		require.Equal(t, want, mask(in))
	}
}

func TestShortReference(t *testing.T) {
	require.Equal(t, "STUV-WXYZ", ShortReference("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	require.Equal(t, "short", ShortReference("short"))
	require.Empty(t, ShortReference(""))
}

func TestQRHoldsTheLongestLink(t *testing.T) {
	code, err := drawQR(strings.Repeat("x", 2953))
	require.NoError(t, err)
	require.Equal(t, 177, code.Size)
	require.Regexp(t, `^(M\d+ \d+h\d+v1h-\d+z)+$`, code.Path)
	t.Logf("a link of 2953 bytes is a path of %d bytes", len(code.Path))
	_, err = drawQR(strings.Repeat("x", 2954))
	require.Error(t, err)
	small, err := drawQR("https://a.example/")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(small.Path, "M0 0h7v1h-7z"), "the corner mark")
}
