package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.etcd.io/bbolt"
)

// Generations is what a KEK also has where it is one name for several keys of the
// token, of which the newest wraps. ID is then the name that they share.
type Generations interface {
	// WrappedBy names the one key that wrapped. It does not ask the token.
	WrappedBy(wrapped []byte) string
	// Newest names the one key that Wrap uses.
	Newest(ctx context.Context) (string, error)
}

// wrappedBy names the key that wrapped: from the bytes, since another generation
// may have become the newest meanwhile.
func wrappedBy(k KEK, wrapped []byte) string {
	if g, ok := k.(Generations); ok {
		return g.WrappedBy(wrapped)
	}
	return k.ID()
}

func newest(ctx context.Context, k KEK) (string, error) {
	if g, ok := k.(Generations); ok {
		return g.Newest(ctx)
	}
	return k.ID(), nil
}

// stored is one wrapped key as it stands in the meta bucket.
type stored struct {
	place []byte // its key in the bucket
	raw   []byte
	magic string
	aad   []byte
	id    uint32 // of a data key
	*wrappedKey
}

// storedKeys reads every wrapped key of the journal.
func storedKeys(meta *bbolt.Bucket, journal journalID) ([]stored, error) {
	var all []stored
	add := func(k, v []byte, magic string, aad []byte, id uint32) error {
		w, err := parseWrappedKey(magic, v)
		if err != nil {
			return fmt.Errorf("%w: key %q: %w", ErrDamaged, k, err)
		}
		all = append(all, stored{slices.Clone(k), slices.Clone(v), magic, aad, id, w})
		return nil
	}
	c := meta.Cursor()
	for k, v := c.Seek(metaKeys); k != nil && bytes.HasPrefix(k, metaKeys); k, v = c.Next() {
		if len(k) != len(metaKeys)+4 {
			return nil, fmt.Errorf("%w: data key %x", ErrDamaged, k)
		}
		id := binary.BigEndian.Uint32(k[len(metaKeys):])
		if err := add(k, v, dataKeyMagic, dataKeyAAD(journal, id), id); err != nil {
			return nil, err
		}
	}
	if v := meta.Get(metaGrantKey); v != nil {
		// A grants' key that does not open is made anew, with what it sealed gone.
		if err := add(metaGrantKey, v, grantKeyMagic, grantKeyAAD(journal), 0); err != nil && !errors.Is(err, ErrDamaged) {
			return nil, err
		}
	}
	return all, nil
}

func kekNames(all []stored) []string {
	var names []string
	for _, s := range all {
		names = append(names, s.kek)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (db *DB) storedKeys() ([]stored, error) {
	var all []stored
	var bad error
	if err := db.peek(func(tx *bbolt.Tx) { all, bad = storedKeys(tx.Bucket(bucketMeta), db.id) }); err != nil {
		return nil, err
	}
	return all, bad
}

// KEKs names every key of the token that something in the journal is wrapped by,
// or is about to be. Who destroys one of them loses what it wraps. It waits for a
// grants' key that is being wrapped, and so for the token.
func (db *DB) KEKs() ([]string, error) {
	db.grantMu.Lock()
	defer db.grantMu.Unlock()
	all, err := db.storedKeys()
	if err != nil {
		return nil, fmt.Errorf("read the journal's keys: %w", err)
	}
	names := append(kekNames(all), db.Stats().KEKs...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Rewrap wraps what an older generation of the KEK wrapped by the newest one, so
// that the older one is needed no more, and returns how many keys that were. What
// is sealed stays as it is. Errors: those of the KEK, and those of Add; what was
// done before one is done.
func (db *DB) Rewrap(ctx context.Context) (int, error) {
	db.grantMu.Lock()
	defer db.grantMu.Unlock()
	to, err := newest(ctx, db.opt.KEK)
	if err != nil {
		return 0, fmt.Errorf("rewrap keys: %w", err)
	}
	all, err := db.storedKeys()
	if err != nil {
		return 0, fmt.Errorf("rewrap keys: %w", err)
	}
	n := 0
	for i := range all {
		if s := &all[i]; s.kek != to {
			done, err := db.rewrap(ctx, s)
			if err != nil {
				return n, fmt.Errorf("rewrap a key from %s to %s: %w", s.kek, to, err)
			}
			if done {
				n++
			}
		}
	}
	return n, nil
}

// rewrap moves one key. It is false where the key is gone or was changed meanwhile,
// and where it does not open: its records are reported one by one as it is.
func (db *DB) rewrap(ctx context.Context, s *stored) (bool, error) {
	plain, err := db.opt.KEK.Unwrap(ctx, s.wrapped, s.aad)
	if errors.Is(err, ErrKeyMismatch) {
		db.opt.Log.Error("a key of the journal does not open", "key", s.id, "kek", s.kek, "error", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer clear(plain)
	wrapped, err := db.opt.KEK.Wrap(ctx, plain, s.aad)
	if err != nil {
		return false, err
	}
	kek := wrappedBy(db.opt.KEK, wrapped)
	raw, err := (&wrappedKey{created: s.created, kek: kek, wrapped: wrapped}).encode(s.magic)
	if err != nil {
		return false, err
	}
	done := false
	err = db.line.do(ctx, &op{
		apply: func(b *batch) error {
			if done = bytes.Equal(b.meta.Get(s.place), s.raw); !done {
				return nil
			}
			if s.magic == dataKeyMagic {
				b.rewrapped = append(b.rewrapped, rewrapped{s.id, kek})
			}
			return b.meta.Put(s.place, raw)
		},
	})
	if err == nil && done && s.magic == grantKeyMagic && db.grants != nil {
		db.grants.raw = raw
	}
	return done && err == nil, err
}

// rewrapped is what the writer learns of a data key that another KEK wraps now.
type rewrapped struct {
	id  uint32
	kek string
}

// KEKs names the keys of the token that something in the journal at path is wrapped
// by, without a token and while no agent has it open; none where there is no journal.
// *LockedError while an agent does.
func KEKs(path string) ([]string, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(witnessPath(path)); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, &Error{Op: "read the journal's keys", Path: path, Err: ErrVanished, Hint: hintVanish}
	}
	h, err := openBolt(&Options{Path: path, MaxItems: defaultMaxItems, MaxBytes: defaultMaxBytes, Reserve: -1})
	if err != nil {
		return nil, err
	}
	defer func() { _ = h.Close() }()
	var names []string
	err = view(h, func(tx *bbolt.Tx) error {
		meta := tx.Bucket(bucketMeta)
		if meta == nil {
			return fmt.Errorf("%w: it is a bbolt file, but not a journal", ErrDamaged)
		}
		var id journalID
		copy(id[:], meta.Get(metaJournal))
		all, err := storedKeys(meta, id)
		names = kekNames(all)
		return err
	})
	if err != nil {
		return nil, &Error{Op: "read the journal's keys", Path: path, Err: err, Hint: hintDamaged}
	}
	return names, nil
}

// SecretKEKs is the function of that name for a journal that is open: it first waits
// until every key is filed that was being wrapped when it was called, and so for the
// token. Who had the PIN KEK use another generation before, and does not find the old one
// here, may destroy that.
func (db *DB) SecretKEKs() ([]string, error) {
	db.dir.sealing.Lock()
	defer db.dir.sealing.Unlock()
	return SecretKEKs(db.dir.path)
}

// SecretKEKs names the keys of the token that wrap the keys of PINs and one-time
// passwords in dir. A folder that is not there holds none.
func SecretKEKs(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the key folder: %w", err)
	}
	var names []string
	for _, f := range files {
		if !isKeyFile(f.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name())) //nolint:gosec // the name is checked by isKeyFile
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read the key folder: %w", err)
		}
		if w, err := parseWrappedKey(secretKeyMagic, b); err == nil && !slices.Contains(names, w.kek) {
			names = append(names, w.kek)
		}
	}
	slices.Sort(names)
	return names, nil
}
