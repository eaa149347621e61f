package keystore_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/protocol"
)

// answer is one frame from the worker.
func answer(id uint32, status protocol.Status, body string) []byte {
	b := append(protocol.Begin(nil, protocol.Head{ID: id, Code: status}), body...)
	if err := protocol.Finish(b, 0); err != nil {
		panic(err)
	}
	return b
}

func TestAnswersReachTheirCallers(t *testing.T) {
	large := answer(2, protocol.StatusOK, string(make([]byte, 100<<10)))
	b := append(answer(3, protocol.StatusFailed, "x"), large...)
	b = append(b, answer(1, protocol.StatusOK, "")...)
	n, err := keystore.ReadAnswers(3, b)
	require.NoError(t, err)
	require.Equal(t, 3, n)

	n, err = keystore.ReadAnswers(3, append(answer(1, protocol.StatusOK, ""), answer(1, protocol.StatusOK, "")...))
	require.ErrorIs(t, err, protocol.ErrFrame, "one request, two answers")
	require.Equal(t, 1, n)
}

// FuzzAnswers has the agent's end of the socket read foreign bytes.
func FuzzAnswers(f *testing.F) {
	f.Add(answer(1, protocol.StatusOK, "body"))
	f.Add(append(answer(3, protocol.StatusFailed, ""), answer(2, protocol.StatusOK, "b")...))
	f.Add(answer(4, protocol.StatusOK, ""))
	f.Add(answer(1, 9, ""))
	f.Add([]byte{255, 255, 255, 255})
	f.Add([]byte{0, 0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := keystore.ReadAnswers(3, b)
		require.LessOrEqual(t, n, 3)
		if err != nil {
			require.ErrorIs(t, err, protocol.ErrFrame)
		}
	})
}

func TestLaneCarriesOneAnswerAtATime(t *testing.T) {
	large := answer(7, protocol.StatusOK, string(make([]byte, 100<<10)))
	for name, c := range map[string]struct {
		bytes    []byte
		answered bool
		is       error
	}{
		"the answer":       {answer(7, protocol.StatusOK, "body"), true, nil},
		"a slow one":       {answer(7, protocol.StatusOK|protocol.Slow, "body"), true, nil},
		"a large one":      {large, true, nil},
		"another's":        {answer(6, protocol.StatusOK, "body"), false, protocol.ErrFrame},
		"two":              {append(answer(7, protocol.StatusOK, ""), answer(7, protocol.StatusOK, "")...), false, protocol.ErrFrame},
		"half of one":      {large[:len(large)/2], false, keystore.ErrEnded},
		"nothing":          {nil, false, keystore.ErrEnded},
		"a foreign status": {answer(7, 9, ""), false, protocol.ErrFrame},
		"no frame":         {[]byte("HTTP/1.1 400 Bad Request"), false, protocol.ErrFrame},
	} {
		t.Run(name, func(t *testing.T) {
			answered, err := keystore.ReadLane(7, c.bytes)
			require.Equal(t, c.answered, answered)
			require.ErrorIs(t, err, c.is)
		})
	}
}

// FuzzLane has the agent's end of a lane read foreign bytes.
func FuzzLane(f *testing.F) {
	f.Add(answer(7, protocol.StatusOK, "body"))
	f.Add(answer(6, protocol.StatusFailed, ""))
	f.Add([]byte{255, 255, 255, 255})
	f.Add([]byte{0, 0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		answered, err := keystore.ReadLane(7, b)
		if err != nil {
			require.False(t, answered)
			require.True(t, errors.Is(err, protocol.ErrFrame) || errors.Is(err, keystore.ErrEnded), err)
			return
		}
		require.True(t, answered)
	})
}
