package keystore

import (
	"context"
	"errors"
	"fmt"

	"gardu/internal/keystore/protocol"
)

// What a call can fail with. Every error of this package is an *Error that wraps
// one of these, or the context's error when the caller's context ended first.
var (
	// ErrConfiguration: the options, a URI or the PIN's source cannot be used.
	ErrConfiguration = errors.New("configuration cannot be used")
	// ErrModule: the PKCS#11 module cannot be loaded, or its path is not trustworthy.
	ErrModule = errors.New("token driver cannot be loaded")
	// ErrTokenAbsent: no slot of the module holds the configured token.
	ErrTokenAbsent = errors.New("token absent")
	// ErrTokenAmbiguous: more than one token matches the configured selection.
	ErrTokenAmbiguous = errors.New("more than one token matches")
	// ErrPINWrong: the token refused the PIN just now. It is not tried again.
	ErrPINWrong = errors.New("token PIN wrong")
	// ErrPINLocked: the PIN was refused before and has not changed since, or the
	// token itself has locked it or has one try left. The token was not touched.
	ErrPINLocked = errors.New("token PIN locked")
	// ErrPINUnusable: the token was not asked, because it cannot accept the PIN:
	// its length, no PIN set in the token, or one that must be changed first.
	ErrPINUnusable = errors.New("token PIN cannot be used")
	// ErrKeyNotFound: the token holds no object of the name.
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyAmbiguous: the token holds more than one.
	ErrKeyAmbiguous = errors.New("key name is ambiguous")
	// ErrKeyExists: a new key would take a name that is in use.
	ErrKeyExists = errors.New("key name is in use")
	// ErrKeyChanged: another key stands under the name than when this Store first used it.
	ErrKeyChanged = errors.New("key was exchanged")
	// ErrKeyWeak: the key is shorter than allowed.
	ErrKeyWeak = errors.New("key too short")
	// ErrKeyGiven: what a person gave as a new key, or said of it, cannot be taken.
	ErrKeyGiven = errors.New("key cannot be taken")
	// ErrUnsupported: the token, or this package, has no such operation for the key.
	ErrUnsupported = errors.New("operation not supported")
	// ErrRefused: the token refused what the key or a new key was to do.
	ErrRefused = errors.New("token refused")
	// ErrCiphertext: what was to be decrypted was not made by this key, or was changed.
	ErrCiphertext = errors.New("not a ciphertext of this key")
	// ErrDevice: the token or its driver fails, also after a new session and a new worker.
	ErrDevice = errors.New("token does not work")
	// ErrTimeout: the token did not answer within the deadline; its worker was ended.
	ErrTimeout = errors.New("token did not answer in time")
	// ErrWorkerLost: the worker process ended during the call.
	ErrWorkerLost = errors.New("token worker ended")
	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("keystore is closed")
)

// Class says what kind of act mends an error.
type Class string

// The classes. ClassNone is for errors that are not this package's, a context's
// end among them.
const (
	ClassNone          Class = ""
	ClassConfiguration Class = "configuration" // someone must change a key, a PIN or the configuration
	ClassSession       Class = "session"       // the next call may work
	ClassDevice        Class = "device"        // the token, its driver or its daemon must come back
	ClassData          Class = "data"          // what was given is no ciphertext of the key
)

// Error is a failed call. Its text is one sentence with the hint, which says
// what to do, at its end.
type Error struct {
	Op     string // what was tried: "sign", "log in"
	Object string // the key's or the token's URI
	Err    error  // wraps one of the sentinels
	Hint   string // what a field engineer does about it
}

// Error returns the whole sentence.
func (e *Error) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	s += ": " + e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of an error of this package.
func ClassOf(err error) Class {
	for _, k := range kinds {
		if errors.Is(err, k.sentinel) {
			return k.class
		}
	}
	return ClassNone
}

var kinds = []struct {
	sentinel error
	class    Class
	hint     string
}{
	{ErrConfiguration, ClassConfiguration, "correct the configuration and restart gardu"},
	{ErrModule, ClassConfiguration, "install the token's driver package, or correct the module path in the configuration"},
	{ErrTokenAbsent, ClassDevice, "plug the token in or start its service, and check token label and serial in the configuration"},
	{ErrTokenAmbiguous, ClassConfiguration, "add serial= to the token's URI in the configuration"},
	{ErrPINWrong, ClassConfiguration, "put the right PIN into the credential; until it changes the token is left alone, so that it does not lock"},
	{ErrPINLocked, ClassConfiguration, "put the right PIN into the credential, or run `gardu keys unlatch` when it is right; if the token itself is locked, reset its PIN with the security officer's PIN"},
	{ErrPINUnusable, ClassConfiguration, "set the token's user PIN with the vendor's tool and put the same PIN into the credential"},
	{ErrKeyNotFound, ClassConfiguration, "compare the name with `gardu keys list`, then generate or import the key"},
	{ErrKeyAmbiguous, ClassConfiguration, "add id= to the key's URI in the configuration, or destroy the copy that `gardu keys list` shows"},
	{ErrKeyExists, ClassConfiguration, "choose another name or generation (such as name@g2), or destroy the old key first"},
	{ErrKeyChanged, ClassConfiguration, "if a key ceremony replaced it, restart gardu; if not, take the token out of service and report it"},
	{ErrKeyWeak, ClassConfiguration, "generate an RSA key of 2048 bits or more and register its public key, or ask the provider for one of that size"},
	{ErrKeyGiven, ClassConfiguration, "compare kind and encoding with what the provider says"},
	{ErrUnsupported, ClassConfiguration, "choose another mechanism or another kind of key for this role; `gardu check` shows what the token can do"},
	{ErrCertificate, ClassConfiguration, "have a certificate issued for this key: `gardu keys csr`"},
	{ErrRefused, ClassConfiguration, "compare the key's attributes in `gardu keys list` with its role, and make the key anew if they differ"},
	{ErrCiphertext, ClassData, "check that the data and the key belong together"},
	{ErrDevice, ClassDevice, "check the token's connection, its service and its driver's configuration, then run `gardu check`"},
	{ErrTimeout, ClassDevice, "check the token's connection and its service, then run `gardu check`"},
	{ErrWorkerLost, ClassSession, "nothing need be done if it is rare; if it repeats, update the token's driver and report it"},
	{ErrClosed, ClassSession, "restart gardu"},
}

// explain makes an Error with the hint that belongs to its sentinel; an Error
// that already is one keeps everything but takes the outer operation.
func explain(op, object string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Object: object, Err: err}
	if inner, ok := errors.AsType[*Error](err); ok {
		e.Err, e.Hint = inner.Err, inner.Hint
		if inner.Op != op && inner.Op != "" {
			e.Err = fmt.Errorf("%s %s: %w", inner.Op, inner.Object, inner.Err)
		}
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		e.Hint = "the caller gave up waiting; try again"
		return e
	}
	for _, k := range kinds {
		if errors.Is(err, k.sentinel) {
			e.Hint = k.hint
			break
		}
	}
	return e
}

// configuration is an error about something the caller or the configuration gave.
func configuration(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrConfiguration, fmt.Sprintf(format, args...))
}

var sentinels = map[protocol.Reason]error{
	protocol.ReasonConfiguration: ErrRefused,
	protocol.ReasonData:          ErrCiphertext,
	protocol.ReasonSession:       ErrDevice,
	protocol.ReasonDevice:        ErrDevice,
	protocol.ReasonModule:        ErrModule,
	protocol.ReasonTokenAbsent:   ErrTokenAbsent,
	protocol.ReasonTokenMany:     ErrTokenAmbiguous,
	protocol.ReasonPINWrong:      ErrPINWrong,
	protocol.ReasonPINLocked:     ErrPINLocked,
	protocol.ReasonPINUnusable:   ErrPINUnusable,
	protocol.ReasonKeyNotFound:   ErrKeyNotFound,
	protocol.ReasonKeyAmbiguous:  ErrKeyAmbiguous,
	protocol.ReasonKeyChanged:    ErrKeyChanged,
	protocol.ReasonKeyExists:     ErrKeyExists,
	protocol.ReasonUnsupported:   ErrUnsupported,
	protocol.ReasonNotCommitted:  ErrRefused,
	protocol.ReasonLeftUnchecked: ErrRefused,
	protocol.ReasonNotAnnounced:  ErrKeyGiven,
}

// fromWorker is the error that a Failure stands for.
func fromWorker(f *protocol.Failure) error {
	sentinel, ok := sentinels[f.Reason]
	if !ok {
		sentinel = ErrDevice
	}
	err := fmt.Errorf("%w: %s", sentinel, f.Detail)
	switch f.Reason {
	case protocol.ReasonNotCommitted:
		return &Error{Op: "check", Object: "the new key", Err: err,
			Hint: "the new key was destroyed again; choose another kind of key, or keep this role's key elsewhere, since this token cannot hold it safely"}
	case protocol.ReasonNotAnnounced:
		return &Error{Op: "check", Object: "the new key", Err: err,
			Hint: "the new key was destroyed again; compare check value and kind with the sender once more, and ask for the file again if they still differ"}
	case protocol.ReasonLeftUnchecked:
		return &Error{Op: "check", Object: "the new key", Err: err,
			Hint: "an unusable key may be left in the token: destroy it with `gardu keys destroy` before trying again"}
	default:
		return err
	}
}
