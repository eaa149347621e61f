package house_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the linter's layers in .golangci.yml anew from docs/architecture.md")

const top = "../.."

func ourPlan(t *testing.T) plan {
	t.Helper()
	p, err := readPlan("gardu", filepath.Join(top, "docs", "architecture.md"))
	require.NoError(t, err)
	return p
}

func TestImportsFollowTheDocument(t *testing.T) {
	found, err := violations(ourPlan(t), top)
	require.NoError(t, err)
	for _, v := range found {
		t.Error(v)
	}
}

func TestLinterHoldsTheTables(t *testing.T) {
	file := filepath.Join(top, ".golangci.yml")
	config, err := os.ReadFile(file)
	require.NoError(t, err)
	before, inside, after, err := splitLinter(string(config))
	require.NoError(t, err)
	want := layers(ourPlan(t))
	if *update && inside != want {
		require.NoError(t, os.WriteFile(file, []byte(before+want+after), 0o644))
		t.Log("wrote .golangci.yml")
		return
	}
	require.Equal(t, want, inside, "run: go test ./internal/house -run TestLinterHoldsTheTables -update")
}

// A direct requirement that no row explains is a dependency nobody argued for; a
// row without a requirement describes what is no longer there.
func TestEveryRequirementHasARow(t *testing.T) {
	gomod, err := os.ReadFile(filepath.Join(top, "go.mod"))
	require.NoError(t, err)
	var want []string
	for line := range strings.Lines(string(gomod)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) == 2 && strings.Contains(f[0], ".") && strings.HasPrefix(f[1], "v") {
			want = append(want, f[0])
		}
	}
	require.NotEmpty(t, want)
	var have []string
	for _, m := range ourPlan(t).Modules {
		have = append(have, m.Path)
	}
	require.ElementsMatch(t, want, have)
}

// A document as small as can be, for the trees below.
const smallDocument = `# Small

## Rooms

| package | its one job | owns | may import of ours |
|---|---|---|---|
| ` + "`cmd/main`" + ` | start | – | all |
| ` + "`internal/shelf`" + ` | keep | – | ` + "`paper`" + ` |
| ` + "`internal/paper`" + ` | be written on | – | – |
| ` + "`internal/attic`" + ` | *planned:* keep for long | – | – |
| ` + "`internal/attic/shelftest`" + ` | shelves for tests | – | – |

## Modules from outside

| module | what for | imported by |
|---|---|---|
| ` + "`example.org/ink`" + ` | writing | ` + "`internal/paper`" + ` |
| ` + "`example.org/lamp`" + ` | light | any room |
| ` + "`example.org/check`" + ` | checks | tests |
`

// smallTree is a tree that keeps to smallDocument.
func smallTree() map[string]string {
	return map[string]string{
		"cmd/main/main.go":         "package main\n\nimport _ \"small/internal/shelf\"\n",
		"internal/shelf/shelf.go":  "package shelf\n\nimport (\n\t_ \"fmt\"\n\t_ \"small/internal/paper\"\n\t_ \"example.org/lamp\"\n)\n",
		"internal/shelf/a_test.go": "package shelf\n\nimport (\n\t_ \"example.org/check\"\n\t_ \"small/cmd/main\"\n)\n",
		"internal/paper/paper.go":  "package paper\n\nimport (\n\t_ \"C\"\n\t_ \"example.org/ink/black\"\n)\n",
		"tools/go.mod":             "module tools\n",
		"tools/tool.go":            "package tools\n\nimport _ \"example.org/anything\"\n",
		"internal/testdata/x.go":   "package util\n",

		"internal/attic/shelftest/shelftest.go": "package shelftest\n",
	}
}

func TestEveryViolationIsFound(t *testing.T) {
	const importShelf = "import _ \"small/internal/shelf\"\n"
	for name, tc := range map[string]struct {
		put  string // file to put into the tree
		text string // what stands in it
		drop string // file to take out
		want []string
	}{
		"nothing wrong": {},
		"upwards": {
			put: "internal/paper/up.go", text: "package paper\n" + importShelf,
			want: []string{"internal/paper/up.go: imports small/internal/shelf"},
		},
		"for another system": {
			put: "internal/paper/up_windows.go", text: "package paper\n" + importShelf,
			want: []string{"internal/paper/up_windows.go: imports small/internal/shelf"},
		},
		"in a file that is never built": {
			put: "internal/paper/up.go", text: "//go:build ignore\n\npackage main\n" + importShelf,
			want: []string{"internal/paper/up.go: imports small/internal/shelf"},
		},
		"a package below an allowed one": {
			put: "internal/shelf/up.go", text: "package shelf\nimport _ \"small/internal/paper/deep\"\n",
			want: []string{"internal/shelf/up.go: imports small/internal/paper/deep"},
		},
		"a name that begins like an allowed one": {
			put: "internal/shelf/up.go", text: "package shelf\nimport _ \"small/internal/paperclip\"\n",
			want: []string{"internal/shelf/up.go: imports small/internal/paperclip"},
		},
		"a command": {
			put: "cmd/main/up.go", text: "package main\nimport _ \"small/cmd/other\"\n",
			want: []string{"cmd/main/up.go: imports small/cmd/other"},
		},
		"a room without a row": {
			put: "internal/cellar/cellar.go", text: "package cellar\n",
			want: []string{"internal/cellar: the table \"## Rooms\" does not name this package"},
		},
		"a row without a room": {
			drop: "internal/paper/paper.go",
			want: []string{"internal/paper: the table names it, but it holds no Go file"},
		},
		"planned, but there": {
			put: "internal/attic/attic.go", text: "package attic\n",
			want: []string{"internal/attic: the table calls it planned, but it is there"},
		},
		"a name that says nothing": {
			put: "internal/shelf/names.go", text: "package util\n",
			want: []string{"internal/shelf: a package is named after what it is, not \"util\""},
		},
		"a folder that says nothing": {
			put: "internal/shelf/common/shelf.go", text: "package shelf\n",
			want: []string{
				"internal/shelf/common: a package is named after what it is, not \"common\"",
				"internal/shelf/common: the table \"## Rooms\" does not name this package",
			},
		},
		"a module without a row": {
			put: "internal/paper/up.go", text: "package paper\nimport _ \"example.org/pen\"\n",
			want: []string{"internal/paper/up.go: imports example.org/pen, whose module"},
		},
		"a module that begins like a known one": {
			put: "internal/paper/up.go", text: "package paper\nimport _ \"example.org/inkwell\"\n",
			want: []string{"internal/paper/up.go: imports example.org/inkwell, whose module"},
		},
		"a module of another room": {
			put: "internal/shelf/up.go", text: "package shelf\nimport _ \"example.org/ink\"\n",
			want: []string{"internal/shelf/up.go: imports example.org/ink, which the table"},
		},
		"a part of tests": {
			put: "internal/attic/shelftest/shelftest.go", text: "package shelftest\nimport _ \"example.org/check\"\n",
		},
		"a part of tests in the product": {
			put: "internal/shelf/up.go", text: "package shelf\nimport _ \"small/internal/attic/shelftest\"\n",
			want: []string{"internal/shelf/up.go: imports small/internal/attic/shelftest"},
		},
		"a module for tests": {
			put: "internal/shelf/up.go", text: "package shelf\nimport _ \"example.org/check/deep\"\n",
			want: []string{"internal/shelf/up.go: imports example.org/check/deep, which the table"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree := smallTree()
			if tc.put != "" {
				tree[tc.put] = tc.text
			}
			delete(tree, tc.drop)
			for file, text := range tree {
				write(t, filepath.Join(dir, file), text)
			}
			found, err := violations(smallPlan(t, smallDocument), dir)
			require.NoError(t, err)
			require.Len(t, found, len(tc.want), strings.Join(found, "\n"))
			for i, want := range tc.want {
				require.Contains(t, found[i], want)
			}
		})
	}
}

func TestAnEmptyTreeIsAnError(t *testing.T) {
	_, err := violations(smallPlan(t, smallDocument), t.TempDir())
	require.ErrorContains(t, err, "no Go file found")
}

func TestADocumentThatCannotBeReadIsAnError(t *testing.T) {
	for name, tc := range map[string]struct{ old, now, want string }{
		"no heading":       {"## Rooms", "## Chambers", `no heading "## Rooms"`},
		"no column":        {"may import of ours", "imports", `no column "may import of ours"`},
		"a row cut short":  {"| – | `paper` |", "| `paper` |", "this row has 3"},
		"not a name":       {"`internal/shelf`", "shelf", `cell "shelf" is not one name`},
		"imports no names": {"| – | `paper` |", "| – | paper |", `cell "paper" is neither`},
		"an unknown room":  {"| – | `paper` |", "| – | `pen` |", "internal/shelf may import internal/pen, which has no row"},
		"a module's room":  {"writing | `internal/paper`", "writing | `internal/pen`", "example.org/ink is for internal/pen, which has no row"},
		"two rows":         {"`internal/attic`", "`internal/paper`", "internal/paper has two rows"},
		"no table":         {"## Rooms\n", "## Rooms\n\n## Halls\n", `no table under "## Rooms"`},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, smallDocument, tc.old)
			file := filepath.Join(t.TempDir(), "doc.md")
			write(t, file, strings.Replace(smallDocument, tc.old, tc.now, 1))
			_, err := readPlan("small", file)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestLayersAsWrittenForTheLinter(t *testing.T) {
	got := layers(smallPlan(t, smallDocument))
	require.Contains(t, got, `        room-internal-shelf:
          list-mode: lax
          files: ['**/internal/shelf/*.go', '!$test']
          deny:
            - pkg: small/
              desc: 'docs/architecture.md, "Rooms": not from internal/shelf'
          allow:
            - small/internal/paper$
`)
	require.Contains(t, got, `        module-example-org-ink:
          list-mode: lax
          files: ['$all', '!$test', '!**/*test/*.go', '!**/internal/paper/*.go']
          deny:
            - pkg: example.org/ink
              desc: 'docs/architecture.md, "Modules from outside": not from here'
`)
	require.NotContains(t, got, "room-internal-attic:")
	require.NotContains(t, got, "lamp")

	_, _, _, err := splitLinter("version: \"2\"\n")
	require.ErrorContains(t, err, "begins")
	_, _, _, err = splitLinter(linterBegin + got)
	require.ErrorContains(t, err, "ends")
	before, inside, after, err := splitLinter("a\n" + linterBegin + got + linterEnd + "b\n")
	require.NoError(t, err)
	require.Equal(t, []string{"a\n" + linterBegin, got, linterEnd + "b\n"}, []string{before, inside, after})
}

func smallPlan(t *testing.T, document string) plan {
	t.Helper()
	file := filepath.Join(t.TempDir(), "doc.md")
	write(t, file, document)
	p, err := readPlan("small", file)
	require.NoError(t, err)
	return p
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}
