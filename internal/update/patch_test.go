package update_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
)

func TestAPatchIsSmallAndExact(t *testing.T) {
	old := program(1, 2<<20)
	fresh := bytes.Clone(old)
	for i := 0; i < len(fresh); i += 100_000 {
		copy(fresh[i:], "something else was linked in here")
	}
	fresh = append(fresh, program(9, 5_000)...)
	var patch bytes.Buffer
	require.NoError(t, update.MakePatch(old, fresh, &patch))
	require.Less(t, patch.Len(), 20_000)
	dir := t.TempDir()
	oldFile, patchFile := filepath.Join(dir, "old"), filepath.Join(dir, "patch")
	require.NoError(t, os.WriteFile(oldFile, old, 0o600))
	require.NoError(t, os.WriteFile(patchFile, patch.Bytes(), 0o600))
	sum := sha256.Sum256(fresh)
	tg := update.Target{SHA256: hex.EncodeToString(sum[:]), Length: int64(len(fresh))}
	path, err := update.ApplyPatch(oldFile, patchFile, tg, dir)
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(fresh, got))

	for name, spoil := range map[string]func(){
		"another old program": func() { require.NoError(t, os.WriteFile(oldFile, program(2, 2<<20), 0o600)) },
		"a torn patch":        func() { require.NoError(t, os.Truncate(patchFile, int64(patch.Len()/2))) },
		"no patch":            func() { require.NoError(t, os.WriteFile(patchFile, []byte("nothing"), 0o600)) },
	} {
		spoil()
		_, err := update.ApplyPatch(oldFile, patchFile, tg, dir)
		require.ErrorIs(t, err, update.ErrPatch, name)
	}
}

// A signed patch may still be wrong, or unfold without end: the program's own length
// and digest decide, and the whole file is fetched instead.
func TestAPatchThatDoesNotFitIsReplacedByTheWholeFile(t *testing.T) {
	var bomb bytes.Buffer
	require.NoError(t, update.MakePatch(program(1, 30_000), make([]byte, 50<<20), &bomb))
	for name, patch := range map[string][]byte{"wrong": []byte("not a patch"), "a bomb": bomb.Bytes()} {
		t.Run(name, func(t *testing.T) {
			p, m := newPublisher(t), newMachine(t)
			p.release("1.0.0", program(1, 30_000))
			_, err := m.run(p)
			require.NoError(t, err)
			p.release("1.1.0", program(2, 30_000), "1.0.0")
			p.replacePatch("1.1.0", patch)
			_, err = m.run(p)
			require.NoError(t, err)
			require.Equal(t, "1.1.0", m.running)
		})
	}
	t.Run("missing", func(t *testing.T) {
		p, m := newPublisher(t), newMachine(t)
		p.release("1.0.0", program(1, 30_000))
		_, err := m.run(p)
		require.NoError(t, err)
		p.release("1.1.0", program(2, 30_000), "1.0.0")
		p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".zst") {
				w.WriteHeader(http.StatusNotFound)
				return true
			}
			return false
		})
		_, err = m.run(p)
		require.NoError(t, err)
		require.Equal(t, "1.1.0", m.running)
	})
}

// FuzzTimestamp feeds whatever as timestamp: it is refused or believed, and never
// ends the program.
func FuzzTimestamp(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"signed":{"_type":"timestamp"},"signatures":[]}`))
	f.Add([]byte(`{"signed":{"_type":"timestamp","meta":{"snapshot.json":null}},"signatures":[{"keyid":"x","sig":"00"}]}`))
	p := newPublisher(f)
	k := p.trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "timestamp.json") {
				_, _ = w.Write(b)
				return true
			}
			return false
		})
		src, err := update.NewSource(update.SourceOptions{URL: p.url})
		require.NoError(t, err)
		defer src.Close()
		_, err = k.Refresh(t.Context(), src)
		require.Error(t, err)
	})
}
