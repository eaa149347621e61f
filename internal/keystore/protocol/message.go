package protocol

import (
	"encoding/binary"
	"fmt"
)

// Op says what a request asks for.
type Op = uint8

// The requests. Hello comes first, Login at most once and after it.
const (
	OpHello    Op = 1  // Hello → Token
	OpLogin    Op = 2  // Login → empty
	OpDescribe Op = 3  // Use without data → Object; always looks the key up anew
	OpSign     Op = 4  // Use → signature
	OpMAC      Op = 5  // Use → MAC
	OpEncrypt  Op = 6  // Use → ciphertext; under AES-GCM IV, ciphertext, tag
	OpDecrypt  Op = 7  // Use → plaintext
	OpList     Op = 8  // empty → Objects
	OpGenerate Op = 9  // Create → Object
	OpImport   Op = 10 // Create → Object
	OpDestroy  Op = 11 // Use without data → empty
)

// Here is a bit beside the Op: the caller is on the processor whose number stands
// in two bytes before the message, and the worker is to work there too.
const Here Op = 0x80

// AppendProcessor appends what goes before the message of a request that has Here.
func AppendProcessor(b []byte, cpu uint16) []byte { return binary.BigEndian.AppendUint16(b, cpu) }

// TakeProcessor takes Here and the processor's number off a request. It returns -1
// for a request without.
func (f *Frame) TakeProcessor() (cpu int, err error) {
	if f.Code&Here == 0 {
		return -1, nil
	}
	p := parser{b: f.Body}
	cpu = int(p.u16())
	if p.bad {
		return -1, fmt.Errorf("%w: a request without the processor that it announces", ErrFrame)
	}
	f.Code &^= Here
	f.Body = p.b
	return cpu, nil
}

// Mechanism names a PKCS#11 mechanism with its parameters.
type Mechanism = uint8

// The mechanisms.
const (
	MechNone          Mechanism = 0
	MechSHA256RSAPKCS Mechanism = 1 // Data is the message
	MechRSAPKCS       Mechanism = 2 // Data is a DigestInfo
	MechSHA512HMAC    Mechanism = 3
	MechAESCBC        Mechanism = 4 // IV of 16 bytes, no padding
	MechAESGCM        Mechanism = 5 // IV of 12 bytes, AAD, tag of 16 bytes
	MechOAEPSHA1      Mechanism = 6
	MechOAEPSHA256    Mechanism = 7
	MechECDSA         Mechanism = 8  // Data is the digest; the answer is r and s, each of the field's size
	MechPSSSHA256     Mechanism = 16 // Data is the digest, the salt is as long
	MechPSSSHA384     Mechanism = 17
	MechPSSSHA512     Mechanism = 18
)

// Class of an object, by PKCS#11's CKA_CLASS.
type Class = uint8

// The classes.
const (
	ClassAny     Class = 0
	ClassPrivate Class = 1
	ClassSecret  Class = 2
	ClassPublic  Class = 3
	ClassCert    Class = 4
)

// KeyType is what a key is for arithmetic, by CKA_KEY_TYPE.
type KeyType = uint8

// The key types. TypeGeneric stands also for the HMAC key types of newer tokens.
const (
	TypeAny     KeyType = 0
	TypeRSA     KeyType = 1
	TypeEC      KeyType = 2
	TypeAES     KeyType = 3
	TypeGeneric KeyType = 4
	TypeOther   KeyType = 5
)

// Hello tells the worker which module to load and which token to choose. An
// empty field of the selection matches every token.
type Hello struct {
	Module       string
	InitReserved string
	Label        string
	Serial       string
	Manufacturer string
	Model        string
	Sessions     uint32
	Lanes        uint32 // how many the worker was given
}

// Append appends the body of the message to b.
func (m *Hello) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, Version)
	for _, s := range []string{m.Module, m.InitReserved, m.Label, m.Serial, m.Manufacturer, m.Model} {
		b = appendBytes(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, m.Sessions)
	return binary.BigEndian.AppendUint32(b, m.Lanes)
}

// Parse reads what Append wrote. A different Version is an error.
func (m *Hello) Parse(body []byte) error {
	p := parser{b: body}
	if p.u32() != Version {
		p.bad = true
	}
	for _, s := range []*string{&m.Module, &m.InitReserved, &m.Label, &m.Serial, &m.Manufacturer, &m.Model} {
		*s = p.text()
	}
	m.Sessions, m.Lanes = p.u32(), p.u32()
	return p.end("the greeting")
}

// TokenFlag is a bit of Token.Flags: what the login depends on.
type TokenFlag = uint32

// The flags of a token.
const (
	TokenLoginRequired TokenFlag = 1
	TokenPINLow        TokenFlag = 2 // a wrong PIN was given since the last right one
	TokenPINFinalTry   TokenFlag = 4
	TokenPINLocked     TokenFlag = 8
	TokenPINChange     TokenFlag = 16 // the PIN must be changed before use
	TokenPINUnset      TokenFlag = 32 // no user PIN was ever set
)

// Token describes the chosen token; MinPIN and MaxPIN are in bytes, 0 when the
// token does not say.
type Token struct {
	Label, Serial, Manufacturer, Model string
	Library                            string
	Flags                              uint32
	MinPIN, MaxPIN                     uint32
	Mechanisms                         []MechanismInfo
}

// MechanismInfo is one line of the token's mechanism list, in PKCS#11's own
// numbers (CKM_, CKF_); the key sizes are in the mechanism's own unit.
type MechanismInfo struct {
	Type           uint64
	Flags          uint64
	MinKey, MaxKey uint64
}

// Append appends the body of the message to b.
func (m *Token) Append(b []byte) []byte {
	for _, s := range []string{m.Label, m.Serial, m.Manufacturer, m.Model, m.Library} {
		b = appendBytes(b, s)
	}
	for _, v := range []uint32{m.Flags, m.MinPIN, m.MaxPIN, uint32(len(m.Mechanisms))} { //nolint:gosec // Finish refuses what is too long
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for _, i := range m.Mechanisms {
		for _, v := range []uint64{i.Type, i.Flags, i.MinKey, i.MaxKey} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
	}
	return b
}

// Parse reads what Append wrote.
func (m *Token) Parse(body []byte) error {
	p := parser{b: body}
	for _, s := range []*string{&m.Label, &m.Serial, &m.Manufacturer, &m.Model, &m.Library} {
		*s = p.text()
	}
	m.Flags, m.MinPIN, m.MaxPIN = p.u32(), p.u32(), p.u32()
	m.Mechanisms = make([]MechanismInfo, p.count(32))
	for i := range m.Mechanisms {
		m.Mechanisms[i] = MechanismInfo{Type: p.u64(), Flags: p.u64(), MinKey: p.u64(), MaxKey: p.u64()}
	}
	return p.end("the token's description")
}

// Key names one object. An empty Label or ID is not compared. Pin, when not
// empty, is the Identity the object must have.
type Key struct {
	Label string
	ID    []byte
	Class Class
	Type  KeyType
	Pin   []byte
}

// Append appends the key's name to b.
func (k *Key) Append(b []byte) []byte {
	b = appendBytes(b, k.Label)
	b = appendBytes(b, k.ID)
	b = append(b, k.Class, k.Type)
	return appendBytes(b, k.Pin)
}

// Parse reads what Append wrote. ID and Pin share their memory with body.
func (k *Key) Parse(body []byte) error {
	p := parser{b: body}
	k.Label, k.ID = p.text(), p.bytes()
	k.Class, k.Type = p.u8(), p.u8()
	k.Pin = p.bytes()
	return p.end("the key's name")
}

// Use asks for one operation with one key. Key is what Key.Append wrote: the
// worker looks it up whole and reads it only when it does not know it yet.
type Use struct {
	Key       []byte
	Mechanism Mechanism
	IV        []byte
	AAD       []byte
	Data      []byte
}

// Append appends the body of the message to b.
func (m *Use) Append(b []byte) []byte {
	b = appendBytes(b, m.Key)
	b = append(b, m.Mechanism)
	b = appendBytes(b, m.IV)
	b = appendBytes(b, m.AAD)
	return appendBytes(b, m.Data)
}

// Parse reads what Append wrote. Every field shares its memory with body.
func (m *Use) Parse(body []byte) error {
	p := parser{b: body}
	m.Key = p.bytes()
	m.Mechanism = p.u8()
	m.IV, m.AAD, m.Data = p.bytes(), p.bytes(), p.bytes()
	return p.end("the request")
}

// Usage is a bit of what a new key may be used for.
type Usage = uint8

// The usages: a key gets the smallest set that serves its one purpose.
const (
	UsageSign    Usage = 1
	UsageEncrypt Usage = 2
	UsageDecrypt Usage = 4
	UsageUnwrap  Usage = 8 // of a transport key: other keys come in under it
)

// Create makes a key in the token. For OpImport Parts holds its value: of a
// secret or AES key the bytes, of an RSA key n, e, d, p, q, dp, dq, qinv.
type Create struct {
	Label string
	ID    []byte
	Type  KeyType
	// Bits is the size of an RSA modulus, an EC field or a secret.
	Bits  uint32
	Usage Usage
	// AnyID refuses a label that stands at any other ID too: the caller names
	// the key by its label alone.
	AnyID bool
	Parts [][]byte
	// Check, when not empty, is how the new key's check value must begin; of a key
	// pair it is the SHA-256 of the public half.
	Check []byte
}

// Append appends the body of the message to b.
func (m *Create) Append(b []byte) []byte {
	b = appendBytes(b, m.Label)
	b = appendBytes(b, m.ID)
	b = append(b, m.Type)
	b = binary.BigEndian.AppendUint32(b, m.Bits)
	b = append(b, m.Usage)
	b = appendBool(b, m.AnyID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Parts))) //nolint:gosec // Finish refuses what is too long
	for _, v := range m.Parts {
		b = appendBytes(b, v)
	}
	return appendBytes(b, m.Check)
}

// Parse reads what Append wrote. ID, Parts and Check share their memory with body.
func (m *Create) Parse(body []byte) error {
	p := parser{b: body}
	m.Label, m.ID = p.text(), p.bytes()
	m.Type, m.Bits, m.Usage = p.u8(), p.u32(), p.u8()
	m.AnyID = p.bool()
	m.Parts = nil
	for range p.count(4) {
		m.Parts = append(m.Parts, p.bytes())
	}
	m.Check = p.bytes()
	return p.end("the new key's description")
}

// Fact is one attribute as the token told it.
type Fact = uint8

// The values of a Fact.
const (
	FactUnknown Fact = 0
	FactNo      Fact = 1
	FactYes     Fact = 2
)

// The places of Object.Facts.
const (
	FactToken            = 0
	FactPrivate          = 1
	FactSensitive        = 2
	FactExtractable      = 3
	FactAlwaysSensitive  = 4
	FactNeverExtractable = 5
	FactLocal            = 6
	FactSign             = 7
	FactVerify           = 8
	FactEncrypt          = 9
	FactDecrypt          = 10
	FactWrap             = 11
	FactUnwrap           = 12
	FactDerive           = 13
	Facts                = 14
)

// Object describes one object. Public is the public key as PKIX DER where there
// is one. Check is the key check value where the key may compute it. Identity is
// a digest over what the token cannot change without it being another key.
type Object struct {
	Label    string
	ID       []byte
	Class    Class
	Type     KeyType
	Bits     uint32
	Public   []byte
	Check    []byte
	Identity []byte
	Facts    [Facts]Fact
}

func (m *Object) append(b []byte) []byte {
	b = appendBytes(b, m.Label)
	b = appendBytes(b, m.ID)
	b = append(b, m.Class, m.Type)
	b = binary.BigEndian.AppendUint32(b, m.Bits)
	b = appendBytes(b, m.Public)
	b = appendBytes(b, m.Check)
	b = appendBytes(b, m.Identity)
	return append(b, m.Facts[:]...)
}

func (m *Object) parse(p *parser) {
	m.Label, m.ID = p.text(), append([]byte(nil), p.bytes()...)
	m.Class, m.Type, m.Bits = p.u8(), p.u8(), p.u32()
	m.Public = append([]byte(nil), p.bytes()...)
	m.Check = append([]byte(nil), p.bytes()...)
	m.Identity = append([]byte(nil), p.bytes()...)
	copy(m.Facts[:], p.take(Facts))
}

// Append appends the body of the message to b.
func (m *Object) Append(b []byte) []byte { return m.append(b) }

// Parse reads what Append wrote and keeps nothing of body.
func (m *Object) Parse(body []byte) error {
	p := parser{b: body}
	m.parse(&p)
	return p.end("the object's description")
}

// Objects is a list of objects.
type Objects []Object

// Append appends the body of the message to b.
func (m Objects) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(m))) //nolint:gosec // Finish refuses what is too long
	for i := range m {
		b = m[i].append(b)
	}
	return b
}

// Parse reads what Append wrote and keeps nothing of body.
func (m *Objects) Parse(body []byte) error {
	p := parser{b: body}
	*m = make(Objects, p.count(4*6+2+Facts))
	for i := range *m {
		(*m)[i].parse(&p)
	}
	return p.end("the list of objects")
}
