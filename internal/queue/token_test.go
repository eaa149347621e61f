package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

// tokenKEK fits a key of a real token to what the journal asks for.
type tokenKEK struct{ *keystore.Wrapper }

func (k tokenKEK) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	b, err := k.Wrapper.Unwrap(ctx, wrapped, aad)
	if errors.Is(err, keystore.ErrCiphertext) {
		return nil, fmt.Errorf("%w: %w", queue.ErrKeyMismatch, err)
	}
	return b, err
}

// TestWithKeysOfARealToken seals under each kind of key that a token may have.
func TestWithKeysOfARealToken(t *testing.T) {
	t.Parallel()
	store := softhsmtest.New(t).Open(t)
	key := func(label string, kind keystore.Kind) queue.KEK {
		info, err := store.Generate(t.Context(), keystore.NewKey{Label: label, Kind: kind})
		require.NoError(t, err)
		w, err := store.Wrapper(info.URI())
		require.NoError(t, err)
		return tokenKEK{w}
	}
	for _, kind := range []keystore.Kind{keystore.KindAES256, keystore.KindRSA2048Unwrap} {
		t.Run(string(kind), func(t *testing.T) {
			opt := options(t)
			opt.KEK, opt.PINKEK = key("kek "+string(kind), kind), key("pin kek "+string(kind), kind)
			db := open(t, opt)
			r := withPIN()
			require.NoError(t, db.Add(t.Context(), r, pin("493817")))
			require.NoError(t, db.Close())

			db = open(t, opt)
			got, err := db.Get(t.Context(), r.Seq)
			require.NoError(t, err)
			require.Equal(t, r, got)
			v, err := db.Secret(t.Context(), got)
			require.NoError(t, err)
			require.Equal(t, "493817", string(v.Bytes()))
			require.NoError(t, db.Close())

			other := opt
			other.KEK = opt.PINKEK
			require.ErrorIs(t, refused(t, other), queue.ErrWrongKEK)

			swapped := opt
			swapped.PINKEK = opt.KEK
			db = open(t, swapped)
			_, err = db.Secret(t.Context(), got)
			require.ErrorIs(t, err, txn.ErrSecretLost)
			require.NoError(t, db.Close())
		})
	}
}
