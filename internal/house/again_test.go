package house_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatIsAskedAgain: of what fails in a run of all tests, only a test that says so,
// drew no seed and holds three times by itself is forgiven.
func TestWhatIsAskedAgain(t *testing.T) {
	const (
		fails = "=== RUN   TestX\n    x_test.go:3: what\n--- FAIL: TestX (0.01s)\nFAIL\nFAIL\tgardu/internal/x\t0.1s\n"
		other = "=== RUN   TestFine\n    seed 4\n--- PASS: TestFine (0.01s)\nPASS\nok  \tgardu/internal/y\t0.1s\n"
	)
	holds := strings.Repeat("--- PASS: TestX (0.01s)\n", 3)
	for _, c := range []struct {
		name, log string
		alone     string // what the test says by itself
		status    string // and how make ends then
		said      string
		forgiven  bool
	}{
		{"holds", other + fails, holds, "0", "TestX WAS DECIDED BY CHANCE", true},
		{"fails by itself", fails, "--- PASS: TestX (0.01s)\n--- FAIL: TestX (0.01s)\n", "2", "fails by itself as well", false},
		{"is not there", fails, "", "0", "did not run three times", false},
		{"another one holds", fails, strings.Repeat("--- PASS: TestXY (0.01s)\n", 3), "0", "did not run three times", false},
		{"a seed", strings.Replace(fails, "what", "GARDU_SEED=7", 1), holds, "0", "drew a seed", false},
		{"a seed in a subtest", strings.Replace(fails, "    x", "=== RUN   TestX/a\n    seed 3\n=== RUN   TestX/b\n    x", 1), holds, "0", "drew a seed", false},
		{"a data race", "WARNING: DATA RACE\n" + fails, holds, "0", "a data race", false},
		{"a panic", "panic: index out of range\n" + fails, holds, "0", "a panic", false},
		{"a hang", "panic: test timed out after 10m0s\n" + fails, holds, "0", "a hang", false},
		{"no build", fails + "FAIL\tgardu/internal/y [build failed]\n", holds, "0", "a build that failed", false},
		{"a package without a test", "FAIL\tgardu/internal/x\t0.1s\n", holds, "0", "none of its tests", false},
		{"two", fails + strings.ReplaceAll(fails, "internal/x", "internal/z"), holds, "0", "gardu/internal/z", true},
		{"three", strings.Repeat(fails, 3), holds, "0", "more than two", false},
		{"nothing", other, holds, "0", "no test says", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			// In the place of make.
			script := "#!/bin/sh\ncat <<'END'\n" + c.alone + "END\nexit " + c.status + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "make"), []byte(script), 0o700)) //nolint:gosec // G306: it is run
			log := filepath.Join(dir, "log")
			require.NoError(t, os.WriteFile(log, []byte(c.log), 0o600))
			cmd := exec.CommandContext(t.Context(), "../../tools/again.sh", log)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			require.Equal(t, c.forgiven, err == nil, "%v\n%s", err, out)
			require.Contains(t, string(out), c.said)
		})
	}
}
