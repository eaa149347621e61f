package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	longest = time.Minute
	tick    = 20 * time.Millisecond
)

// workerPID returns the process that executes l's file: the one of our children
// whose name is the worker's.
func workerPID(t *testing.T, l *Launcher) int {
	t.Helper()
	require.NotNil(t, l.file)
	var found []int
	require.Eventually(t, func() bool {
		found = nil
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		require.NoError(t, err)
		for _, path := range stats {
			b, err := os.ReadFile(path) //nolint:gosec // /proc
			if err != nil {
				continue // it has ended
			}
			// pid (name) state parent …; the name may hold anything.
			pid, rest, _ := strings.Cut(string(b), " (")
			name, rest, _ := strings.Cut(rest, ") ")
			if f := strings.Fields(rest); len(f) > 1 && name == memfdName && f[0] != "Z" && f[1] == fmt.Sprint(os.Getpid()) {
				n, err := strconv.Atoi(pid)
				require.NoError(t, err)
				found = append(found, n)
			}
		}
		return len(found) == 1
	}, longest, tick, "one worker is expected")
	return found[0]
}
