package prepaid

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// rotated encrypts with one key and has others beside it.
type rotated struct {
	Cipher
	others []Cipher
	err    error
}

func (r rotated) DecryptOthersCBC(ctx context.Context, iv, ct []byte) ([][]byte, error) {
	var all [][]byte
	for _, o := range r.others {
		p, err := o.DecryptCBC(ctx, iv, ct)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, r.err
}

// TestAnAnswerUnderAnotherGeneration: around a rotation the platform may use the key
// before or after ours; anything else stays unreadable.
func TestAnAnswerUnderAnotherGeneration(t *testing.T) {
	now, before, after, foreign := newCipher(t), randomCipher(t), randomCipher(t), randomCipher(t)
	e := envelope{cipher: rotated{Cipher: now, others: []Cipher{after, before}}, iv: IVPrefix}
	const text = `{"responseCode":"00"}`
	sealed := func(c Cipher) []byte {
		t.Helper()
		body, err := envelope{cipher: c, iv: IVPrefix}.seal(t.Context(), append(make([]byte, 0, grown(len(text))), text...))
		require.NoError(t, err)
		return body[len(`{"token":"`) : len(body)-len(`"}`)]
	}
	for name, c := range map[string]Cipher{"now": now, "before": before, "after": after} {
		f, err := e.open(t.Context(), sealed(c))
		require.NoError(t, err, name)
		require.Len(t, f, 1, name)
		f.wipe()
	}
	_, err := e.open(t.Context(), sealed(foreign))
	require.ErrorIs(t, err, errUnreadable)
	away := errors.New("token absent")
	e.cipher = rotated{Cipher: now, err: away}
	_, err = e.open(t.Context(), sealed(before))
	require.ErrorIs(t, err, away)
	_, err = e.open(t.Context(), sealed(now))
	require.NoError(t, err)
}

func randomCipher(t *testing.T) *softCipher {
	t.Helper()
	key := make([]byte, len(testKey))
	_, _ = rand.Read(key)
	b, err := aes.NewCipher(key)
	require.NoError(t, err)
	return &softCipher{block: b}
}
