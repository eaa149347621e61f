package keystore

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"gardu/internal/keystore/protocol"
)

// Cipher is an AES key for CBC without padding: the caller pads, and takes the
// padding off in constant time. CBC carries no integrity.
type Cipher struct {
	k    *key
	held *held // the key is not in the token
	bits []int // of held
}

// Cipher returns the AES key that uri names, without touching the token. With bits
// given it must be one of these sizes, as far as the token tells.
func (s *Store) Cipher(uri string, bits ...int) (*Cipher, error) {
	k, err := s.key(uri, protocol.ClassSecret, "secret-key", protocol.TypeAES)
	if err != nil {
		return nil, err
	}
	if h := s.heldAs(k); h != nil {
		return &Cipher{k: k, held: h, bits: bits}, nil
	}
	k.kind = KindAES192
	k.judge = func(r *resolved) error {
		if r.info.Bits != 0 && len(bits) > 0 && !slices.Contains(bits, r.info.Bits) {
			return k.unfit(fmt.Errorf("%w: it has %d bits", ErrUnsupported, r.info.Bits))
		}
		if !has(r.token, ckmAESCBC, ckfEncrypt) || !has(r.token, ckmAESCBC, ckfDecrypt) {
			return fmt.Errorf("%w: the token has no CKM_AES_CBC", ErrUnsupported)
		}
		return nil
	}
	c := &Cipher{k: k}
	s.enlist(c)
	return c, nil
}

// EncryptCBC encrypts whole blocks under an IV of 16 bytes.
func (c *Cipher) EncryptCBC(ctx context.Context, iv, plaintext []byte) ([]byte, error) {
	return c.crypt(ctx, protocol.OpEncrypt, "encrypt with", iv, plaintext)
}

// DecryptCBC decrypts whole blocks under an IV of 16 bytes. It cannot tell a
// changed ciphertext from a right one.
func (c *Cipher) DecryptCBC(ctx context.Context, iv, ciphertext []byte) ([]byte, error) {
	return c.crypt(ctx, protocol.OpDecrypt, "decrypt with", iv, ciphertext)
}

// DecryptOthersCBC decrypts under every generation of the key but the one in use:
// for a while after a rotation, and shortly before one, the other side may still or
// already encrypt under another. CBC cannot tell which is right; the caller can.
func (c *Cipher) DecryptOthersCBC(ctx context.Context, iv, ciphertext []byte) ([][]byte, error) {
	if c.held != nil {
		return nil, nil
	}
	others, err := c.k.others(ctx)
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, r := range others {
		plain, err := c.k.run(ctx, protocol.OpDecrypt, "decrypt with",
			&protocol.Use{Key: r.name, Mechanism: protocol.MechAESCBC, IV: iv, Data: ciphertext}, exactly(len(ciphertext)))
		if err != nil {
			return all, err
		}
		all = append(all, plain)
	}
	return all, nil
}

func (c *Cipher) crypt(ctx context.Context, op protocol.Op, verb string, iv, data []byte) ([]byte, error) {
	if len(iv) != aes.BlockSize || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, explain(verb, c.k.name,
			fmt.Errorf("%w: CBC takes an IV of 16 bytes and whole blocks of 16, not %d and %d bytes", ErrUnsupported, len(iv), len(data)))
	}
	if c.held != nil {
		return c.held.crypt(ctx, op, iv, data, c.bits)
	}
	r, err := c.k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return c.k.run(ctx, op, verb, &protocol.Use{Key: r.name, Mechanism: protocol.MechAESCBC, IV: iv, Data: data}, exactly(len(data)))
}

func (c *Cipher) selfTest(ctx context.Context) error {
	if _, err := c.k.again(ctx); err != nil {
		return err
	}
	iv, plain := make([]byte, aes.BlockSize), make([]byte, 2*aes.BlockSize)
	_, _ = rand.Read(iv)
	_, _ = rand.Read(plain)
	sealed, err := c.EncryptCBC(ctx, iv, plain)
	if err != nil {
		return err
	}
	back, err := c.DecryptCBC(ctx, iv, sealed)
	if err == nil && !bytes.Equal(back, plain) {
		err = explain("test", c.k.name, fmt.Errorf("%w: %w", ErrDevice, errors.New("it does not decrypt what it encrypted")))
	}
	return err
}

func (c *Cipher) tested() *key { return c.k }
