package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// In the system's journal a line has its level as its priority, so that what
// operations.md says finds it: journalctl -p err. Everywhere else it is as it was.
func TestTheJournalKnowsALinesLevel(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		for _, journal := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, journal %v", format, journal), func(t *testing.T) {
				f, err := os.Create(filepath.Join(t.TempDir(), "stream"))
				require.NoError(t, err)
				t.Cleanup(func() { _ = f.Close() })
				st, err := f.Stat()
				require.NoError(t, err)
				sys, ok := st.Sys().(*syscall.Stat_t)
				require.True(t, ok)
				stream := fmt.Sprintf("%d:%d", sys.Dev, sys.Ino)
				if !journal {
					stream += "0" // of a parent that was one
				}
				t.Setenv("JOURNAL_STREAM", stream)
				log, err := newLog(f, logSettings{Format: format, Level: "debug"})
				require.NoError(t, err)
				log = log.With("part", "x").WithGroup("g")
				log.Debug("one", "n", 1)
				log.Info("two")
				log.Warn("three")
				log.Error("four")
				log.Log(t.Context(), slog.LevelError+4, "five")
				b, err := os.ReadFile(f.Name())
				require.NoError(t, err)
				lines := strings.Split(strings.TrimSpace(string(b)), "\n")
				require.Len(t, lines, 5)
				for i, mark := range []string{"<7>", "<6>", "<4>", "<3>", "<3>"} {
					if journal {
						require.True(t, strings.HasPrefix(lines[i], mark), lines[i])
						lines[i] = strings.TrimPrefix(lines[i], mark)
					}
					require.Contains(t, lines[i], "part")
					if format == "json" {
						require.True(t, json.Valid([]byte(lines[i])), lines[i])
					}
				}
				require.Contains(t, lines[0], "one")
			})
		}
	}
	log, err := newLog(os.Stderr, logSettings{Level: "error"})
	require.NoError(t, err)
	require.False(t, log.Enabled(t.Context(), slog.LevelWarn))
}
