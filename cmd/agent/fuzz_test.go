package main

import (
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/admin"
	"gardu/internal/config"
)

// FuzzSettings reads a configuration of every table. Whatever it says, the end is a
// configuration or an error that names the file and says what to do.
func FuzzSettings(f *testing.F) {
	text, err := os.ReadFile(sample)
	require.NoError(f, err)
	// Without its comments, which are four fifths of it and nothing to the decoder.
	f.Add(regexp.MustCompile(`(?m)^\s*#.*\n|^\n`).ReplaceAll(text, nil))
	for _, seed := range []string{
		"", "[kiosk]\nnumber = 1\n", "finpay = 1\n", "[finpay]\nreset_pin = 7\n", "[prepaid]\nreject_codes = { 7 = \"refused\" }\n",
		"[prepaid]\nsuccess_codes = [1]\n", "[netzme.tls]\ndial_timeout = 5\n", "kiosk = []\n", "[[finpay]]\n", "[token]\nenvironment = [\"A\"]\n",
	} {
		f.Add([]byte(seed))
	}
	file := filepath.Join(f.TempDir(), "gardu.toml")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(file, b, 0o600))
		s, err := loadSettings(file)
		if err == nil {
			require.NotEmpty(t, s.providers)
			require.NotEmpty(t, s.roles())
			return
		}
		var ce *config.Error
		require.ErrorAs(t, err, &ce)
		require.Equal(t, file, ce.File)
		require.NotEmpty(t, ce.Hint, err)
	})
}

// FuzzStaff reads a staff file.
func FuzzStaff(f *testing.F) {
	for _, seed := range []string{
		"[[staff]]\nid = \"1001\"\ncode = \"10012345\"\n", "[[staff]]\nid = \"a\"\ncode = \"1\"\n", "staff = 1\n", "", "[staff]\n",
		"[[staff]]\nid = \"1\"\ncode = \"10012345\"\n[[staff]]\nid = \"1\"\ncode = \"10012346\"\n",
		"[[staff]]\nid = \"1\"\ncode = \"10012345\"\n[[staff]]\nid = \"2\"\ncode = \"10012345\"\n",
	} {
		f.Add([]byte(seed))
	}
	file := filepath.Join(f.TempDir(), "staff.toml")
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, os.WriteFile(file, b, 0o600))
		l, err := readStaff(file, slog.New(slog.DiscardHandler))
		if err != nil {
			require.NotErrorIs(t, err, fs.ErrNotExist)
			var ce *config.Error
			require.ErrorAs(t, err, &ce)
			return
		}
		require.NotEmpty(t, l.staff)
		seen := map[string]bool{}
		for _, m := range l.staff {
			require.GreaterOrEqual(t, m.code.Len(), staffDigits)
			require.True(t, allDigits(m.code.Bytes()))
			require.False(t, seen[m.id])
			seen[m.id] = true
		}
	})
}

// FuzzVerbs gives every verb of the queue whatever arguments there can be, on an
// agent that is out of service.
func FuzzVerbs(f *testing.F) {
	for _, seed := range []string{``, `null`, `"ABC"`, `{}`, `{"id":"A","note":"n"}`, `[]`, `7`, `{"id":1}`, `"\ud800"`} {
		f.Add([]byte(seed))
	}
	ag := newAgent(defaultSettings(), slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, args []byte) {
		for name, v := range ag.queueVerbs() {
			_, err := v.Do(t.Context(), json.RawMessage(args), admin.Peer{Name: "ops"})
			require.Error(t, err, name)
			require.NotErrorIs(t, err, fs.ErrNotExist, name)
		}
	})
}
