package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
)

const canary = "canary-481516"

type holder struct {
	Shown  *secret.Value
	hidden *secret.Value
	value  secret.Value
}

func TestNoFormatterPrintsTheBytes(t *testing.T) {
	h := holder{
		Shown:  secret.Clone([]byte(canary)),
		hidden: secret.Clone([]byte(canary)),
		value:  *secret.Clone([]byte(canary)),
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
		fmt.Fprintf(&out, verb+"\n", h.Shown)
		fmt.Fprintf(&out, verb+"\n", h.value)
	}
	js, err := json.Marshal(map[string]any{"a": h.Shown, "b": h})
	require.NoError(t, err)
	out.Write(js)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", h.Shown, "h", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", h.Shown, "h", h)

	require.Contains(t, out.String(), secret.Redacted)
	require.NotContains(t, out.String(), canary)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
	require.NotContains(t, out.String(), fmt.Sprintf("%v", []byte(canary)))
}

func TestWipeClearsTheWholeBuffer(t *testing.T) {
	buf := append(make([]byte, 0, 64), canary...)
	v := secret.New(buf)
	require.Equal(t, len(canary), v.Len())
	v.Wipe()
	require.Equal(t, make([]byte, 64), buf[:64])
	require.Zero(t, v.Len())
	v.Wipe()
	(*secret.Value)(nil).Wipe()
	require.Empty(t, (*secret.Value)(nil).Bytes())
	require.Nil(t, (*secret.Value)(nil).Copy())
}

func TestCopyHasItsOwnBuffer(t *testing.T) {
	v := secret.Clone([]byte(canary))
	c := v.Copy()
	require.True(t, v.Equal(c))
	v.Wipe()
	require.Equal(t, canary, string(c.Bytes()))
	require.False(t, v.Equal(c))
}
