package protocol

import "encoding/binary"

// Status starts an answer: StatusOK, or StatusFailed with a Failure as its body.
type Status = uint8

// The states of an answer.
const (
	StatusOK     Status = 0
	StatusFailed Status = 1
)

// Slow is a bit beside the Status: operations of the kind take so long that the next
// is to take a lane, if one is free.
const Slow Status = 0x80

// Reason says what went wrong, for the caller to branch on.
type Reason uint8

// The reasons.
const (
	// ReasonConfiguration: the token will answer the same again until someone
	// changes a key, the configuration or the request.
	ReasonConfiguration Reason = 1
	// ReasonData: the ciphertext is not one of this key; the token is well.
	ReasonData Reason = 2
	// ReasonSession: a session, a handle or the login was lost; a new worker mends it.
	ReasonSession Reason = 3
	// ReasonDevice: the token, its driver or the daemon behind it does not work.
	ReasonDevice        Reason = 4
	ReasonModule        Reason = 5  // the module cannot be loaded or initialised
	ReasonTokenAbsent   Reason = 6  // no token matches the selection
	ReasonTokenMany     Reason = 7  // more than one does
	ReasonPINWrong      Reason = 8  // C_Login said so: it cost one of the token's tries
	ReasonPINLocked     Reason = 9  // the token has locked the PIN
	ReasonKeyNotFound   Reason = 10 //
	ReasonKeyAmbiguous  Reason = 11 //
	ReasonKeyChanged    Reason = 12 // another key stands under the name
	ReasonKeyExists     Reason = 13 // a new key would make a name ambiguous
	ReasonUnsupported   Reason = 14 // the token has no such mechanism, or not for this key
	ReasonNotCommitted  Reason = 15 // a new key failed its checks and was destroyed again
	ReasonPINUnusable   Reason = 16 // the token wants the PIN set or changed first
	ReasonLeftUnchecked Reason = 17 // a new key failed its checks and could not be destroyed
	ReasonNotAnnounced  Reason = 18 // a new key is not the one that was announced, or nobody can tell; it was destroyed again
)

// Failure is why a request was not carried out. Code is the CKR_ value, 0 when
// it does not come from the module; Detail names the step, and holds no secret.
type Failure struct {
	Reason Reason
	Code   uint64
	Detail string
}

// Append appends the body of the message to b.
func (m *Failure) Append(b []byte) []byte {
	b = append(b, byte(m.Reason))
	b = binary.BigEndian.AppendUint64(b, m.Code)
	return appendBytes(b, m.Detail)
}

// Parse reads what Append wrote.
func (m *Failure) Parse(body []byte) error {
	p := parser{b: body}
	m.Reason, m.Code, m.Detail = Reason(p.u8()), p.u64(), p.text()
	return p.end("the failure")
}

// Error makes a Failure an error inside the worker.
func (m *Failure) Error() string { return m.Detail }
