package prepaid

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Cipher is AES-192-CBC under the platform's key, without padding: both texts are
// whole blocks of 16 bytes and equally long. It must return a buffer of its own
// and keep neither argument, since the plaintext is cleared after the call.
type Cipher interface {
	EncryptCBC(ctx context.Context, iv, plaintext []byte) ([]byte, error)
	DecryptCBC(ctx context.Context, iv, ciphertext []byte) ([]byte, error)
}

const blockSize = 16 // bytes, of AES

// errUnreadable is the one error for everything that can be wrong with an answer:
// its Base64, its length, its padding, its JSON, its fields. Telling them apart
// would tell whoever sent a changed token how far it got.
var errUnreadable = errors.New("the answer cannot be read")

// cipherError: the token device did not do its work. It says nothing about the
// message.
type cipherError struct {
	Op  string
	Err error
}

func (e *cipherError) Error() string { return e.Op + " envelope: " + e.Err.Error() }
func (e *cipherError) Unwrap() error { return e.Err }

// envelope puts messages into tokens and takes them out.
type envelope struct {
	cipher Cipher
	iv     IV
	static []byte // with IVStatic
}

func newEnvelope(cfg *Config, c Cipher) (envelope, error) {
	e := envelope{cipher: c, iv: cfg.IV}
	if cfg.IV != IVStatic {
		return e, nil
	}
	b, err := hex.DecodeString(cfg.StaticIV)
	if err != nil {
		return e, fmt.Errorf("read static_iv: %w", err)
	}
	e.static = b
	return e, nil
}

// sent reports whether the IV travels with the message.
func (e envelope) sent() bool { return e.iv == IVPrefix || e.iv == IVSuffix }

// seal pads plain in its own buffer, encrypts it and returns the body to send.
// plain must have room for the padding, which room leaves (see grown). The error
// is a *cipherError. Clearing plain is the caller's.
func (e envelope) seal(ctx context.Context, plain []byte) ([]byte, error) {
	iv := make([]byte, blockSize)
	switch e.iv {
	case IVPrefix, IVSuffix:
		_, _ = rand.Read(iv) // never fails: it ends the program instead
	case IVStatic:
		copy(iv, e.static)
	case IVZero:
	}
	padded := pad(plain)
	ct, err := e.cipher.EncryptCBC(ctx, iv, padded)
	switch {
	case err != nil:
		return nil, &cipherError{"encrypt", err}
	case len(ct) != len(padded) || bytes.Equal(ct, padded):
		// A token that hands its input back would send the PIN in clear.
		return nil, &cipherError{"encrypt", errors.New("the token returned something that is no ciphertext")}
	}
	raw := make([]byte, 0, blockSize+len(ct))
	if e.iv == IVPrefix {
		raw = append(raw, iv...)
	}
	raw = append(raw, ct...)
	if e.iv == IVSuffix {
		raw = append(raw, iv...)
	}
	const head, tail = `{"token":"`, `"}`
	body := make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(raw))+len(tail))
	body = append(body, head...)
	body = base64.StdEncoding.AppendEncode(body, raw)
	return append(body, tail...), nil
}

// split decodes a token into its IV and its ciphertext.
func (e envelope) split(token []byte) (iv, ct []byte, err error) {
	// The decoder skips line ends, which "strict" must not.
	if bytes.ContainsAny(token, "\r\n") {
		return nil, nil, errUnreadable
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, token)
	least := blockSize
	if e.sent() {
		least += blockSize
	}
	if err != nil || len(raw) < least || len(raw)%blockSize != 0 {
		return nil, nil, errUnreadable
	}
	switch e.iv {
	case IVPrefix:
		return raw[:blockSize], raw[blockSize:], nil
	case IVSuffix:
		n := len(raw) - blockSize
		return raw[n:], raw[:n], nil
	case IVStatic:
		return bytes.Clone(e.static), raw, nil
	case IVZero:
	}
	return make([]byte, blockSize), raw, nil
}

// open takes a message out of its token and reads its fields. The error is
// errUnreadable or a *cipherError.
func (e envelope) open(ctx context.Context, token []byte) (fields, error) {
	iv, ct, err := e.split(token)
	if err != nil {
		return nil, err
	}
	plain, err := e.cipher.DecryptCBC(ctx, iv, ct)
	if err != nil {
		return nil, &cipherError{"decrypt", err}
	}
	f, err := readPlain(plain, ct)
	others, ok := e.cipher.(otherKeys)
	if !errors.Is(err, errUnreadable) || !ok {
		return f, err
	}
	// Around a rotation the platform may still or already use another key.
	all, oerr := others.DecryptOthersCBC(ctx, iv, ct)
	if oerr != nil {
		return nil, &cipherError{"decrypt", oerr}
	}
	for _, plain := range all {
		if f == nil {
			if g, gerr := readPlain(plain, ct); gerr == nil {
				f, err = g, nil
			}
		}
		clear(plain)
	}
	return f, err
}

// otherKeys is what a Cipher has that is one name for several keys: the texts under
// those that it does not encrypt with.
type otherKeys interface {
	DecryptOthersCBC(ctx context.Context, iv, ciphertext []byte) ([][]byte, error)
}

// readPlain takes the padding off and reads the fields. It clears plain.
func readPlain(plain, ct []byte) (fields, error) {
	defer clear(plain)
	if len(plain) != len(ct) {
		return nil, &cipherError{"decrypt", errors.New("the token returned a text of another length")}
	}
	n, good := unpad(plain)
	// Parsed also where the padding is bad, so that both failures end here alike.
	f, err := readFields(plain[:n])
	if good != 1 || err != nil {
		f.wipe()
		return nil, errUnreadable
	}
	return f, nil
}

// grown is the capacity that a message of n bytes needs with its padding.
func grown(n int) int { return n + blockSize - n%blockSize }

// pad appends the padding of PKCS#7 (RFC 5652, 6.3).
func pad(b []byte) []byte {
	n := blockSize - len(b)%blockSize
	for range n {
		b = append(b, byte(n))
	}
	return b
}

// unpad returns the length of the text without its padding, and 1 where the
// padding is right. Else it returns the whole length and 0. It takes the same time
// whatever the last block holds. b is not empty and whole blocks.
func unpad(b []byte) (n, good int) {
	last := b[len(b)-1]
	n = int(last)
	good = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, blockSize)
	for i := 1; i <= blockSize; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(b[len(b)-i], last)
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	return len(b) - subtle.ConstantTimeSelect(good, n, 0), good
}
