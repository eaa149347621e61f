package queue

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// WithCommit lets a test decide what a commit does.
func (o Options) WithCommit(fn func(*bbolt.Tx) error) Options {
	o.commit = fn
	return o
}

// WithKeys makes data keys wear out sooner.
func (o Options) WithKeys(seals uint64, age time.Duration) Options {
	o.keySeals, o.keyAge = seals, age
	return o
}

// WithIdle makes the writer do sooner what waits for nobody.
func (o Options) WithIdle(d time.Duration) Options {
	o.idle = d
	return o
}

// WithGrantPurge makes the writer look sooner for grants that are over.
func (o Options) WithGrantPurge(d time.Duration) Options {
	o.grantPurge = d
	return o
}

// WithSchema opens as a program of another schema would.
func (o Options) WithSchema(version, readable uint32, migrations map[uint32]func(*bbolt.Tx) error) Options {
	o.schema = schema{version, readable, migrations}
	return o
}

// The program's own schema.
const (
	SchemaVersion  = schemaVersion
	SchemaReadable = schemaReadable
)

// Migrations are the program's own.
var Migrations = migrations

// Inspect reads a file as Open does before bbolt sees it.
func Inspect(f io.ReaderAt, size int64) error { return inspect(f, size) }

// Names of what a test changes by hand.
var (
	BucketItems = bucketItems
	BucketMeta  = bucketMeta
	MetaSchema  = metaSchema
	MetaState   = metaState

	BucketGrants = bucketGrants
	MetaGrantKey = metaGrantKey
)

// SerialBlock is how many serials are reserved at once.
const SerialBlock = serialBlock

// SlotEvery is where the witness's second slot begins.
const SlotEvery = slotEvery

// Waiting is how many callers nobody has taken out of the line yet.
func (db *DB) Waiting() int {
	db.line.mu.Lock()
	defer db.line.mu.Unlock()
	return len(db.line.waiting)
}

// GrantNames are those of all grants in the file, as it has them.
func GrantNames(t testing.TB, db *DB) (names [][]byte) {
	t.Helper()
	err := db.peek(func(tx *bbolt.Tx) {
		for c, k, _ := first(tx.Bucket(bucketGrants).Cursor()); k != nil; k, _ = c.Next() {
			names = append(names, bytes.Clone(k))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// EndGrants deletes those of names that are over, as the writer does with what it found
// before.
func (db *DB) EndGrants(ctx context.Context, names [][]byte) error { return db.endGrants(ctx, names) }

// AfterCommit has fn run in the turn of whoever writes, after a commit.
func (db *DB) AfterCommit(ctx context.Context, fn func()) error {
	return db.line.do(ctx, &op{apply: func(*batch) error { return nil }, settle: func(bool) { fn() }})
}
