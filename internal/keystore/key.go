package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	"gardu/internal/keystore/protocol"
)

// key is one configured key: a name, and from its first use on the one object
// that stood under it.
type key struct {
	s       *Store
	name    string // the URI as it stands in errors
	uri     URI
	class   protocol.Class
	types   []protocol.KeyType
	kind    Kind                  // what init would make for the role; for hints
	allowed []Mechanism           // all when empty
	judge   func(*resolved) error // what the role demands beyond class and type
	mu      sync.Mutex            // guards found and gens
	found   *resolved             // the generation in use
	gens    generations
}

// resolved is what is known of a key once it was found.
type resolved struct {
	gen      int // of the generation; 0 where the name has none
	info     KeyInfo
	typ      protocol.KeyType
	identity []byte
	name     []byte // the worker's name for it, pinned to the identity
	public   crypto.PublicKey
	token    *protocol.Token
}

// tester is a key that can prove that it works.
type tester interface {
	selfTest(ctx context.Context) error
	tested() *key // nil when the key is not an object of the token
}

// key reads a key's URI and checks that it fits its role.
func (s *Store) key(uri string, class protocol.Class, typeName string, types ...protocol.KeyType) (*key, error) {
	u, err := ParseURI(uri)
	if err != nil {
		return nil, err
	}
	k := &key{s: s, uri: u, name: u.object().String(), class: class, types: types}
	switch {
	case !u.namesObject():
		err = configuration("the URI names no key; give object= or id=")
	case u.Type != "" && u.Type != typeName:
		err = configuration("its type= is %s, but this role needs %s", u.Type, typeName)
	default:
		err = u.within(s.token)
	}
	if err != nil {
		return nil, explain("use", k.name, err)
	}
	return k, nil
}

// allow limits the mechanisms to those given, of those known.
func (k *key) allow(given []Mechanism, known ...Mechanism) error {
	for _, m := range given {
		if !slices.Contains(known, m) {
			return explain("use", k.name, configuration("there is no mechanism %q for this role; known are %v", string(m), known))
		}
	}
	k.allowed = given
	return nil
}

func (k *key) may(m Mechanism) bool { return len(k.allowed) == 0 || slices.Contains(k.allowed, m) }

// enlist has Health test the key from now on.
func (s *Store) enlist(t tester) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, t)
}

func (k *key) wire(label string, pin []byte) []byte {
	w := protocol.Key{Label: label, ID: k.uri.ID, Class: k.class, Pin: pin}
	if len(k.types) == 1 {
		w.Type = k.types[0]
	}
	return w.Append(nil)
}

// resolve finds the key in the token, once.
func (k *key) resolve(ctx context.Context) (*resolved, error) {
	k.mu.Lock()
	found := k.found
	k.mu.Unlock()
	if found != nil {
		return found, nil
	}
	// Not under the mutex: who waits for the token must be able to leave.
	return k.refresh(ctx)
}

// again finds the key anew and checks that it is still the same one and the only
// one of its name.
func (k *key) again(ctx context.Context) (*resolved, error) {
	if k.stale() {
		if _, err := k.refresh(ctx); err != nil {
			return nil, err
		}
	}
	r, err := k.resolve(ctx)
	if err != nil {
		return nil, err
	}
	_, err = k.look(ctx, r.info.Label, r.identity)
	if errors.Is(err, ErrKeyNotFound) && !k.plain() { // renamed or destroyed by another program
		return k.refresh(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// look finds one object anew; with a pin it must be the same one.
func (k *key) look(ctx context.Context, label string, pin []byte) (*resolved, error) {
	if k.uri.Object == "" {
		label = ""
	}
	wire := k.wire(label, pin)
	use := protocol.Use{Key: wire}
	var o protocol.Object
	ask := &request{
		op: protocol.OpDescribe, verb: "find", object: k.name, deadline: k.s.opts.Deadline,
		body: use.Append, check: o.Parse,
	}
	if _, err := k.s.do(ctx, ask); err != nil {
		return nil, k.unfit(err)
	}
	if !slices.Contains(k.types, o.Type) && !slices.Contains(k.types, protocol.TypeAny) {
		return nil, k.unfit(fmt.Errorf("%w: it is %s", ErrUnsupported, protocol.TypeText(o.Type)))
	}
	r := &resolved{info: keyInfo(&o), typ: o.Type, identity: o.Identity, name: k.wire(label, o.Identity), token: ask.token}
	if len(o.Public) > 0 {
		var err error
		if r.public, err = x509.ParsePKIXPublicKey(o.Public); err != nil {
			return nil, explain("use", k.name, fmt.Errorf("%w: its public half cannot be read: %w", ErrRefused, err))
		}
	}
	return r, nil
}

// unfit says with what is wrong with a key which kind its role needs, and how to
// make one.
func (k *key) unfit(err error) error {
	if k.kind == "" || !errors.Is(err, ErrKeyNotFound) && !errors.Is(err, ErrUnsupported) && !errors.Is(err, ErrRefused) {
		return explain("use", k.name, err)
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Op: "use", Object: k.name, Err: err}
	}
	name := ParseName(k.uri.Object).Base
	if name == "" {
		name = "NAME"
	}
	made := *e
	made.Hint = fmt.Sprintf("its role needs a key of kind %s: compare the name in the configuration with `gardu keys list`, "+
		"or make one with `gardu keys generate %s %s` (`gardu keys import` where a provider hands it out)", k.kind, name, k.kind)
	return &made
}

// run carries out one operation with the key.
func (k *key) run(ctx context.Context, op protocol.Op, verb string, use *protocol.Use, check func([]byte) error) ([]byte, error) {
	out, err := k.s.do(ctx, &request{
		op: op, verb: verb, object: k.name, deadline: k.s.opts.Deadline, body: use.Append, check: check,
	})
	if err != nil {
		k.lost(err)
	}
	return out, err
}

// strongEnough is the judge of RSA keys; other keys have no public half or a fixed size.
func (k *key) strongEnough(r *resolved) error {
	switch pub := r.public.(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < k.s.opts.MinRSABits {
			return fmt.Errorf("%w: RSA with %d bits, at least %d are needed", ErrKeyWeak, n, k.s.opts.MinRSABits)
		}
	case *ecdsa.PublicKey:
	default:
		return fmt.Errorf("%w: the token shows no public half of it", ErrRefused)
	}
	return nil
}

func has(t *protocol.Token, mechanism, flag uint64) bool {
	return slices.ContainsFunc(t.Mechanisms, func(m protocol.MechanismInfo) bool {
		return m.Type == mechanism && m.Flags&flag != 0
	})
}

var errLength = errors.New("with a wrong length")

// exactly checks the length of an answer.
func exactly(n int) func([]byte) error {
	return func(b []byte) error {
		if len(b) != n {
			return errLength
		}
		return nil
	}
}

// KeyID is a CKA_ID; it is written in hexadecimal.
type KeyID []byte

// String returns the hexadecimal form.
func (id KeyID) String() string { return hex.EncodeToString(id) }

// MarshalText returns the hexadecimal form.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// KeyInfo describes an object of the token as the token tells it.
type KeyInfo struct {
	Label string `json:"label"`
	ID    KeyID  `json:"id"`
	Class string `json:"class"` // as type= in a URI
	Type  string `json:"type"`  // "rsa", "ec", "aes", "generic", "other"; empty for a certificate
	Bits  int    `json:"bits,omitempty"`
	// KCV is the key check value in hexadecimal: of an AES key the first three
	// bytes of the encrypted zero block, of a secret those of HMAC-SHA512(key, "").
	KCV string `json:"kcv,omitempty"`
	// Public is the public key as PKIX DER.
	Public []byte `json:"public,omitempty"`
	// Attributes has "yes", "no" or "unknown" for each attribute that says how
	// the key is kept and what it may do, by its PKCS#11 name.
	Attributes map[string]string `json:"attributes"`
}

// Fingerprint is the SHA-256 of the public half in hexadecimal, for comparing by
// voice; empty for a key that has none.
func (i *KeyInfo) Fingerprint() string {
	if len(i.Public) == 0 {
		return ""
	}
	sum := sha256.Sum256(i.Public)
	return hex.EncodeToString(sum[:])
}

// URI returns the pkcs11: URI that names the object within its token.
func (i *KeyInfo) URI() string {
	return URI{Object: i.Label, ID: i.ID, Type: i.Class}.String()
}

var classNames = map[protocol.Class]string{
	protocol.ClassPrivate: "private", protocol.ClassPublic: "public",
	protocol.ClassSecret: "secret-key", protocol.ClassCert: "cert",
}

var typeNames = map[protocol.KeyType]string{
	protocol.TypeRSA: "rsa", protocol.TypeEC: "ec", protocol.TypeAES: "aes",
	protocol.TypeGeneric: "generic", protocol.TypeOther: "other",
}

var factNames = [protocol.Facts]string{
	protocol.FactToken: "CKA_TOKEN", protocol.FactPrivate: "CKA_PRIVATE", protocol.FactSensitive: "CKA_SENSITIVE",
	protocol.FactExtractable: "CKA_EXTRACTABLE", protocol.FactAlwaysSensitive: "CKA_ALWAYS_SENSITIVE",
	protocol.FactNeverExtractable: "CKA_NEVER_EXTRACTABLE", protocol.FactLocal: "CKA_LOCAL",
	protocol.FactSign: "CKA_SIGN", protocol.FactVerify: "CKA_VERIFY", protocol.FactEncrypt: "CKA_ENCRYPT",
	protocol.FactDecrypt: "CKA_DECRYPT", protocol.FactWrap: "CKA_WRAP", protocol.FactUnwrap: "CKA_UNWRAP",
	protocol.FactDerive: "CKA_DERIVE",
}

func keyInfo(o *protocol.Object) KeyInfo {
	i := KeyInfo{
		Label: o.Label, ID: o.ID, Class: classNames[o.Class], Type: typeNames[o.Type], Bits: int(o.Bits),
		KCV: hex.EncodeToString(o.Check), Public: o.Public, Attributes: make(map[string]string, protocol.Facts),
	}
	for place, name := range factNames {
		i.Attributes[name] = map[protocol.Fact]string{protocol.FactYes: "yes", protocol.FactNo: "no"}[o.Facts[place]]
		if i.Attributes[name] == "" {
			i.Attributes[name] = "unknown"
		}
	}
	return i
}
