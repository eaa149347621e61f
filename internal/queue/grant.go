package queue

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// A grant is what a customer's binding gave: tokens that must be sent in clear and
// so cannot live in the token. It is kept in the bucket "grants". The key is
// HMAC-SHA256 over the provider's name, a zero byte and the customer's identifier:
// whoever copies the file can neither read nor guess whose it is. The value is
//
//	4   "GDG" and the format's version, 0x01
//	8   until when it is of use, milliseconds since 1970
//	... box: 12 bytes random nonce, AES-256-GCM ciphertext, 16 bytes tag; additional
//	    data: the label "gardu journal grant", journal id, the key, the time (8)
//
// Both keys come by HKDF-SHA256 from 32 random bytes of their own, which stand in
// the meta bucket wrapped by the KEK, as a data key does. They are made when the
// first grant is kept. Where they do not open any more, every grant is lost, and
// the customers bind again.
var (
	bucketGrants = []byte("grants")
	metaGrantKey = []byte("grantkey")
)

const (
	grantMagic    = "GDG\x01"
	grantKeyMagic = "GDH\x01"
	maxGrants     = 20_000
	grantPurge    = time.Hour
)

// grantKeys open and name grants.
type grantKeys struct {
	aead cipher.AEAD
	name []byte // keys the names
	raw  []byte // the wrapped root as in the file, to notice that it is another
}

func grantKeyAAD(id journalID) []byte { return newAdditional("gardu journal grant key", id) }

// deriveGrantKeys makes both keys of root and clears it.
func deriveGrantKeys(root, raw []byte) (*grantKeys, error) {
	defer clear(root)
	seal, err := hkdf.Key(sha256.New, root, nil, "gardu grant seal", keyLen)
	if err != nil {
		return nil, fmt.Errorf("derive the grants' key: %w", err)
	}
	name, err := hkdf.Key(sha256.New, root, nil, "gardu grant name", keyLen)
	if err != nil {
		return nil, fmt.Errorf("derive the grants' key: %w", err)
	}
	a, err := newAEAD(seal)
	if err != nil {
		return nil, err
	}
	return &grantKeys{aead: a, name: name, raw: raw}, nil
}

func (k *grantKeys) nameOf(provider, customer string) []byte {
	m := hmac.New(sha256.New, k.name)
	m.Write([]byte(provider))
	m.Write([]byte{0})
	m.Write([]byte(customer))
	return m.Sum(nil)
}

func grantAAD(id journalID, name []byte, until int64) []byte {
	return newAdditional("gardu journal grant", id).bytes(name).u64(uint64(until)) //nolint:gosec // two's complement is the format
}

func (k *grantKeys) seal(id journalID, name []byte, until int64, plain []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte(grantMagic), uint64(until)) //nolint:gosec // likewise
	return k.aead.Seal(b, nil, plain, grantAAD(id, name, until))          //nolint:gosec // the AEAD makes its own random nonce
}

// grantUntil reads until when a stored grant is of use.
func grantUntil(raw []byte) (int64, bool) {
	if len(raw) < 12+boxOverhead || string(raw[:4]) != grantMagic {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(raw[4:])), true //nolint:gosec // likewise
}

// grantKeys opens the keys of grants, once; nil without an error where no grant was
// ever kept. Errors: ErrDown, ErrClosed, and those of the KEK.
func (db *DB) grantKeys(ctx context.Context) (*grantKeys, error) {
	db.grantMu.Lock()
	defer db.grantMu.Unlock()
	if db.grants != nil {
		return db.grants, nil
	}
	var raw []byte
	err := db.peek(func(tx *bbolt.Tx) { raw = append(raw, tx.Bucket(bucketMeta).Get(metaGrantKey)...) })
	if err != nil || raw == nil {
		return nil, err
	}
	w, err := parseWrappedKey(grantKeyMagic, raw)
	if err != nil {
		return nil, fmt.Errorf("open the grants' key: %w: %w", ErrKeyMismatch, err)
	}
	root, err := db.opt.KEK.Unwrap(ctx, w.wrapped, grantKeyAAD(db.id))
	if err != nil {
		return nil, fmt.Errorf("unwrap the grants' key under %s: %w", w.kek, err)
	}
	if to, err := newest(ctx, db.opt.KEK); err == nil && w.kek != to {
		// An earlier generation wrapped it: it must not be the reason to keep that one.
		if fresh, err := db.putGrantKey(ctx, root, false); err == nil {
			raw = fresh
		} else {
			db.opt.Log.Warn("the grants' key is still wrapped by an earlier key", "kek", w.kek, "error", err)
		}
	}
	db.grants, err = deriveGrantKeys(root, raw)
	return db.grants, err
}

// grantKeysToKeep is grantKeys, and makes them where there are none that open.
func (db *DB) grantKeysToKeep(ctx context.Context) (*grantKeys, error) {
	k, err := db.grantKeys(ctx)
	if k != nil || err != nil && !errors.Is(err, ErrKeyMismatch) {
		return k, err
	}
	if err != nil {
		db.opt.Log.Error("the key of the customers' grants does not open; the grants are lost and those customers have to bind again", "error", err)
	}
	db.grantMu.Lock()
	defer db.grantMu.Unlock()
	if db.grants != nil {
		return db.grants, nil
	}
	root := make([]byte, keyLen)
	_, _ = rand.Read(root) // never fails, see crypto/rand
	raw, err := db.putGrantKey(ctx, root, true)
	if err != nil {
		clear(root)
		return nil, err
	}
	db.grants, err = deriveGrantKeys(root, raw)
	return db.grants, err
}

// putGrantKey wraps root and stores it. With anew, what another root sealed goes.
// grantMu is held, so that two first grants do not end each other.
func (db *DB) putGrantKey(ctx context.Context, root []byte, anew bool) ([]byte, error) {
	wrapped, err := db.opt.KEK.Wrap(ctx, root, grantKeyAAD(db.id))
	if err != nil {
		return nil, fmt.Errorf("wrap the grants' key under %s: %w", db.opt.KEK.ID(), err)
	}
	raw, err := (&wrappedKey{created: time.Now().UnixMilli(), kek: wrappedBy(db.opt.KEK, wrapped), wrapped: wrapped}).encode(grantKeyMagic)
	if err != nil {
		return nil, err
	}
	return raw, db.line.do(ctx, &op{apply: func(b *batch) error {
		if anew && b.tx.Bucket(bucketGrants) != nil {
			if err := b.tx.DeleteBucket(bucketGrants); err != nil {
				return fmt.Errorf("clear grants: %w", err)
			}
		}
		if err := b.meta.Put(metaGrantKey, raw); err != nil {
			return fmt.Errorf("put the grants' key: %w", err)
		}
		return nil
	}})
}

// peek reads in a transaction of its own.
func (db *DB) peek(fn func(*bbolt.Tx)) error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.bolt == nil {
		return fmt.Errorf("%w: %w", ErrDown, db.down)
	}
	return view(db.bolt, func(tx *bbolt.Tx) error {
		fn(tx)
		return nil
	})
}

// Grant opens what a customer's binding gave. It is nil, without an error, where
// there is nothing, or nothing of use any more. The caller wipes it. Errors: ErrDown,
// ErrClosed, those of the KEK, and txn.ErrSeal where it does not open.
func (db *DB) Grant(ctx context.Context, provider, customer string) (*secret.Value, error) {
	k, err := db.grantKeys(ctx)
	if err != nil || k == nil {
		return nil, err
	}
	name := k.nameOf(provider, customer)
	var raw []byte
	err = db.peek(func(tx *bbolt.Tx) {
		if b := tx.Bucket(bucketGrants); b != nil {
			raw = append(raw, b.Get(name)...)
		}
	})
	if err != nil || raw == nil {
		return nil, err
	}
	until, ok := grantUntil(raw)
	if !ok {
		return nil, fmt.Errorf("open grant: %w", txn.ErrSeal)
	}
	if time.Now().UnixMilli() >= until {
		return nil, nil
	}
	plain, err := k.aead.Open(nil, nil, raw[12:], grantAAD(db.id, name, until))
	if err != nil {
		return nil, fmt.Errorf("open grant: %w", txn.ErrSeal)
	}
	return secret.New(plain), nil
}

// KeepGrant stores what a customer's binding gave, in place of what is there, for
// as long as it is of use. Errors: txn.ErrFull, ErrTooLarge, and those of Update and
// the KEK.
func (db *DB) KeepGrant(ctx context.Context, provider, customer string, v *secret.Value, until time.Time) error {
	if v.Len() == 0 || v.Len() > maxPayload {
		return fmt.Errorf("keep grant: %d bytes: %w", v.Len(), ErrTooLarge)
	}
	k, err := db.grantKeysToKeep(ctx)
	if err != nil {
		return fmt.Errorf("keep grant: %w", err)
	}
	name := k.nameOf(provider, customer)
	raw := k.seal(db.id, name, until.UnixMilli(), v.Bytes())
	err = db.line.do(ctx, &op{apply: func(b *batch) error { return b.putGrant(name, raw) }})
	if err != nil {
		return fmt.Errorf("keep grant: %w", err)
	}
	return nil
}

// DropGrant deletes what a customer's binding gave, if there is something.
func (db *DB) DropGrant(ctx context.Context, provider, customer string) error {
	k, err := db.grantKeys(ctx)
	if err != nil || k == nil {
		return err
	}
	name := k.nameOf(provider, customer)
	there := false
	err = db.peek(func(tx *bbolt.Tx) {
		b := tx.Bucket(bucketGrants)
		there = b != nil && b.Get(name) != nil
	})
	if err != nil || !there {
		return err
	}
	err = db.line.do(ctx, &op{apply: func(b *batch) error { return b.dropGrants([][]byte{name}) }})
	if err != nil {
		return fmt.Errorf("drop grant: %w", err)
	}
	return nil
}

func (b *batch) putGrant(name, raw []byte) error {
	g := b.tx.Bucket(bucketGrants)
	if g != nil && g.Get(name) == nil && g.Stats().KeyN >= maxGrants {
		return fmt.Errorf("%d grants: %w", maxGrants, txn.ErrFull)
	}
	g, err := b.tx.CreateBucketIfNotExists(bucketGrants)
	if err != nil {
		return fmt.Errorf("make the bucket of grants: %w", err)
	}
	if err := g.Put(name, raw); err != nil {
		return fmt.Errorf("put grant: %w", err)
	}
	return nil
}

func (b *batch) dropGrants(names [][]byte) error {
	g := b.tx.Bucket(bucketGrants)
	if g == nil {
		return nil
	}
	for _, name := range names {
		if err := g.Delete(name); err != nil {
			return fmt.Errorf("delete grant: %w", err)
		}
	}
	return nil
}

// purgeGrants deletes the grants that are of no use any more, and those that cannot
// be read, now and then.
func (w *writer) purgeGrants(ctx context.Context) {
	if time.Since(w.purged) < w.db.opt.grantPurge || w.db.handle() == nil {
		return
	}
	w.purged = time.Now()
	var old [][]byte
	now := w.purged.UnixMilli()
	err := w.db.peek(func(tx *bbolt.Tx) {
		b := tx.Bucket(bucketGrants)
		if b == nil {
			return
		}
		for c, k, v := first(b.Cursor()); k != nil; k, v = c.Next() {
			if grantOver(v, now) {
				old = append(old, bytes.Clone(k))
			}
		}
	})
	if err != nil || len(old) == 0 {
		return
	}
	// Beside the writer, which takes it from the line like everybody's.
	w.makers.Go(func() {
		if err := w.db.endGrants(ctx, old); err != nil && !errors.Is(err, ErrClosed) {
			w.db.opt.Log.Warn("grants that are over were not deleted", "error", err)
			return
		}
		w.db.opt.Log.Info("grants that are over deleted", "count", len(old))
	})
}

// endGrants deletes those of names that are still of no use: some customer may have
// bound again since they were found so.
func (db *DB) endGrants(ctx context.Context, names [][]byte) error {
	return db.line.do(ctx, &op{apply: func(b *batch) error {
		g, now := b.tx.Bucket(bucketGrants), time.Now().UnixMilli()
		over := slices.Clone(names) // a commit may be tried again
		return b.dropGrants(slices.DeleteFunc(over, func(name []byte) bool { return g == nil || !grantOver(g.Get(name), now) }))
	}})
}

// grantOver says of what is stored that it is of no use any more or cannot be read.
func grantOver(raw []byte, now int64) bool {
	until, ok := grantUntil(raw)
	return !ok || until <= now
}

func first(c *bbolt.Cursor) (_ *bbolt.Cursor, k, v []byte) {
	k, v = c.First()
	return c, k, v
}
