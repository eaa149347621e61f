package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// The schema is how buckets, records and state are laid out. A release reads its own
// and the one before, which it migrates, and writes what the release before it can
// still read: a release that does not work is taken back after it has opened the
// journal, and what is in there must go on.
const (
	// schemaVersion is what this program writes.
	schemaVersion = 1
	// schemaReadable is the oldest program, by the schema it writes, that can read and
	// write what this one leaves behind. Never less than schemaVersion-1 is promised.
	schemaReadable = 1
	// sealVersion stands in the additional data of every seal. It changes only where
	// seals do, and then older ones must open too.
	sealVersion = 1
)

// migrations change a journal from the schema that is their key to the next one, in
// one transaction. Only the newest is kept.
var migrations = map[uint32]func(*bbolt.Tx) error{}

// schema is what a program knows of schemas; tests have others than the program.
type schema struct {
	version, readable uint32
	migrations        map[uint32]func(*bbolt.Tx) error
}

var ownSchema = schema{schemaVersion, schemaReadable, migrations}

// ErrOlder says that a release from long ago wrote the file.
var ErrOlder = errors.New("the journal was written by a release that is too old")

// metaReadable is missing where only its own schema's program can read a journal.
var metaReadable = []byte("readable")

// schemaOf reads what schema a journal has, and from which on programs can read it.
func schemaOf(tx *bbolt.Tx) (version, readable uint32, err error) {
	meta := tx.Bucket(bucketMeta)
	if meta == nil || tx.Bucket(bucketItems) == nil {
		return 0, 0, fmt.Errorf("%w: it is a bbolt file, but not a journal", ErrDamaged)
	}
	b := meta.Get(metaSchema)
	if len(b) != 4 {
		return 0, 0, fmt.Errorf("%w: it has no schema version", ErrDamaged)
	}
	version = binary.BigEndian.Uint32(b)
	readable = version
	if b := meta.Get(metaReadable); len(b) == 4 {
		readable = binary.BigEndian.Uint32(b)
	}
	if version == 0 || readable == 0 || readable > version {
		return 0, 0, fmt.Errorf("%w: there never was a schema %d, readable from %d on", ErrDamaged, version, readable)
	}
	return version, readable, nil
}

// judge says whether a program may open a journal. A program one schema behind may,
// where the newer one has promised that; its own number it leaves alone.
func (s schema) judge(version, readable uint32) error {
	switch {
	case readable > s.version:
		return fmt.Errorf("%w: its schema is %d and this one knows up to %d", ErrNewer, version, s.version)
	case version < s.version && s.migrations[version] == nil:
		return fmt.Errorf("%w: its schema is %d and this one reads from %d on", ErrOlder, version, s.oldest())
	}
	return nil
}

// oldest is the first schema that can be migrated.
func (s schema) oldest() uint32 {
	if s.migrations[s.version-1] != nil {
		return s.version - 1
	}
	return s.version
}

// write notes the schema.
func (s schema) write(meta *bbolt.Bucket) error {
	return errors.Join(
		meta.Put(metaSchema, binary.BigEndian.AppendUint32(nil, s.version)),
		meta.Put(metaReadable, binary.BigEndian.AppendUint32(nil, s.readable)),
	)
}

// migrate brings a journal of the schema before to this program's. A copy of what it
// was stays beside it, for whoever has to find out what happened: nothing ever reads
// it, and putting it back would send again what was sent since. Either all of the
// migration is on disk or nothing.
func (o *Options) migrate(h *bbolt.DB) error {
	var from uint32
	if err := view(h, func(tx *bbolt.Tx) error {
		version, readable, err := schemaOf(tx)
		if err == nil {
			err = o.schema.judge(version, readable)
		}
		from = version
		return err
	}); err != nil || from >= o.schema.version {
		return err
	}
	copied := fmt.Sprintf("%s.schema-%d", o.Path, from)
	if err := copyJournal(h, copied); err != nil {
		return fmt.Errorf("copy the journal before its schema changes: %w", err)
	}
	if err := guarded(func() error {
		return h.Update(func(tx *bbolt.Tx) error {
			if err := o.schema.migrations[from](tx); err != nil {
				return err
			}
			return o.schema.write(tx.Bucket(bucketMeta))
		})
	}); err != nil {
		return fmt.Errorf("bring the journal from schema %d to %d: %w", from, o.schema.version, err)
	}
	o.Log.Info("journal migrated", "from_schema", from, "to_schema", o.schema.version, "copy", copied)
	return nil
}

// copyJournal writes the journal to another file, whole or not at all.
func copyJournal(h *bbolt.DB, path string) (err error) {
	tmp := path + ".new"
	defer func() { _ = os.Remove(tmp) }()
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o400) //nolint:gosec // G304: beside the journal
	if err != nil {
		return err
	}
	err = view(h, func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(f)
		return err
	})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// hintOf says what to do about a journal that cannot be loaded.
func hintOf(err error) string {
	switch {
	case errors.Is(err, ErrNewer):
		return "install that release again"
	case errors.Is(err, ErrOlder):
		return "install the release in between first, and this one after it"
	case errors.Is(err, ErrDamaged):
		return hintDamaged
	}
	return "make room on the disk, and let the service user write beside the journal"
}
