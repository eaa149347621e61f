package queue_test

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"gardu/internal/queue"
)

// next is a program whose schema is one further: it adds something to the meta
// bucket.
func next(opt queue.Options, step func(*bbolt.Tx) error) queue.Options {
	return opt.WithSchema(2, 1, map[uint32]func(*bbolt.Tx) error{1: step})
}

func addSomething(tx *bbolt.Tx) error {
	return tx.Bucket(queue.BucketMeta).Put([]byte("something"), []byte("new"))
}

func metaOf(t *testing.T, path string, key []byte) (v []byte) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, b.View(func(tx *bbolt.Tx) error {
		v = append(v, tx.Bucket(queue.BucketMeta).Get(key)...)
		return nil
	}))
	require.NoError(t, b.Close())
	return v
}

func items(t *testing.T, opt queue.Options) int {
	t.Helper()
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	n := db.Stats().Items
	require.Empty(t, db.Behind())
	require.NoError(t, db.Close())
	return n
}

func TestAJournalIsMigratedAndGoesBackAndForth(t *testing.T) {
	opt := written(t, 3)
	newer := next(opt, addSomething)
	require.Equal(t, 3, items(t, newer))
	require.Equal(t, "new", string(metaOf(t, opt.Path, []byte("something"))))
	require.Equal(t, uint32(2), binary.BigEndian.Uint32(metaOf(t, opt.Path, queue.MetaSchema)))

	// The copy is what there was, and for nobody to write to.
	copied := opt.Path + ".schema-1"
	require.Equal(t, uint32(1), binary.BigEndian.Uint32(metaOf(t, copied, queue.MetaSchema)))
	st, err := os.Stat(copied)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o400), st.Mode().Perm())

	// The release before opens it, takes a request and leaves the number alone.
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	require.NoError(t, db.Add(t.Context(), request("081234567890"), nil))
	require.NoError(t, db.Close())
	require.Equal(t, uint32(2), binary.BigEndian.Uint32(metaOf(t, opt.Path, queue.MetaSchema)))

	// And the newer one goes on with both, without another migration.
	require.Equal(t, 4, items(t, next(opt, func(*bbolt.Tx) error { return errors.New("migrated twice") })))
}

// Putting the copy back is noticed: what it calls unsent may have been sent.
func TestTheCopyIsEvidenceAndNoBackup(t *testing.T) {
	opt := written(t, 1)
	newer := next(opt, addSomething)
	require.Equal(t, 1, items(t, newer))
	b, err := os.ReadFile(opt.Path + ".schema-1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(opt.Path, b, 0o600))
	db, err := queue.Open(t.Context(), opt)
	require.NoError(t, err)
	require.NotEmpty(t, db.Behind())
	require.NoError(t, db.Close())
}

func TestAMigrationThatFailsChangesNothing(t *testing.T) {
	boom := errors.New("boom")
	for name, step := range map[string]func(*bbolt.Tx) error{
		"an error": func(tx *bbolt.Tx) error { return errors.Join(addSomething(tx), boom) },
		"a panic":  func(tx *bbolt.Tx) error { _ = addSomething(tx); panic(boom) },
	} {
		t.Run(name, func(t *testing.T) {
			opt := written(t, 2)
			err := refused(t, next(opt, step))
			require.ErrorContains(t, err, "bring the journal from schema 1 to 2")
			require.Equal(t, uint32(1), binary.BigEndian.Uint32(metaOf(t, opt.Path, queue.MetaSchema)))
			require.Empty(t, metaOf(t, opt.Path, []byte("something")))
			require.Equal(t, 2, items(t, opt), "the release before goes on")
			require.Equal(t, 2, items(t, next(opt, addSomething)), "and the migration can be tried again")
		})
	}
	t.Run("no room for the copy", func(t *testing.T) {
		opt := written(t, 2)
		require.NoError(t, os.Mkdir(opt.Path+".schema-1.new", 0o700))
		err := refused(t, next(opt, addSomething))
		require.ErrorContains(t, err, "copy the journal before its schema changes")
		require.ErrorContains(t, err, "make room on the disk")
		require.Equal(t, 2, items(t, opt))
	})
}

// A factory copy that is more than one schema behind never opens the journal.
func TestAProgramTwoSchemasBehindIsRefused(t *testing.T) {
	opt := written(t, 1)
	require.Equal(t, 1, items(t, next(opt, addSomething)))
	third := opt.WithSchema(3, 2, map[uint32]func(*bbolt.Tx) error{2: func(*bbolt.Tx) error { return nil }})
	require.Equal(t, 1, items(t, third))
	before, err := os.ReadFile(opt.Path)
	require.NoError(t, err)
	err = refused(t, opt)
	require.ErrorIs(t, err, queue.ErrNewer)
	require.ErrorContains(t, err, "its schema is 3 and this one knows up to 1; install that release again")
	after, err := os.ReadFile(opt.Path)
	require.NoError(t, err)
	require.Equal(t, before, after, "not a byte was written")
	require.Equal(t, 1, items(t, next(opt, addSomething)), "the one in between opens it")
}

func TestAProgramTwoSchemasAheadIsRefused(t *testing.T) {
	opt := written(t, 1)
	err := refused(t, opt.WithSchema(3, 2, map[uint32]func(*bbolt.Tx) error{2: addSomething}))
	require.ErrorIs(t, err, queue.ErrOlder)
	require.ErrorContains(t, err, "its schema is 1 and this one reads from 2 on; install the release in between first")
}

func TestASchemaThatMakesNoSenseIsRefused(t *testing.T) {
	for _, readable := range []uint32{0, 2} {
		opt := written(t, 1)
		changeMeta(t, opt.Path, []byte("readable"), binary.BigEndian.AppendUint32(nil, readable))
		require.ErrorIs(t, refused(t, opt), queue.ErrDamaged)
	}
}

// What every release promises: the one before can go on with its journal, and it
// can go on with that one's.
func TestTheSchemaStaysReadableOneVersionBack(t *testing.T) {
	require.GreaterOrEqual(t, queue.SchemaReadable, 1)
	require.LessOrEqual(t, queue.SchemaReadable, max(1, queue.SchemaVersion-1), "the release before cannot read this one's journal")
	for v := max(1, queue.SchemaVersion-1); v < queue.SchemaVersion; v++ {
		require.Contains(t, queue.Migrations, uint32(v)) //nolint:gosec // small
	}
}
