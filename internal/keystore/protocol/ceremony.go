package protocol

// The requests of key ceremonies beyond making and destroying.
const (
	OpNames  Op = 20 // Use without data → Objects, of which only class and label are set
	OpRename Op = 21 // Rename → Object
	OpUnwrap Op = 22 // Unwrap → Object
	OpVerify Op = 23 // Use without data → Verdict
)

// GenerationMark stands in a label between a name and the number of a
// generation. OpNames answers with the objects that are called as asked, or so
// and then the mark and anything.
const GenerationMark = "@g"

// The mechanisms that only unwrap.
const (
	MechAESKeyWrapPad Mechanism = 9 // RFC 5649
)

// Rename gives an object, and the public half of a private key with it, another
// label. Key is what Key.Append wrote.
type Rename struct {
	Key   []byte
	Label string
}

// Append appends the body of the message to b.
func (m *Rename) Append(b []byte) []byte {
	b = appendBytes(b, m.Key)
	return appendBytes(b, m.Label)
}

// Parse reads what Append wrote. Key shares its memory with body.
func (m *Rename) Parse(body []byte) error {
	p := parser{b: body}
	m.Key, m.Label = p.bytes(), p.text()
	return p.end("the new name")
}

// Unwrap makes a key from what was encrypted for a key of the token: a secret by
// OAEP (Value), or an RSA key, too large for that, by an AES key (Key by OAEP,
// Value by RFC 5649 under that). The new key is that of Create, without Parts.
type Unwrap struct {
	Transport []byte    // the unwrapping key, as Key.Append wrote it
	Mechanism Mechanism // of OAEP; MechNone tries those that there are
	Key       []byte
	Value     []byte
	Create    []byte // what Create.Append wrote
}

// Append appends the body of the message to b.
func (m *Unwrap) Append(b []byte) []byte {
	b = appendBytes(b, m.Transport)
	b = append(b, m.Mechanism)
	b = appendBytes(b, m.Key)
	b = appendBytes(b, m.Value)
	return appendBytes(b, m.Create)
}

// Parse reads what Append wrote. Every field shares its memory with body.
func (m *Unwrap) Parse(body []byte) error {
	p := parser{b: body}
	m.Transport, m.Mechanism = p.bytes(), p.u8()
	m.Key, m.Value, m.Create = p.bytes(), p.bytes(), p.bytes()
	return p.end("the wrapped key")
}

// Verdict is what a key showed when it was tried. Trial says what its test
// operation was, and Failed, when not empty, what came of it instead of what
// must; Readable is true when the token shows the key's value in clear.
type Verdict struct {
	Object   Object
	Readable bool
	Trial    string
	Failed   string
}

// Append appends the body of the message to b.
func (m *Verdict) Append(b []byte) []byte {
	b = appendBool(b, m.Readable)
	b = appendBytes(b, m.Trial)
	b = appendBytes(b, m.Failed)
	return m.Object.append(b)
}

// Parse reads what Append wrote and keeps nothing of body.
func (m *Verdict) Parse(body []byte) error {
	p := parser{b: body}
	m.Readable = p.bool()
	m.Trial, m.Failed = p.text(), p.text()
	m.Object.parse(&p)
	return p.end("the verdict")
}
