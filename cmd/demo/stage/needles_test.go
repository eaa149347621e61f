package stage

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNeedlesAreFound(t *testing.T) {
	const secret = "837261504962"
	n := NewNeedles(secret)
	for name, text := range map[string]string{
		"text":                  "a" + secret + "b",
		"hexadecimal":           "00" + hex.EncodeToString([]byte(secret)),
		"Base64":                base64.StdEncoding.EncodeToString([]byte(secret)),
		"Base64 of more":        base64.StdEncoding.EncodeToString([]byte(`{"pin":"` + secret + `"}`)),
		"Base64 one byte later": base64.StdEncoding.EncodeToString([]byte(`1{"pin":"` + secret + `"}`)),
		"Base64 two later":      base64.RawURLEncoding.EncodeToString([]byte(`12{"pin":"` + secret + `"}`)),
	} {
		t.Run(name, func(t *testing.T) {
			err := n.Find("here", []byte(text))
			require.ErrorContains(t, err, "a secret stands in here")
			require.NotContains(t, err.Error(), secret)
		})
	}
	require.NoError(t, n.Find("here", []byte("837261504963 83726150496 0837261504")))
}

func TestNeedlesInFiles(t *testing.T) {
	dir := t.TempDir()
	n := NewNeedles("837261504962")
	require.ErrorContains(t, n.FindIn(1, dir), "only 0 files")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "deep"), 0o700))
	file := filepath.Join(dir, "deep", "file")
	require.NoError(t, os.WriteFile(file, []byte("nothing"), 0o600))
	require.NoError(t, n.FindIn(1, dir))
	require.NoError(t, n.FindIn(1, file), "a file stands for itself")
	require.NoError(t, os.WriteFile(file, []byte("x837261504962"), 0o600))
	require.ErrorContains(t, n.FindIn(1, dir), "file at byte 1")
	require.Error(t, n.FindIn(0, filepath.Join(dir, "missing")))
}
