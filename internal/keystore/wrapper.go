package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // OAEP with SHA-1 is all that some tokens have; OAEP does not rest on collision resistance
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"

	"gardu/internal/keystore/protocol"
)

// Wrapper is a key-encryption key: it wraps the data keys that seal the journal.
//
// A wrapped key begins with one byte that says how it was made, so that it can
// be unwrapped after the preference has changed:
//
//	1  AES-256-GCM in the token: IV (12 bytes), ciphertext, tag (16 bytes)
//	2  RSA-OAEP with SHA-1: over SHA-256(aad) and the key
//	3  RSA-OAEP with SHA-256: likewise
//	4  by a later generation of the key: its number (4 bytes, big-endian), then one of the above
//
// Under RSA only unwrapping needs the token; whoever has the public key can make
// a wrapped key, so it proves nothing about its origin.
type Wrapper struct {
	k *key

	mu   sync.Mutex // guards oaep
	oaep byte       // the OAEP format that the token was found to decrypt
}

const (
	wrappedGCM        = 1
	wrappedOAEPSHA1   = 2
	wrappedOAEPSHA256 = 3
	wrappedGeneration = 4

	gcmIV  = 12
	gcmTag = 16
	// maxWrapped is the largest plaintext: an HMAC-SHA512 key of a block. With what
	// binds it, it fits OAEP with SHA-256 under RSA-2048.
	maxWrapped = 128
)

// Wrapper returns the key-encryption key that uri names, AES-256 or RSA by
// its type= (secret-key or private; secret-key when there is none), without
// touching the token. With an RSA key it prefers OAEP with SHA-256 and takes
// SHA-1 where the token refuses that, or wraps by the allowed mechanisms only;
// unwrapping takes what was wrapped by either.
func (s *Store) Wrapper(uri string, allowed ...Mechanism) (*Wrapper, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	w := &Wrapper{}
	known := []Mechanism{MechanismAESGCM}
	if u.Type == "private" {
		known = []Mechanism{MechanismOAEPSHA256, MechanismOAEPSHA1}
		w.k, err = s.key(uri, protocol.ClassPrivate, "private", protocol.TypeRSA)
	} else {
		w.k, err = s.key(uri, protocol.ClassSecret, "secret-key", protocol.TypeAES)
	}
	if err == nil {
		err = w.k.allow(allowed, known...)
	}
	if err != nil {
		return nil, err
	}
	w.k.judge = w.judge
	w.k.kind = KindAES256
	if u.Type == "private" {
		w.k.kind = KindRSA3072Unwrap
	}
	s.enlist(w)
	return w, nil
}

func (w *Wrapper) judge(r *resolved) error {
	if r.typ == protocol.TypeRSA {
		return w.k.strongEnough(r)
	}
	if r.info.Bits != 0 && r.info.Bits != 256 {
		return fmt.Errorf("%w: AES with %d bits, a key-encryption key has 256", ErrKeyWeak, r.info.Bits)
	}
	if !has(r.token, ckmAESGCM, ckfEncrypt) || !has(r.token, ckmAESGCM, ckfDecrypt) {
		return fmt.Errorf("%w: the token has no CKM_AES_GCM; use an RSA key with type=private for this role", ErrUnsupported)
	}
	return nil
}

// ID names the key for messages. It is made of the configured name alone, so it
// is known while the token is absent and stays the same as long as the name does.
func (w *Wrapper) ID() string { return w.k.name }

// WrappedBy names the generation that wrapped: as ID for the first, with @g2 and so
// on for the later ones. It does not ask the token.
func (w *Wrapper) WrappedBy(wrapped []byte) string {
	number, _, ok := cutGeneration(wrapped)
	if !ok || w.k.plain() {
		return w.k.name
	}
	return w.k.generationName(number)
}

// Newest names the generation that Wrap uses.
func (w *Wrapper) Newest(ctx context.Context) (string, error) {
	r, err := w.k.resolve(ctx)
	if err != nil {
		return "", err
	}
	if r.gen <= 1 {
		return w.k.name, nil
	}
	return w.k.generationName(r.gen), nil
}

func (k *key) generationName(number int) string {
	return URI{Object: Name{Base: ParseName(k.uri.Object).Base, Number: number}.String()}.String()
}

// cutGeneration takes off what says the generation.
func cutGeneration(wrapped []byte) (number int, rest []byte, ok bool) {
	if len(wrapped) < 5 || wrapped[0] != wrappedGeneration {
		return 1, wrapped, false
	}
	return int(binary.BigEndian.Uint32(wrapped[1:])), wrapped[5:], true
}

// mark says by which generation r something was wrapped. What the first one wraps
// has no mark, as before there were generations.
func (r *resolved) mark(wrapped []byte) []byte {
	if r.gen <= 1 {
		return wrapped
	}
	b := binary.BigEndian.AppendUint32([]byte{wrappedGeneration}, uint32(r.gen)) //nolint:gosec // of maxDigits
	return append(b, wrapped...)
}

// Wrap encrypts 1 to 128 bytes, bound to aad, and checks that they can be
// unwrapped again before it returns.
func (w *Wrapper) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	const verb = "wrap with"
	if len(plaintext) == 0 || len(plaintext) > maxWrapped {
		return nil, explain(verb, w.k.name, fmt.Errorf("%w: a key of %d bytes; 1 to %d can be wrapped", ErrUnsupported, len(plaintext), maxWrapped))
	}
	r, err := w.k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if r.typ == protocol.TypeRSA {
		return w.wrapRSA(ctx, r, plaintext, aad)
	}
	iv := make([]byte, gcmIV)
	_, _ = rand.Read(iv)
	sealed, err := w.k.run(ctx, protocol.OpEncrypt, verb,
		&protocol.Use{Key: r.name, Mechanism: protocol.MechAESGCM, IV: iv, AAD: aad, Data: plaintext},
		exactly(gcmIV+len(plaintext)+gcmTag))
	if err != nil {
		return nil, err
	}
	wrapped := r.mark(append([]byte{wrappedGCM}, sealed...))
	return wrapped, w.confirm(ctx, wrapped, plaintext, aad)
}

// confirm unwraps what was just wrapped: a data key that cannot be unwrapped
// later would take everything sealed under it along.
func (w *Wrapper) confirm(ctx context.Context, wrapped, plaintext, aad []byte) error {
	back, err := w.Unwrap(ctx, wrapped, aad)
	if err != nil {
		return err
	}
	defer clear(back)
	if subtle.ConstantTimeCompare(back, plaintext) != 1 {
		return explain("wrap with", w.k.name, fmt.Errorf("%w: it does not unwrap what it wrapped", ErrDevice))
	}
	return nil
}

func (w *Wrapper) wrapRSA(ctx context.Context, r *resolved, plaintext, aad []byte) ([]byte, error) {
	w.mu.Lock()
	var formats []byte
	switch {
	case w.oaep != 0:
		formats = []byte{w.oaep}
	default:
		if w.k.may(MechanismOAEPSHA256) {
			formats = append(formats, wrappedOAEPSHA256)
		}
		if w.k.may(MechanismOAEPSHA1) {
			formats = append(formats, wrappedOAEPSHA1)
		}
	}
	w.mu.Unlock()
	pub, ok := r.public.(*rsa.PublicKey)
	if !ok {
		return nil, explain("wrap with", w.k.name, fmt.Errorf("%w: not an RSA key", ErrUnsupported))
	}
	bound := bind(plaintext, aad)
	defer clear(bound)
	var err error
	for _, format := range formats {
		var sealed []byte
		if sealed, err = rsa.EncryptOAEP(oaepHash(format), rand.Reader, pub, bound, nil); err != nil {
			return nil, explain("wrap with", w.k.name, fmt.Errorf("%w: %w", ErrUnsupported, err))
		}
		wrapped := r.mark(append([]byte{format}, sealed...))
		err = w.confirm(ctx, wrapped, plaintext, aad)
		if err == nil {
			w.mu.Lock()
			w.oaep = format
			w.mu.Unlock()
			return wrapped, nil
		}
		if ClassOf(err) != ClassConfiguration {
			return nil, err
		}
	}
	return nil, err
}

func oaepHash(format byte) hash.Hash {
	if format == wrappedOAEPSHA1 {
		return sha1.New() //nolint:gosec // see the import
	}
	return sha256.New()
}

// bind puts a digest of the additional data before the key: tokens do not take
// an OAEP label.
func bind(plaintext, aad []byte) []byte {
	d := sha256.Sum256(aad)
	return append(append(make([]byte, 0, len(d)+len(plaintext)), d[:]...), plaintext...)
}

// Unwrap decrypts what Wrap made with the same aad. The caller clears the
// result. What this key did not make, or not with this aad, is ErrCiphertext.
func (w *Wrapper) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	const verb = "unwrap with"
	number, wrapped, _ := cutGeneration(wrapped)
	r, err := w.maker(ctx, number)
	if err != nil {
		return nil, explain(verb, w.k.name, err)
	}
	if len(wrapped) == 0 {
		return nil, explain(verb, w.k.name, fmt.Errorf("%w: it is empty", ErrCiphertext))
	}
	format, rest := wrapped[0], wrapped[1:]
	switch {
	case format == wrappedGCM && r.typ == protocol.TypeAES:
		if len(rest) <= gcmIV+gcmTag {
			return nil, explain(verb, w.k.name, fmt.Errorf("%w: it is too short", ErrCiphertext))
		}
		return w.k.run(ctx, protocol.OpDecrypt, verb,
			&protocol.Use{Key: r.name, Mechanism: protocol.MechAESGCM, IV: rest[:gcmIV], AAD: aad, Data: rest[gcmIV:]},
			exactly(len(rest)-gcmIV-gcmTag))
	case (format == wrappedOAEPSHA1 || format == wrappedOAEPSHA256) && r.typ == protocol.TypeRSA:
		return w.unwrapRSA(ctx, r, format, rest, aad)
	}
	return nil, explain(verb, w.k.name, fmt.Errorf("%w: format %d is not one of this kind of key", ErrCiphertext, format))
}

// maker is the generation that wrapped.
func (w *Wrapper) maker(ctx context.Context, number int) (*resolved, error) {
	r, err := w.k.resolve(ctx)
	if err != nil || w.k.plain() || r.gen == number {
		return r, err
	}
	return w.k.generation(ctx, number)
}

func (w *Wrapper) unwrapRSA(ctx context.Context, r *resolved, format byte, sealed, aad []byte) ([]byte, error) {
	use := protocol.Use{Key: r.name, Mechanism: protocol.MechOAEPSHA256, Data: sealed}
	if format == wrappedOAEPSHA1 {
		use.Mechanism = protocol.MechOAEPSHA1
	}
	bound, err := w.k.run(ctx, protocol.OpDecrypt, "unwrap with", &use, nil)
	if err != nil {
		return nil, err
	}
	d := sha256.Sum256(aad)
	if len(bound) <= len(d) || subtle.ConstantTimeCompare(bound[:len(d)], d[:]) != 1 {
		clear(bound)
		return nil, explain("unwrap with", w.k.name, fmt.Errorf("%w: %w", ErrCiphertext, errors.New("its additional data differ")))
	}
	return bound[len(d):], nil
}

func (w *Wrapper) tested() *key { return w.k }

func (w *Wrapper) selfTest(ctx context.Context) error {
	if _, err := w.k.again(ctx); err != nil {
		return err
	}
	plain := make([]byte, 32)
	_, _ = rand.Read(plain)
	_, err := w.Wrap(ctx, plain, []byte("self-test"))
	return err
}
