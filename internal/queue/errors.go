package queue

import (
	"errors"
	"fmt"
)

// What is wrong with a journal. All come wrapped in an *Error that names the file
// and says what to do.
var (
	// ErrVanished: there is a witness but no journal file.
	ErrVanished = errors.New("the journal file is gone, but its witness says that there was one")
	// ErrDamaged: the file cannot be a journal as this program left it.
	ErrDamaged = errors.New("the journal file is damaged")
	// ErrNewer: a newer release wrote the file in a way this one cannot read.
	ErrNewer = errors.New("the journal was written by a newer release")
	// ErrWrongKEK: the token's key does not open the journal's keys.
	ErrWrongKEK = errors.New("the key in the token does not open this journal")
	// ErrKeyDir: the folder for the keys of secrets cannot be used.
	ErrKeyDir = errors.New("the folder for the keys of PINs cannot be used")
	// ErrDown: the file was closed after an error and could not be opened again yet.
	ErrDown = errors.New("the journal is closed after an error and cannot be opened again yet")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("the journal is closed")
	// ErrTooLarge: one request is larger than a record may be. Nothing was stored.
	ErrTooLarge = errors.New("the request is too large for one journal record")
	// ErrInvalid: the request cannot be stored as it is. Nothing was stored.
	ErrInvalid = errors.New("the request cannot be stored")
	// ErrSerials: the counter of external ids has reached its end.
	ErrSerials = errors.New("the journal's serial numbers are used up")
)

// ErrKeyMismatch is what a KEK's Unwrap wraps when the wrapped bytes were not
// made by this key or were changed, as opposed to a token that is absent or busy.
var ErrKeyMismatch = errors.New("these bytes were not wrapped by this key")

// Error is a fault of the journal that a person must mend.
type Error struct {
	Op   string // what was being done
	Path string // the file or folder
	Err  error
	Hint string // what to do; may be empty
}

// Error is one line: what, where, why, and what to do.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// LockedError says that another process has the journal open.
type LockedError struct {
	Path string
	PID  int // 0 where it could not be found out
}

// Error is one sentence with the process, where known.
func (e *LockedError) Error() string {
	if e.PID > 0 {
		return fmt.Sprintf("journal %s is locked by another agent (pid %d); stop that one first", e.Path, e.PID)
	}
	return fmt.Sprintf("journal %s is locked by another agent; stop that one first", e.Path)
}

// RecordError is a record that does not open. It wraps txn.ErrSeal.
type RecordError struct {
	Seq       uint64
	RequestID string // from the clear header, not authenticated; empty where unreadable
	Err       error
}

// Error names the record and why.
func (e *RecordError) Error() string {
	return fmt.Sprintf("journal record %d (request %q): %v", e.Seq, e.RequestID, e.Err)
}

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }
