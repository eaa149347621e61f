package upstream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Where the initialisation vector of an envelope is.
const (
	IVPrefix = "prefix" // 16 random bytes before the ciphertext
	IVSuffix = "suffix" // 16 random bytes after it
	IVZero   = "zero"   // sixteen zero bytes, not sent
	IVStatic = "static" // agreed once, not sent
)

// envelope is AES-192-CBC with PKCS#7 padding in padded standard Base64.
type envelope struct {
	block  cipher.Block
	mode   string
	static [aes.BlockSize]byte
}

func newEnvelope(conf *PrepaidConfig) (*envelope, error) {
	var key []byte
	var err error
	switch conf.KeyEncoding {
	case "raw":
		key = []byte(conf.Key)
	case "hex":
		key, err = hex.DecodeString(conf.Key)
	case "base64":
		key, err = base64.StdEncoding.DecodeString(conf.Key)
	default:
		return nil, oneOf("key_encoding", conf.KeyEncoding, "raw", "hex", "base64")
	}
	if err != nil || len(key) != 24 {
		return nil, fmt.Errorf("key: it does not give 24 bytes as %s", conf.KeyEncoding)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	e := &envelope{block: block, mode: conf.IVMode}
	if err := oneOf("iv_mode", conf.IVMode, IVPrefix, IVSuffix, IVZero, IVStatic); err != nil {
		return nil, err
	}
	if conf.IVMode == IVStatic {
		iv, err := hex.DecodeString(conf.StaticIV)
		if err != nil || len(iv) != aes.BlockSize {
			return nil, errors.New("static_iv: 32 hexadecimal digits are needed")
		}
		copy(e.static[:], iv)
	}
	return e, nil
}

// seal encrypts plain.
func (e *envelope) seal(plain []byte) string {
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := make([]byte, len(plain)+pad)
	copy(text, plain)
	for i := len(plain); i < len(text); i++ {
		text[i] = byte(pad)
	}
	iv := e.static[:]
	if e.mode == IVPrefix || e.mode == IVSuffix {
		iv = make([]byte, aes.BlockSize)
		_, _ = rand.Read(iv) // never fails (crypto/rand)
	}
	cipher.NewCBCEncrypter(e.block, iv).CryptBlocks(text, text)
	switch e.mode {
	case IVPrefix:
		text = append(append([]byte(nil), iv...), text...)
	case IVSuffix:
		text = append(text, iv...)
	}
	return base64.StdEncoding.EncodeToString(text)
}

var errEnvelope = errors.New("the envelope cannot be opened")

// open decrypts a token.
func (e *envelope) open(token string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, errEnvelope
	}
	iv := e.static[:]
	if e.mode == IVPrefix || e.mode == IVSuffix {
		if len(raw) < 2*aes.BlockSize {
			return nil, errEnvelope
		}
		cut := aes.BlockSize
		if e.mode == IVSuffix {
			cut = len(raw) - aes.BlockSize
			iv, raw = raw[cut:], raw[:cut]
		} else {
			iv, raw = raw[:cut], raw[cut:]
		}
	}
	if len(raw) == 0 || len(raw)%aes.BlockSize != 0 {
		return nil, errEnvelope
	}
	plain := make([]byte, len(raw))
	cipher.NewCBCDecrypter(e.block, iv).CryptBlocks(plain, raw)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errEnvelope
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, errEnvelope
		}
	}
	return plain[:len(plain)-pad], nil
}
