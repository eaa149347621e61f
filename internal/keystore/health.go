package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gardu/internal/keystore/protocol"
	"gardu/internal/secret"
)

// Health has every key that was taken from the Store do its work once, after
// finding it anew, and returns what failed: each error names its key. Without any
// keys it checks that the token can be logged in to. A session that looks healthy
// says nothing: a token whose storage is gone still opens one.
func (s *Store) Health(ctx context.Context) error {
	s.mu.Lock()
	keys := slices.Clone(s.keys)
	s.mu.Unlock()
	if len(keys) == 0 {
		return s.Ready(ctx)
	}
	var all []error
	for _, k := range keys {
		if err := k.selfTest(ctx); err != nil {
			all = append(all, err)
			if c := ClassOf(err); c == ClassDevice || c == ClassSession || ctx.Err() != nil {
				break // the others would say the same
			}
		}
	}
	return errors.Join(all...)
}

// Capability says whether the token offers what one kind of key needs.
type Capability struct {
	Kind Kind `json:"kind"`
	// Generate: the token can make such a key itself.
	Generate bool `json:"generate"`
	// Use: it has the mechanisms by which the key does its work.
	Use bool `json:"use"`
	// Missing are the PKCS#11 names of what it lacks.
	Missing []string `json:"missing,omitempty"`
}

// Try makes a key of the kind in the token, or imports one that was made here,
// has it do its work and destroys it again: what a token lists and what it can do
// are two things. Its error says what does not work. If the program is cut off
// meanwhile, a key whose name begins with gardu-trial stays behind.
func (s *Store) Try(ctx context.Context, kind Kind, imported bool) error {
	n := NewKey{Label: "gardu-trial-" + strings.ToLower(rand.Text()), Kind: kind}
	var info KeyInfo
	var err error
	if imported {
		var value *secret.Value
		if value, err = trialValue(kind); err != nil {
			return explain("try", string(kind), err)
		}
		defer value.Wipe()
		info, err = s.Import(ctx, n, value)
	} else {
		info, err = s.Generate(ctx, n)
	}
	if err != nil {
		return explain("try", string(kind), err)
	}
	return s.Destroy(ctx, info.URI())
}

func trialValue(kind Kind) (*secret.Value, error) {
	r, ok := recipes[kind]
	if !ok {
		return nil, configuration("there is no kind of key %q", string(kind))
	}
	if r.typ != protocol.TypeRSA {
		b := make([]byte, r.bits/8)
		_, _ = rand.Read(b)
		return secret.New(b), nil
	}
	key, err := rsa.GenerateKey(rand.Reader, int(r.bits))
	if err != nil {
		return nil, fmt.Errorf("%w: make a trial key: %w", ErrUnsupported, err)
	}
	return secret.New(x509.MarshalPKCS1PrivateKey(key)), nil
}

// TokenInfo describes the token and what it says it can do. A mechanism that a
// token lists may still fail; Health tells.
type TokenInfo struct {
	Label        string       `json:"label"`
	Serial       string       `json:"serial"`
	Manufacturer string       `json:"manufacturer"`
	Model        string       `json:"model"`
	Library      string       `json:"library"`
	Kinds        []Capability `json:"kinds"`
}

type need struct {
	name            string
	mechanism, flag uint64
}

var needs = []struct {
	kinds    []Kind
	generate need
	// use has one list per step, of which the token needs one each.
	use [][]need
}{
	{
		kinds:    []Kind{KindRSA2048, KindRSA3072, KindRSA4096},
		generate: need{"CKM_RSA_PKCS_KEY_PAIR_GEN", ckmRSAPKCSKeyPairGen, ckfGenerateKeyPair},
		use:      [][]need{{{"CKM_SHA256_RSA_PKCS", ckmSHA256RSAPKCS, ckfSign}, {"CKM_RSA_PKCS", ckmRSAPKCS, ckfSign}}},
	},
	{
		kinds:    []Kind{KindRSA2048Unwrap, KindRSA3072Unwrap, KindRSA4096Unwrap},
		generate: need{"CKM_RSA_PKCS_KEY_PAIR_GEN", ckmRSAPKCSKeyPairGen, ckfGenerateKeyPair},
		use:      [][]need{{{"CKM_RSA_PKCS_OAEP", ckmRSAPKCSOAEP, ckfDecrypt}}},
	},
	{
		kinds:    []Kind{KindTransport2048, KindTransport3072, KindTransport4096},
		generate: need{"CKM_RSA_PKCS_KEY_PAIR_GEN", ckmRSAPKCSKeyPairGen, ckfGenerateKeyPair},
		use:      [][]need{{{"CKM_RSA_PKCS_OAEP", ckmRSAPKCSOAEP, ckfUnwrap}}},
	},
	{
		kinds:    []Kind{KindECP256, KindECP384},
		generate: need{"CKM_EC_KEY_PAIR_GEN", ckmECKeyPairGen, ckfGenerateKeyPair},
		use:      [][]need{{{"CKM_ECDSA", ckmECDSA, ckfSign}}},
	},
	{
		kinds:    []Kind{KindHMAC},
		generate: need{"CKM_GENERIC_SECRET_KEY_GEN", ckmGenericSecretKeyGen, ckfGenerate},
		use:      [][]need{{{"CKM_SHA512_HMAC", ckmSHA512HMAC, ckfSign}}},
	},
	{
		kinds:    []Kind{KindAES192},
		generate: need{"CKM_AES_KEY_GEN", ckmAESKeyGen, ckfGenerate},
		use:      [][]need{{{"CKM_AES_CBC", ckmAESCBC, ckfEncrypt}}, {{"CKM_AES_CBC", ckmAESCBC, ckfDecrypt}}},
	},
	{
		kinds:    []Kind{KindAES256},
		generate: need{"CKM_AES_KEY_GEN", ckmAESKeyGen, ckfGenerate},
		use:      [][]need{{{"CKM_AES_GCM", ckmAESGCM, ckfEncrypt}}, {{"CKM_AES_GCM", ckmAESGCM, ckfDecrypt}}},
	},
}

// Capabilities describes the token and, for each kind of key, whether it can
// make and use it by its own list of mechanisms.
func (s *Store) Capabilities(ctx context.Context) (TokenInfo, error) {
	if err := s.Ready(ctx); err != nil {
		return TokenInfo{}, err
	}
	p, err := s.worker(ctx)
	if err != nil {
		return TokenInfo{}, explain("ask", s.token.String(), err)
	}
	t := &p.token
	info := TokenInfo{Label: t.Label, Serial: t.Serial, Manufacturer: t.Manufacturer, Model: t.Model, Library: t.Library}
	for _, n := range needs {
		for _, kind := range n.kinds {
			c := Capability{Kind: kind, Generate: has(t, n.generate.mechanism, n.generate.flag), Use: true}
			for _, step := range n.use {
				if !slices.ContainsFunc(step, func(n need) bool { return has(t, n.mechanism, n.flag) }) {
					c.Use = false
					c.Missing = append(c.Missing, step[0].name)
				}
			}
			if !c.Generate {
				c.Missing = append(c.Missing, n.generate.name)
			}
			c.Missing = slices.Compact(c.Missing)
			info.Kinds = append(info.Kinds, c)
		}
	}
	return info, nil
}
