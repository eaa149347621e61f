package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// block is a fenced block of the manual that names a file: ```go PATH or ```diff PATH.
var block = regexp.MustCompile("(?s)\n```(go|diff) (\\S+)\n(.*?)\n```\n")

// TestTheProviderOfTheManual builds and tests the provider of
// docs/adding-a-provider.md as it stands there, in a copy of the tree: whoever follows
// the page gets what the page says.
func TestTheProviderOfTheManual(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "adding-a-provider.md"))
	require.NoError(t, err)
	root := t.TempDir()
	for _, part := range []string{"internal", "cmd/agent", "cmd/sandbox", "packaging"} {
		require.NoError(t, os.CopyFS(filepath.Join(root, part), os.DirFS(filepath.Join("..", "..", part))))
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join("..", "..", file))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(root, file), b, 0o600))
	}
	var files []string
	for _, m := range block.FindAllStringSubmatch(string(page), -1) {
		kind, path, text := m[1], filepath.Join(root, m[2]), m[3]+"\n"
		if kind == "diff" {
			old, err := os.ReadFile(path) //nolint:gosec // a file of the copy
			require.NoError(t, err)
			text = patched(t, string(old), text)
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		files = append(files, path)
	}
	require.Len(t, files, 5, "the page has another number of files than this test knows")
	// Of this package only what the page adds is tested there, not everything once more.
	for _, args := range [][]string{
		append([]string{"gofmt", "-l"}, files...),
		{"go", "vet", "-trimpath", "./internal/airtime"},
		{"go", "test", "-trimpath", "-run", "^(TestAnswers|TestNobodyThere|TestTheAirtimeTable)$", "./internal/airtime", "./cmd/agent"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...) //nolint:gosec // G204: the toolchain that runs this test
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", strings.Join(args, " "), out)
		require.NotContains(t, string(out), "no tests to run")
		if args[0] == "gofmt" {
			require.Empty(t, string(out), "the page's code is not formatted")
		}
	}
}

// patched puts the lines of a diff that begin with + behind the line before them.
func patched(t *testing.T, text, diff string) string {
	t.Helper()
	after := ""
	for line := range strings.Lines(diff) {
		switch line[0] {
		case ' ':
			after = line[1:]
			require.Equal(t, 1, strings.Count(text, after), "the line %q stands there once", after)
		case '+':
			text = strings.Replace(text, after, after+line[1:], 1)
			after = line[1:]
		default:
			t.Fatalf("a line of the diff begins with %q", line[0])
		}
	}
	return text
}
