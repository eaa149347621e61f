package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzRequest sends bytes to the socket as anybody on the machine can.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "{}\n", `{"verb":"echo","args":"x"}` + "\n", `{"verb":"echo"}{"verb":"echo"}` + "\n", `{"verb":"operators","args":{}}` + "\n",
		`{"verb":"echo","more":1}` + "\n", `{"verb":["echo"]}` + "\n", `["echo"]` + "\n", `{"verb":"none","args":null}` + "\n", `{"args":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		ran := false
		s := &Server{o: Options{Log: slog.New(slog.DiscardHandler), Verbs: map[string]Verb{
			"echo": {Access: Screen, Do: func(_ context.Context, args json.RawMessage, _ Peer) (any, error) {
				ran = true
				return args, nil
			}},
			"operators": {Do: func(context.Context, json.RawMessage, Peer) (any, error) {
				return nil, errors.New("not for the screen")
			}},
		}}}
		here, there := net.Pipe()
		go func() {
			_, _ = there.Write(line)
			_ = there.Close()
		}()
		out, err := s.do(t.Context(), here, Peer{Name: "kiosk"}, Screen)
		_ = here.Close()
		if err != nil {
			require.NotContains(t, err.Error(), "not for the screen")
			require.NotEmpty(t, err.Error())
			return
		}
		require.True(t, ran)
		require.True(t, json.Valid(out))
		require.True(t, bytes.Contains(line, []byte("\n")))
	})
}

// FuzzReply reads what a program in the agent's place could answer.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{"", "\n", `{"ok":true,"data":{"url":"x"}}`, `{"ok":false,"error":"e","hint":"h","kind":"k"}`, `{"ok":true}`, `{"ok":true,"data":[]}`, "nonsense"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		path := t.TempDir() + "/s"
		l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = c.Write(answer)
			_ = c.Close()
		}()
		var dst map[string]string
		err = Ask(t.Context(), path, "verb", nil, &dst)
		_ = l.Close()
		<-done
		var said *AskError
		if errors.As(err, &said) {
			require.Equal(t, said.Message != "" || said.Advice != "", said.Error() != "")
		}
	})
}
