package operator

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOperatorsComeAndGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "operators.toml")
	state := filepath.Join(t.TempDir(), "operators.json")
	var made []*Made
	for _, id := range []string{"7", "77", "777"} {
		m, err := Make(id, "Bank")
		require.NoError(t, err)
		require.NoError(t, Add(path, m))
		require.ErrorIs(t, Add(path, m), ErrThere)
		made = append(made, m)
	}
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, st.Mode().Perm()&0o137, "nobody else reads it, and it is no program")

	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append([]byte("# those of branch 12\n"), text...), 0o600))
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, Remove(path, "77"))
	require.ErrorIs(t, Remove(path, "77"), ErrAbsent)
	g, err := Open(path, state, slog.New(slog.DiscardHandler), time.Now)
	require.NoError(t, err)
	require.Equal(t, []Standing{{"7", recoveryCount}, {"777", recoveryCount}}, g.All())
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), "# those of branch 12\n")
	require.Contains(t, string(text), made[2].Table)
	require.NotContains(t, string(text), made[1].Table)
	st, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), "as it was")

	require.NoError(t, Remove(path, "7"))
	require.NoError(t, Remove(path, "777"))
	require.NoError(t, g.Reload(path))
	require.Empty(t, g.All(), "nobody is left")
}
