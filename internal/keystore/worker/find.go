package worker

import (
	"bytes"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"

	"gardu/internal/keystore/protocol"
)

// key is a found object.
type key struct {
	handle pkcs11.ObjectHandle
	object protocol.Object
}

// keys remembers what was found, by the request's own name for it. Handles live
// as long as the module instance, but may come to point at another object when
// the token goes and comes back: whatever fails is looked up and checked anew.
type keys struct {
	mu    sync.RWMutex // guards the fields below
	known map[string]*key
	last  string // a name that was found, to tell a missing key from a missing token
}

func (k *keys) get(name []byte) *key {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.known[string(name)]
}

func (k *keys) put(name []byte, found *key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = make(map[string]*key)
	}
	k.known[string(name)] = found
	k.last = string(name)
}

func (k *keys) forget(name []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.known, string(name))
}

func (k *keys) witness() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.last
}

// key returns the object that name means, from memory when it is there.
func (t *token) key(sh pkcs11.SessionHandle, name []byte) (*key, error) {
	if k := t.keys.get(name); k != nil {
		return k, nil
	}
	var want protocol.Key
	if err := want.Parse(name); err != nil {
		return nil, err
	}
	handle, err := t.findOne(sh, &want)
	if err != nil {
		if because(err) == protocol.ReasonKeyNotFound && !t.witnessed(sh) {
			return nil, fail(protocol.ReasonDevice, "objects that were there before are gone")
		}
		return nil, err
	}
	object, err := t.inspect(sh, handle)
	if err != nil {
		return nil, err
	}
	if err := suits(&want, object); err != nil {
		return nil, err
	}
	k := &key{handle: handle, object: *object}
	t.keys.put(name, k)
	return k, nil
}

// witnessed says whether an object that was found before is still found. A token
// whose storage went away answers every search with nothing and no error.
func (t *token) witnessed(sh pkcs11.SessionHandle) bool {
	name := t.keys.witness()
	if name == "" {
		return true
	}
	var want protocol.Key
	if want.Parse([]byte(name)) != nil {
		return true
	}
	_, err := t.findOne(sh, &want)
	return err == nil
}

// suits checks a found object against what was asked for: handles may point
// elsewhere, and some tokens ignore parts of a search template.
func suits(want *protocol.Key, o *protocol.Object) error {
	switch {
	case want.Class != o.Class,
		want.Label != "" && want.Label != o.Label,
		len(want.ID) > 0 && !bytes.Equal(want.ID, o.ID):
		return fail(protocol.ReasonDevice, "the token answered a search with another object")
	case want.Type != protocol.TypeAny && want.Type != o.Type:
		return fail(protocol.ReasonConfiguration, "the key is %s, not %s", protocol.TypeText(o.Type), protocol.TypeText(want.Type))
	case len(want.Pin) > 0 && !bytes.Equal(want.Pin, o.Identity):
		return fail(protocol.ReasonKeyChanged, "the key that stands under this name now is not the one found first")
	}
	return nil
}

var classes = map[protocol.Class]uint{
	protocol.ClassPrivate: pkcs11.CKO_PRIVATE_KEY,
	protocol.ClassSecret:  pkcs11.CKO_SECRET_KEY,
	protocol.ClassPublic:  pkcs11.CKO_PUBLIC_KEY,
	protocol.ClassCert:    pkcs11.CKO_CERTIFICATE,
}

func template(want *protocol.Key) []*pkcs11.Attribute {
	t := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, classes[want.Class]),
	}
	if want.Label != "" {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_LABEL, want.Label))
	}
	if len(want.ID) > 0 {
		t = append(t, pkcs11.NewAttribute(pkcs11.CKA_ID, want.ID))
	}
	return t
}

// findOne finds the one object that matches, and refuses none and several.
func (t *token) findOne(sh pkcs11.SessionHandle, want *protocol.Key) (pkcs11.ObjectHandle, error) {
	if _, ok := classes[want.Class]; !ok {
		return 0, fail(protocol.ReasonConfiguration, "no object class %d", want.Class)
	}
	found, err := t.find(sh, template(want), 2)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, fail(protocol.ReasonKeyNotFound, "the token holds no such object")
	case len(found) > 1:
		return 0, fail(protocol.ReasonKeyAmbiguous, "more than one object of the token answers to this name")
	}
	return found[0], nil
}

// find returns up to limit handles; a token may hand them out in small portions.
func (t *token) find(sh pkcs11.SessionHandle, template []*pkcs11.Attribute, limit int) ([]pkcs11.ObjectHandle, error) {
	if err := t.ctx.FindObjectsInit(sh, template); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	var found []pkcs11.ObjectHandle
	for len(found) < limit {
		more, _, err := t.ctx.FindObjects(sh, limit-len(found))
		if err != nil {
			return nil, failed("C_FindObjects", err)
		}
		if len(more) == 0 {
			break
		}
		found = append(found, more...)
	}
	return found, failed("C_FindObjectsFinal", t.ctx.FindObjectsFinal(sh))
}

// attribute reads one attribute; nil when the object has none or does not show it.
func (t *token) attribute(sh pkcs11.SessionHandle, o pkcs11.ObjectHandle, typ uint) ([]byte, error) {
	a, err := t.ctx.GetAttributeValue(sh, o, []*pkcs11.Attribute{pkcs11.NewAttribute(typ, nil)})
	switch {
	case err == nil:
		return a[0].Value, nil
	case err == pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID), err == pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE): //nolint:errorlint // the module's own values, never wrapped
		return nil, nil
	}
	return nil, failed("C_GetAttributeValue", err)
}

// attributes reads several, each with a call of its own: one that is missing
// would take the others along.
func (t *token) attributes(sh pkcs11.SessionHandle, o pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	values := make([][]byte, len(types))
	for i, typ := range types {
		v, err := t.attribute(sh, o, typ)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

var factTypes = [protocol.Facts]uint{
	protocol.FactToken:            pkcs11.CKA_TOKEN,
	protocol.FactPrivate:          pkcs11.CKA_PRIVATE,
	protocol.FactSensitive:        pkcs11.CKA_SENSITIVE,
	protocol.FactExtractable:      pkcs11.CKA_EXTRACTABLE,
	protocol.FactAlwaysSensitive:  pkcs11.CKA_ALWAYS_SENSITIVE,
	protocol.FactNeverExtractable: pkcs11.CKA_NEVER_EXTRACTABLE,
	protocol.FactLocal:            pkcs11.CKA_LOCAL,
	protocol.FactSign:             pkcs11.CKA_SIGN,
	protocol.FactVerify:           pkcs11.CKA_VERIFY,
	protocol.FactEncrypt:          pkcs11.CKA_ENCRYPT,
	protocol.FactDecrypt:          pkcs11.CKA_DECRYPT,
	protocol.FactWrap:             pkcs11.CKA_WRAP,
	protocol.FactUnwrap:           pkcs11.CKA_UNWRAP,
	protocol.FactDerive:           pkcs11.CKA_DERIVE,
}

// inspect reads everything about an object that may be shown, and computes its
// check value and identity.
func (t *token) inspect(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle) (*protocol.Object, error) {
	v, err := t.attributes(sh, h, pkcs11.CKA_CLASS, pkcs11.CKA_LABEL, pkcs11.CKA_ID)
	if err != nil {
		return nil, err
	}
	o := &protocol.Object{Label: string(v[1]), ID: v[2]}
	class, _ := ulong(v[0])
	for ours, theirs := range classes {
		if theirs == class {
			o.Class = ours
		}
	}
	for i, typ := range factTypes {
		b, err := t.attribute(sh, h, typ)
		if err != nil {
			return nil, err
		}
		if len(b) == 1 {
			o.Facts[i] = protocol.FactNo
			if b[0] != 0 {
				o.Facts[i] = protocol.FactYes
			}
		}
	}
	if o.Class == protocol.ClassCert {
		return o, nil
	}
	if err := t.inspectKey(sh, h, o); err != nil {
		return nil, err
	}
	o.Identity = identity(o)
	return o, nil
}

func (t *token) inspectKey(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, o *protocol.Object) error {
	v, err := t.attributes(sh, h, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_VALUE_LEN)
	if err != nil {
		return err
	}
	typ, _ := ulong(v[0])
	if n, ok := ulong(v[1]); ok && n <= 1<<16 {
		o.Bits = uint32(n * 8)
	}
	switch typ {
	case pkcs11.CKK_RSA:
		o.Type = protocol.TypeRSA
		return t.inspectRSA(sh, h, o)
	case pkcs11.CKK_EC:
		o.Type = protocol.TypeEC
		return t.inspectEC(sh, h, o)
	case pkcs11.CKK_AES:
		o.Type = protocol.TypeAES
		o.Check, err = t.check(h, o)
	case pkcs11.CKK_GENERIC_SECRET, pkcs11.CKK_SHA512_HMAC:
		o.Type = protocol.TypeGeneric
		o.Check, err = t.check(h, o)
	default:
		o.Type = protocol.TypeOther
	}
	return err
}

// public returns the first of the handles that shows all the attributes: a
// private object need not carry its public half, the public one beside it does.
func (t *token) public(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, o *protocol.Object, types ...uint) ([][]byte, error) {
	v, err := t.attributes(sh, h, types...)
	if err != nil || !slices.ContainsFunc(v, func(b []byte) bool { return len(b) == 0 }) {
		return v, err
	}
	if o.Class != protocol.ClassPrivate {
		return v, nil
	}
	beside, err := t.findOne(sh, &protocol.Key{Label: o.Label, ID: o.ID, Class: protocol.ClassPublic})
	if because(err) == protocol.ReasonKeyNotFound && len(o.ID) > 0 { // a rename was cut off between the halves
		beside, err = t.findOne(sh, &protocol.Key{ID: o.ID, Class: protocol.ClassPublic})
	}
	if err != nil {
		if r := because(err); r == protocol.ReasonKeyNotFound || r == protocol.ReasonKeyAmbiguous {
			return v, nil
		}
		return nil, err
	}
	return t.attributes(sh, beside, types...)
}

func (t *token) inspectRSA(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, o *protocol.Object) error {
	v, err := t.public(sh, h, o, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return err
	}
	n, e := new(big.Int).SetBytes(v[0]), new(big.Int).SetBytes(v[1])
	o.Bits = uint32(n.BitLen()) //nolint:gosec // the length of an attribute that fits a frame
	if n.Sign() <= 0 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
		return nil // shown as a key without a public half
	}
	o.Public, err = x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: int(e.Int64())})
	if err != nil {
		return fail(protocol.ReasonDevice, "the token shows an RSA public key that is none: %v", err)
	}
	return nil
}

var curves = []struct {
	curve elliptic.Curve
	oid   asn1.ObjectIdentifier
}{
	{elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	{elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
}

func (t *token) inspectEC(sh pkcs11.SessionHandle, h pkcs11.ObjectHandle, o *protocol.Object) error {
	v, err := t.public(sh, h, o, pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT)
	if err != nil {
		return err
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(v[0], &oid); err != nil {
		return nil //nolint:nilerr // an unnamed curve is shown as a key without a public half
	}
	for _, c := range curves {
		if !oid.Equal(c.oid) {
			continue
		}
		o.Bits = uint32(c.curve.Params().BitSize) //nolint:gosec // 256 or 384
		point := v[1]
		// The standard says an OCTET STRING around the point; some tokens leave it out.
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
			point = inner
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
		if err != nil {
			return nil //nolint:nilerr // shown as a key without a public half
		}
		if o.Public, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return fail(protocol.ReasonDevice, "the token shows an EC public key that is none: %v", err)
		}
	}
	return nil
}

// check computes the key check value, nil when the key may not compute it. It
// uses a session of its own, because a refusal spoils one.
func (t *token) check(h pkcs11.ObjectHandle, o *protocol.Object) ([]byte, error) {
	sh, err := t.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, failed("C_OpenSession", err)
	}
	defer func() { _ = t.ctx.CloseSession(sh) }()
	var out []byte
	switch {
	case o.Type == protocol.TypeAES && o.Facts[protocol.FactEncrypt] == protocol.FactYes:
		out, err = t.one(sh, h, protocol.OpEncrypt, &protocol.Use{
			Mechanism: protocol.MechAESCBC, IV: make([]byte, aes.BlockSize), Data: make([]byte, aes.BlockSize),
		})
	case o.Type == protocol.TypeGeneric && o.Facts[protocol.FactSign] == protocol.FactYes:
		out, err = t.one(sh, h, protocol.OpMAC, &protocol.Use{Mechanism: protocol.MechSHA512HMAC})
	}
	if err != nil && because(err) != protocol.ReasonSession && because(err) != protocol.ReasonDevice {
		return nil, nil
	}
	return out[:min(len(out), 3)], err
}

func identity(o *protocol.Object) []byte {
	h := sha256.New()
	_, _ = h.Write([]byte{o.Class, o.Type})
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, o.Bits))
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(o.Public)))) //nolint:gosec // a public key
	_, _ = h.Write(o.Public)
	_, _ = h.Write(o.Check)
	return h.Sum(nil)[:16]
}
