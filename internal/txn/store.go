package txn

import (
	"context"
	"errors"

	"gardu/internal/secret"
)

// Store keeps requests. What it returned nil for is synced to disk. It is safe
// for concurrent use; the Engine never changes one request from two goroutines.
type Store interface {
	// Add stores a new request and sets its Seq. s, where not nil, is the secret of
	// its first step; it is sealed under a key of its own that never reaches a disk.
	// Errors: ErrFull (nothing was stored), ErrStoreUnknown (it may have been),
	// others (nothing was stored).
	Add(ctx context.Context, r *Request, s *secret.Value) error
	// Update replaces the record. With s not nil the request's secret is replaced
	// as well; with r.Secret empty the request's secret, if any, is destroyed once
	// the record is on disk. Errors: ErrNotFound, ErrStoreUnknown, others.
	Update(ctx context.Context, r *Request, s *secret.Value) error
	// Delete removes finished records and what belongs to them.
	Delete(ctx context.Context, seqs []uint64) error
	// Reader is the reading half.
	Reader
}

// Reader reads requests back.
type Reader interface {
	// Get opens one record. ErrNotFound; ErrSeal where it does not open.
	Get(ctx context.Context, seq uint64) (*Request, error)
	// Each opens every record once, in order of Seq, and stops at the first error
	// of fn. A record whose seal is broken is reported to fn as (nil, err) with an
	// error that wraps ErrSeal, and fn decides whether to go on.
	Each(ctx context.Context, fn func(*Request, error) error) error
	// Secret opens the secret of a request. ErrSecretLost where its key is gone.
	Secret(ctx context.Context, r *Request) (*secret.Value, error)
	// Serial hands out a number that this journal never hands out again, also not
	// after a crash.
	Serial(ctx context.Context) (uint64, error)
}

// What a Store says. Callers branch on these.
var (
	ErrNotFound     = errors.New("no such request in the journal")
	ErrFull         = errors.New("the journal is full")
	ErrStoreUnknown = errors.New("the journal does not know whether it stored this")
	ErrSeal         = errors.New("a journal record does not match its seal")
	ErrSecretLost   = errors.New("the key of this request's secret is gone")
)

// Identity makes identifiers that no other kiosk and no other journal makes.
type Identity struct {
	Kiosk uint32 // 1 to MaxKiosk, unique over the kiosks that share a partner id
	Salt  uint64 // random per journal, below 10^10, so that a replaced journal does not repeat its predecessor
}
