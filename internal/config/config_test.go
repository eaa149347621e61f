package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/config"
)

type file struct {
	Kiosk struct {
		Number int    `toml:"number"`
		Name   string `toml:"name"`
	} `toml:"kiosk"`
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(p, []byte(text), mode))
	return p
}

func TestErrorsNameFileLineAndKey(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       int
		key, say   string
	}{
		{"unknown key", "[kiosk]\nnumber = 1\nnumbr = 2\n", 3, "kiosk.numbr", "unknown key"},
		{"unknown table", "[kisok]\nnumber = 1\n", 1, "kisok", "unknown key"},
		{"wrong type", "[kiosk]\nnumber = \"one\"\n", 2, "kiosk.number", "is a text, and a whole number is wanted"},
		{"not TOML", "[kiosk\n", 1, "", ""},
		{"twice", "[kiosk]\nnumber = 1\nnumber = 2\n", 3, "number", "already"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := write(t, "gardu.toml", c.text, 0o600)
			var f file
			err := config.Read(p, &f)
			var ce *config.Error
			require.ErrorAs(t, err, &ce)
			require.Equal(t, p, ce.File)
			require.Equal(t, c.line, ce.Line, err)
			require.Equal(t, c.key, ce.Key, err)
			require.ErrorContains(t, err, c.say)
			require.NotEmpty(t, ce.Hint)
		})
	}
}

func TestAFileThatIsNotThere(t *testing.T) {
	err := config.Read(filepath.Join(t.TempDir(), "no.toml"), &file{})
	require.ErrorContains(t, err, "there is no such file; name the configuration with --config")
	require.Error(t, config.Read(t.TempDir(), &file{}))
}

func TestValuesAndDefaults(t *testing.T) {
	f := file{}
	f.Kiosk.Number = 7
	require.NoError(t, config.Parse("x", []byte("[kiosk]\nname = \"north\"\n"), &f))
	require.Equal(t, 7, f.Kiosk.Number)
	require.Equal(t, "north", f.Kiosk.Name)
}

func TestLine(t *testing.T) {
	p := write(t, "g.toml", "# top\n[kiosk]\nnumber = 1\n\n[finpay.tls]\n  ca_file = \"x\"\n", 0o600)
	require.Equal(t, 3, config.Line(p, "kiosk.number"))
	require.Equal(t, 6, config.Line(p, "finpay.tls.ca_file"))
	require.Zero(t, config.Line(p, "kiosk.ca_file"))
}

func TestSecretFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want, say  string
	}{
		{"plain", "abc", 0o600, "abc", ""},
		{"one newline goes", "abc\n", 0o640, "abc", ""},
		{"two newlines", "abc\n\n", 0o600, "", "control character"},
		{"empty", "", 0o600, "", "empty"},
		{"only a newline", "\n", 0o600, "", "empty"},
		{"others can read it", "abc", 0o644, "", "everybody"},
		{"a tab", "a\tb", 0o600, "", "control character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := config.SecretFile(write(t, "s", c.text, c.mode))
			if c.say != "" {
				require.ErrorContains(t, err, c.say)
				require.NotContains(t, err.Error(), "abc")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(v.Bytes()))
		})
	}
	_, err := config.SecretFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "there is no such file")
}

func FuzzParse(f *testing.F) {
	f.Add("[kiosk]\nnumber = 1\n")
	f.Add("[kiosk]\nname = \"30m\"")
	f.Add("a.b.c = {x = [1, 2")
	f.Fuzz(func(t *testing.T, s string) {
		var d file
		if err := config.Parse("x", []byte(s), &d); err != nil {
			var ce *config.Error
			require.ErrorAs(t, err, &ce)
		}
	})
}

// TestWrongTypesAreSaidInTheWordsOfTheFile goes through every pair of types: what
// go-toml says of them names Go's.
func TestWrongTypesAreSaidInTheWordsOfTheFile(t *testing.T) {
	type inner struct {
		A int `toml:"a"`
	}
	var dst struct {
		Text  string            `toml:"text"`
		Count int               `toml:"count"`
		Small uint8             `toml:"small"`
		Real  float64           `toml:"real"`
		Flag  bool              `toml:"flag"`
		List  []string          `toml:"list"`
		Map   map[string]string `toml:"map"`
		Table inner             `toml:"table"`
		Ptr   *inner            `toml:"ptr"`
	}
	for _, key := range []string{"text", "count", "small", "real", "flag", "list", "map", "table", "ptr"} {
		for _, value := range []string{`"x"`, "1", "-1", "300", "1.5", "true", `["x"]`, "[1]", `{a = "x"}`, "{a = 1}", "2026-01-02", "10:00:00"} {
			err := config.Parse("x", []byte(key+" = "+value+"\n"), &dst)
			if err == nil {
				continue
			}
			require.NotRegexp(t, `struct|uint|int64|float64|\[\]string|map\[|config_test|TOML`, err.Error(), "%s = %s", key, value)
		}
	}
}
