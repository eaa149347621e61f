package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"

	"gardu/internal/keystore/protocol"
	"gardu/internal/secret"
)

// Kind is what a new key is made for: its type, size and one purpose.
type Kind string

// The kinds.
const (
	KindRSA2048       Kind = "rsa-2048"           // signatures
	KindRSA3072       Kind = "rsa-3072"           //
	KindRSA4096       Kind = "rsa-4096"           //
	KindECP256        Kind = "ec-p256"            // signatures, TLS
	KindECP384        Kind = "ec-p384"            //
	KindHMAC          Kind = "hmac-sha512"        // a provider's shared secret
	KindAES192        Kind = "aes-192"            // the prepaid envelope
	KindAES256        Kind = "aes-256"            // a key-encryption key
	KindRSA2048Unwrap Kind = "rsa-2048-decrypt"   // a key-encryption key for tokens without AES-GCM
	KindRSA3072Unwrap Kind = "rsa-3072-decrypt"   //
	KindRSA4096Unwrap Kind = "rsa-4096-decrypt"   //
	KindTransport2048 Kind = "rsa-2048-transport" // other keys come into the token under it
	KindTransport3072 Kind = "rsa-3072-transport" //
	KindTransport4096 Kind = "rsa-4096-transport" //
)

// Kinds are all kinds.
func Kinds() []Kind {
	return []Kind{
		KindRSA2048, KindRSA3072, KindRSA4096, KindECP256, KindECP384, KindHMAC, KindAES192, KindAES256,
		KindRSA2048Unwrap, KindRSA3072Unwrap, KindRSA4096Unwrap, KindTransport2048, KindTransport3072, KindTransport4096,
	}
}

type recipe struct {
	typ   protocol.KeyType
	bits  uint32
	usage protocol.Usage
}

var recipes = map[Kind]recipe{
	KindRSA2048:       {protocol.TypeRSA, 2048, protocol.UsageSign},
	KindRSA3072:       {protocol.TypeRSA, 3072, protocol.UsageSign},
	KindRSA4096:       {protocol.TypeRSA, 4096, protocol.UsageSign},
	KindECP256:        {protocol.TypeEC, 256, protocol.UsageSign},
	KindECP384:        {protocol.TypeEC, 384, protocol.UsageSign},
	KindHMAC:          {protocol.TypeGeneric, 8 * leastSecret, protocol.UsageSign},
	KindAES192:        {protocol.TypeAES, 192, protocol.UsageEncrypt | protocol.UsageDecrypt},
	KindAES256:        {protocol.TypeAES, 256, protocol.UsageEncrypt | protocol.UsageDecrypt},
	KindRSA2048Unwrap: {protocol.TypeRSA, 2048, protocol.UsageDecrypt},
	KindRSA3072Unwrap: {protocol.TypeRSA, 3072, protocol.UsageDecrypt},
	KindRSA4096Unwrap: {protocol.TypeRSA, 4096, protocol.UsageDecrypt},
	KindTransport2048: {protocol.TypeRSA, 2048, protocol.UsageUnwrap},
	KindTransport3072: {protocol.TypeRSA, 3072, protocol.UsageUnwrap},
	KindTransport4096: {protocol.TypeRSA, 4096, protocol.UsageUnwrap},
}

// leastSecret is the shortest secret that every token takes for HMAC-SHA512.
// HMAC pads a key with zeros to a block, so a padded one gives the same MACs.
const leastSecret = 64

// shortSecret is where a provider's secret is too short to be one: fewer than 16
// bytes can be tried.
const shortSecret = 16

// NewKey names a key to be made or imported.
type NewKey struct {
	Label string
	// ID is the CKA_ID. Without one a random one is taken, and the label must not
	// be in use at all; with one, only the pair must not.
	ID   []byte
	Kind Kind
	// Check is how the check value must begin, when the key's sender said it by
	// another way: of a secret or AES key the KCV, of a key pair the SHA-256 of
	// the public key as PKIX DER. Another one, and the key is destroyed again.
	Check []byte
	// AllowWeak takes a secret shorter than 16 bytes.
	AllowWeak bool
}

// given is an error about what a person gave to a ceremony, which no change of the
// configuration mends.
func given(hint, format string, args ...any) error {
	return &Error{Err: fmt.Errorf("%w: %s", ErrKeyGiven, fmt.Sprintf(format, args...)), Hint: hint}
}

func tooShort(label string, n int) error {
	return &Error{
		Op: "import", Object: label, Err: fmt.Errorf("%w: a secret of %d bytes, at least %d are needed", ErrKeyWeak, n, shortSecret),
		Hint: "check how its text is encoded (--encoding), ask the provider for a longer one, or take it as it is with --allow-weak",
	}
}

// newIDSize is the size of a random CKA_ID.
const newIDSize = 8

func (n *NewKey) create() (*protocol.Create, recipe, error) {
	r, ok := recipes[n.Kind]
	switch {
	case !ok:
		return nil, r, given("choose one of those that `gardu keys generate --help` lists", "there is no kind of key %q", string(n.Kind))
	case n.Label == "":
		return nil, r, configuration("a new key needs a name")
	}
	// A name that a URI cannot carry could never be used again.
	if _, err := ParseURI(URI{Object: n.Label, ID: n.ID}.String()); err != nil {
		return nil, r, err
	}
	c := &protocol.Create{Label: n.Label, ID: n.ID, Type: r.typ, Bits: r.bits, Usage: r.usage, Check: n.Check}
	if len(c.ID) == 0 {
		c.ID, c.AnyID = make([]byte, newIDSize), true
		_, _ = rand.Read(c.ID)
	}
	return c, r, nil
}

// Generate makes a key in the token: sensitive, not extractable, for the one
// purpose of its kind. It is checked and used once before Generate returns, and
// destroyed again when that fails. It is never repeated: after ErrTimeout or
// ErrWorkerLost the token may hold it.
func (s *Store) Generate(ctx context.Context, n NewKey) (KeyInfo, error) {
	c, _, err := n.create()
	if err != nil {
		return KeyInfo{}, explain("generate", n.Label, err)
	}
	return s.create(ctx, protocol.OpGenerate, "generate", c)
}

// Import puts a key that came from elsewhere into the token: an HMAC secret
// (its bytes; shorter than 64 bytes they are padded with zeros, which gives the
// same MACs), an AES key of its kind's size, or an RSA key as PKCS #8 or PKCS #1,
// DER or PEM. What the token then computes is compared with what the value
// computes here, and the value must not be readable; else the new key is
// destroyed again. The value stays the caller's to wipe. A key that was ever
// outside the token is worth less than one that was made in it.
func (s *Store) Import(ctx context.Context, n NewKey, value *secret.Value) (KeyInfo, error) {
	info, err := s.importKey(ctx, n, value)
	if err != nil {
		return KeyInfo{}, explain("import", n.Label, err)
	}
	return info, nil
}

func (s *Store) importKey(ctx context.Context, n NewKey, value *secret.Value) (KeyInfo, error) {
	c, r, err := n.create()
	if err != nil {
		return KeyInfo{}, err
	}
	switch r.typ {
	case protocol.TypeGeneric:
		if value.Len() == 0 {
			return KeyInfo{}, given("name the file that holds it", "the secret is empty")
		}
		if value.Len() < shortSecret && !n.AllowWeak {
			return KeyInfo{}, tooShort(n.Label, value.Len())
		}
		c.Parts = [][]byte{hmacKey(value.Bytes())}
		c.Bits = uint32(8 * len(c.Parts[0])) //nolint:gosec // at most a block
		defer clear(c.Parts[0])
	case protocol.TypeAES:
		if value.Len()*8 != int(r.bits) {
			return KeyInfo{}, given("check how its text is encoded (--encoding), and whether the provider means this kind of key",
				"the key has %d bytes, %s has %d", value.Len(), n.Kind, r.bits/8)
		}
		c.Parts = [][]byte{value.Bytes()}
	case protocol.TypeRSA:
		key, err := s.parseRSA(value.Bytes())
		if err != nil {
			return KeyInfo{}, err
		}
		if key.N.BitLen() != int(r.bits) {
			return KeyInfo{}, given(fmt.Sprintf("import it as rsa-%d", key.N.BitLen()), "the RSA key has %d bits, not those of kind %s", key.N.BitLen(), n.Kind)
		}
		c.Parts = rsaParts(key)
		defer func() {
			for _, p := range c.Parts {
				clear(p)
			}
		}()
	default:
		return KeyInfo{}, fmt.Errorf("%w: keys of kind %s are made in the token, not imported", ErrUnsupported, n.Kind)
	}
	return s.create(ctx, protocol.OpImport, "import", c)
}

// hmacKey is a key of 64 to 128 bytes that gives the same HMAC-SHA512: HMAC
// itself hashes what is longer than a block and pads what is shorter.
func hmacKey(b []byte) []byte {
	if len(b) > sha512.BlockSize {
		d := sha512.Sum512(b)
		return d[:]
	}
	k := make([]byte, max(len(b), leastSecret))
	copy(k, b)
	return k
}

func (s *Store) parseRSA(b []byte) (*rsa.PrivateKey, error) {
	if block, _ := pem.Decode(b); block != nil {
		defer clear(block.Bytes)
		b = block.Bytes
	}
	key, err := x509.ParsePKCS1PrivateKey(b)
	if err != nil {
		parsed, err8 := x509.ParsePKCS8PrivateKey(b)
		if err8 != nil {
			// The parsers' own words may quote what they read.
			return nil, given("ask for it in one of these forms, or convert it with openssl pkcs8", "this is no unencrypted RSA private key in PKCS #8 or PKCS #1, DER or PEM")
		}
		var ok bool
		if key, ok = parsed.(*rsa.PrivateKey); !ok {
			return nil, given("name the file with the RSA key", "this private key is not an RSA key")
		}
	}
	if n := key.N.BitLen(); n < s.opts.MinRSABits {
		return nil, fmt.Errorf("%w: RSA with %d bits, at least %d are needed", ErrKeyWeak, n, s.opts.MinRSABits)
	}
	if len(key.Primes) != 2 {
		return nil, given("ask its issuer for an ordinary one", "this RSA key has %d primes; tokens take two", len(key.Primes))
	}
	if err := key.Validate(); err != nil {
		return nil, given("ask its issuer for it again", "this RSA key is not consistent in itself")
	}
	key.Precompute()
	return key, nil
}

// rsaParts are the numbers in the order of protocol.Create.
func rsaParts(k *rsa.PrivateKey) [][]byte {
	parts := [][]byte{k.N.Bytes(), big.NewInt(int64(k.E)).Bytes()}
	for _, n := range []*big.Int{k.D, k.Primes[0], k.Primes[1], k.Precomputed.Dp, k.Precomputed.Dq, k.Precomputed.Qinv} {
		parts = append(parts, n.Bytes())
	}
	return parts
}

func (s *Store) create(ctx context.Context, op protocol.Op, verb string, c *protocol.Create) (KeyInfo, error) {
	var o protocol.Object
	_, err := s.do(ctx, &request{
		op: op, verb: verb, object: URI{Object: c.Label, ID: c.ID}.String(), deadline: s.opts.CeremonyDeadline,
		body: c.Append, check: o.Parse, once: true,
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return keyInfo(&o), nil
}

// List describes every key and certificate of the token.
func (s *Store) List(ctx context.Context) ([]KeyInfo, error) {
	var all protocol.Objects
	_, err := s.do(ctx, &request{
		op: protocol.OpList, verb: "list", object: s.token.String(), deadline: s.opts.CeremonyDeadline,
		body: func(b []byte) []byte { return b }, check: all.Parse,
	})
	if err != nil {
		return nil, err
	}
	infos := make([]KeyInfo, len(all))
	for i := range all {
		infos[i] = keyInfo(&all[i])
	}
	return infos, nil
}

// Destroy destroys the one key that uri names, and with a private key its public
// half. The URI needs a type=. Nothing that was encrypted under the key can be
// read afterwards.
func (s *Store) Destroy(ctx context.Context, uri string) error {
	u, err := ParseURI(uri)
	if err != nil {
		return err
	}
	class := protocol.ClassAny
	for c, name := range classNames {
		if name == u.Type {
			class = c
		}
	}
	k, err := s.key(uri, class, u.Type, protocol.TypeAny)
	if err != nil {
		return err
	}
	if class == protocol.ClassAny {
		return explain("destroy", k.name, configuration("add type= to the URI, so that nothing else goes"))
	}
	use := protocol.Use{Key: k.wire(k.uri.Object, nil)}
	_, err = s.do(ctx, &request{
		op: protocol.OpDestroy, verb: "destroy", object: k.name, deadline: s.opts.CeremonyDeadline,
		body: use.Append, check: exactly(0), once: true,
	})
	return err
}
