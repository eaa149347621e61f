package keystore

import (
	"context"

	"gardu/internal/keystore/protocol"
)

// Token names the token as configured.
func (s *Store) Token() string { return s.token.String() }

// Prove finds the key anew, has it sign, and says by which mechanism.
func (g *Signer) Prove(ctx context.Context) (Mechanism, error) {
	if _, err := g.k.again(ctx); err != nil {
		return "", err
	}
	return g.prove(ctx)
}

// Prove finds the key anew, has it authenticate, and says by which mechanism.
func (m *MAC) Prove(ctx context.Context) (Mechanism, error) {
	if m.held != nil {
		_, err := m.Sum(ctx, []byte("self-test"))
		return MechanismSHA512HMAC, err
	}
	return MechanismSHA512HMAC, m.selfTest(ctx)
}

// Prove finds the key anew, has it encrypt and decrypt, and says by which mechanism.
func (c *Cipher) Prove(ctx context.Context) (Mechanism, error) {
	if c.held != nil {
		_, err := c.EncryptCBC(ctx, make([]byte, 16), make([]byte, 16))
		return MechanismAESCBC, err
	}
	return MechanismAESCBC, c.selfTest(ctx)
}

// Prove finds the key anew, has it wrap and unwrap, and says by which mechanism.
func (w *Wrapper) Prove(ctx context.Context) (Mechanism, error) {
	if err := w.selfTest(ctx); err != nil {
		return "", err
	}
	r, err := w.k.resolve(ctx)
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case r.typ != protocol.TypeRSA:
		return MechanismAESGCM, nil
	case w.oaep == wrappedOAEPSHA1:
		return MechanismOAEPSHA1, nil
	}
	return MechanismOAEPSHA256, nil
}
