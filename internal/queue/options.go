package queue

import (
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/bbolt"

	"gardu/internal/txn"
)

// Options say where the journal is and what it may use.
type Options struct {
	Path   string // the bbolt file; its folder must exist
	KeyDir string // folder on tmpfs for the wrapped keys of PINs; used by this journal alone
	KEK    KEK    // wraps the data keys
	PINKEK KEK    // wraps the keys of PINs and one-time passwords
	Kiosk  uint32 // number of this kiosk, 1 to txn.MaxKiosk

	MaxItems int   // records at most; 0: 10,000. Only Add is refused beyond it
	MaxBytes int64 // bytes of records at most; 0: 64 MiB, or 6.5 KiB for each of MaxItems. Likewise
	Reserve  int64 // bytes of disk taken at creation; 0: 8 MiB, negative: none

	// SecretMost is the longest that the key of a PIN or one-time password stays; 0:
	// 15 minutes. It is destroyed then, whatever else fails. Longer than any request
	// with a secret may wait.
	SecretMost time.Duration

	Log *slog.Logger // nil: nothing is logged
	// Stamp gives the bytes, at most 256, that each commit stores beside what it
	// changes: the head of the audit record, so that a shortened audit file is
	// noticed. Called by the writer for every commit; it must not block. May be nil.
	Stamp func() []byte

	// DangerousAllowKeyDirOnDisk accepts a KeyDir that is not on tmpfs. For tests: a
	// deleted key can then be read from the disk again, and with it the PIN.
	DangerousAllowKeyDirOnDisk bool

	// What tests make fail or come sooner.
	commit     func(*bbolt.Tx) error
	keySeals   uint64
	keyAge     time.Duration
	idle       time.Duration
	schema     schema // what this program knows of schemas
	grantPurge time.Duration
}

const (
	defaultMaxItems = 10_000
	defaultMaxBytes = 64 << 20
	defaultReserve  = 8 << 20
)

func (o *Options) check() error {
	bad := func(field, what string) error {
		return fmt.Errorf("open journal: option %s %s: %w", field, what, ErrInvalid)
	}
	switch {
	case o.Path == "":
		return bad("Path", "is empty; name the journal file")
	case o.KeyDir == "":
		return bad("KeyDir", "is empty; name a folder on tmpfs")
	case o.KEK == nil:
		return bad("KEK", "is missing")
	case o.PINKEK == nil:
		return bad("PINKEK", "is missing")
	case o.Kiosk < 1 || o.Kiosk > txn.MaxKiosk:
		return bad("Kiosk", fmt.Sprintf("is %d; give 1 to %d", o.Kiosk, txn.MaxKiosk))
	case o.SecretMost < 0:
		return bad("SecretMost", "is negative; give a time, or 0 for the default")
	case o.MaxItems < 0 || o.MaxBytes < 0:
		return bad("MaxItems or MaxBytes", "is negative; give a limit, or 0 for the default")
	}
	if o.MaxItems == 0 {
		o.MaxItems = defaultMaxItems
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = max(defaultMaxBytes, int64(o.MaxItems)*(defaultMaxBytes/defaultMaxItems))
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.SecretMost == 0 {
		o.SecretMost = defaultSecretMost
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.commit == nil {
		o.commit = (*bbolt.Tx).Commit
	}
	if o.keySeals == 0 {
		o.keySeals = keySeals
	}
	if o.keyAge == 0 {
		o.keyAge = keyAge
	}
	if o.schema.version == 0 {
		o.schema = ownSchema
	}
	if o.idle == 0 {
		o.idle = idleEvery
	}
	if o.grantPurge == 0 {
		o.grantPurge = grantPurge
	}
	if o.Stamp == nil {
		o.Stamp = func() []byte { return nil }
	}
	return nil
}

// fileLimit is bbolt's own limit, a backstop behind MaxItems and MaxBytes: a
// transition rewrites a record before the old one's pages are free.
func (o *Options) fileLimit() int {
	return int(4*o.MaxBytes + max(o.Reserve, 0) + 64<<20)
}
