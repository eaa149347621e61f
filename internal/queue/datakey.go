package queue

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// KEK wraps keys with a key that never leaves its token. Both calls may take as
// long as the token takes and must return soon after ctx ends.
type KEK interface {
	// ID names the key that Wrap uses, for messages and for telling when an old
	// key is no longer needed. At most 255 bytes. See Generations.
	ID() string
	// Wrap encrypts plaintext, at most 64 bytes, and binds it to aad.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unwrap reverses Wrap, also of earlier generations of the key. Where the bytes
	// are not of this key or were changed, the error wraps ErrKeyMismatch; every
	// other error means that the token could not be asked.
	Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

const (
	keyLen     = 32
	keyAge     = 24 * time.Hour
	keySeals   = 1 << 24
	maxWrapped = 4096
	// sealLimit is where random nonces under one key come too close to repeating
	// (NIST SP 800-38D, 8.3: at most 2^32 with a chance of 2^-32). It is reached
	// only if no new key could be wrapped for a very long time.
	sealLimit = 1 << 32
)

// dataKey seals records. Its bytes live only inside aead.
type dataKey struct {
	id      uint32
	aead    cipher.AEAD
	created time.Time
	kek     string // the KEK that wraps it in the file
	wrapped []byte // as in the file
	seals   atomic.Uint64
}

// newAEAD takes the bytes of a key and clears them.
func newAEAD(key []byte) (cipher.AEAD, error) {
	defer clear(key)
	if len(key) != keyLen {
		return nil, fmt.Errorf("key has %d bytes and not %d: %w", len(key), keyLen, ErrKeyMismatch)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("use key: %w", err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("use key: %w", err)
	}
	return a, nil
}

// randomKey returns a fresh key, as an AEAD and wrapped.
func randomKey(ctx context.Context, kek KEK, aad []byte) (cipher.AEAD, []byte, error) {
	key := make([]byte, keyLen)
	_, _ = rand.Read(key) // never fails, see crypto/rand
	wrapped, err := kek.Wrap(ctx, key, aad)
	if err != nil {
		clear(key)
		return nil, nil, fmt.Errorf("wrap key under %s: %w", kek.ID(), err)
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		clear(key)
		return nil, nil, fmt.Errorf("wrap key under %s: %d bytes came back, want 1 to %d", kek.ID(), len(wrapped), maxWrapped)
	}
	a, err := newAEAD(key)
	return a, wrapped, err
}

func unwrapKey(ctx context.Context, kek KEK, wrapped, aad []byte) (cipher.AEAD, error) {
	key, err := kek.Unwrap(ctx, wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("unwrap key under %s: %w", kek.ID(), err)
	}
	return newAEAD(key)
}

func dataKeyAAD(id journalID, key uint32) []byte {
	return newAdditional("gardu journal data key", id).u32(key)
}

func newDataKey(ctx context.Context, kek KEK, journal journalID, id uint32) (*dataKey, error) {
	a, wrapped, err := randomKey(ctx, kek, dataKeyAAD(journal, id))
	if err != nil {
		return nil, err
	}
	return &dataKey{id: id, aead: a, created: time.Now(), kek: wrappedBy(kek, wrapped), wrapped: wrapped}, nil
}

// wrappedKey is a key as it is stored: in the journal's meta bucket, and with
// another mark as a file in the key folder.
//
//	4     mark
//	8     creation, signed, in milliseconds: of a data key since 1970, of a secret's key since the machine started
//	1, n  length and name of the KEK
//	2, m  length and bytes that the KEK made
type wrappedKey struct {
	created int64
	kek     string
	wrapped []byte
}

const (
	dataKeyMagic   = "GDK\x01"
	secretKeyMagic = "GDS\x01"
)

func (w *wrappedKey) encode(magic string) ([]byte, error) {
	if len(w.kek) == 0 || len(w.kek) > 255 {
		return nil, fmt.Errorf("name of the key encryption key has %d bytes, want 1 to 255: %w", len(w.kek), ErrInvalid)
	}
	b := append([]byte(nil), magic...)
	b = binary.BigEndian.AppendUint64(b, uint64(w.created)) //nolint:gosec // two's complement is the format
	b = append(b, byte(len(w.kek)))                         //nolint:gosec // at most 255, see above
	b = append(b, w.kek...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.wrapped))) //nolint:gosec // at most maxWrapped
	return append(b, w.wrapped...), nil
}

func parseWrappedKey(magic string, b []byte) (*wrappedKey, error) {
	if len(b) < 4+8+1+1+2+1 || string(b[:4]) != magic {
		return nil, errors.New("not a wrapped key")
	}
	w := &wrappedKey{created: int64(binary.BigEndian.Uint64(b[4:]))} //nolint:gosec // two's complement is the format
	var ok bool
	if w.kek, b, ok = cutShort(b[12:]); !ok || w.kek == "" || len(b) < 3 {
		return nil, errors.New("wrapped key: name of the key encryption key is cut off")
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > maxWrapped || n != len(b)-2 {
		return nil, errors.New("wrapped key: wrong length")
	}
	w.wrapped = append([]byte(nil), b[2:]...)
	return w, nil
}
