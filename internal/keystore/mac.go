package keystore

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"

	"gardu/internal/keystore/protocol"
)

// MAC is a secret for HMAC-SHA512.
type MAC struct {
	k    *key
	held *held // the key is not in the token
}

// MAC returns the secret key that uri names, without touching the token. The one
// mechanism that may be allowed is MechanismSHA512HMAC.
func (s *Store) MAC(uri string, allowed ...Mechanism) (*MAC, error) {
	k, err := s.key(uri, protocol.ClassSecret, "secret-key", protocol.TypeGeneric)
	if err == nil {
		err = k.allow(allowed, MechanismSHA512HMAC)
	}
	if err != nil {
		return nil, err
	}
	if h := s.heldAs(k); h != nil {
		return &MAC{k: k, held: h}, nil
	}
	k.kind = KindHMAC
	k.judge = func(r *resolved) error {
		if !has(r.token, ckmSHA512HMAC, ckfSign) {
			return fmt.Errorf("%w: the token has no CKM_SHA512_HMAC", ErrUnsupported)
		}
		return nil
	}
	m := &MAC{k: k}
	s.enlist(m)
	return m, nil
}

// Sum returns the 64 bytes of HMAC-SHA512 over data.
func (m *MAC) Sum(ctx context.Context, data []byte) ([]byte, error) {
	if m.held != nil {
		return m.held.sum(ctx, data)
	}
	r, err := m.k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return m.k.run(ctx, protocol.OpMAC, "authenticate with",
		&protocol.Use{Key: r.name, Mechanism: protocol.MechSHA512HMAC, Data: data}, exactly(sha512.Size))
}

// selfTest compares with the check value where the token would compute one.
func (m *MAC) selfTest(ctx context.Context) error {
	r, err := m.k.again(ctx)
	if err != nil {
		return err
	}
	if r.info.KCV == "" {
		_, err := m.Sum(ctx, []byte("self-test"))
		return err
	}
	_, err = m.k.run(ctx, protocol.OpMAC, "test",
		&protocol.Use{Key: r.name, Mechanism: protocol.MechSHA512HMAC}, func(sum []byte) error {
			if len(sum) != sha512.Size || hex.EncodeToString(sum[:3]) != r.info.KCV {
				return errors.New("with another value than before")
			}
			return nil
		})
	return err
}

func (m *MAC) tested() *key { return m.k }
