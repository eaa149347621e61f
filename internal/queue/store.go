package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"go.etcd.io/bbolt"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Add implements txn.Store. r.Secret must name the kind of s, and be empty
// without one. Further errors: ErrInvalid, ErrTooLarge, ErrDown, ErrClosed; in
// all of them nothing was stored.
func (db *DB) Add(ctx context.Context, r *txn.Request, s *secret.Value) error {
	h, err := headerOf(r)
	if err != nil {
		return fmt.Errorf("add request: %w", err)
	}
	if (s != nil) != (h.kind != kindNone) {
		return fmt.Errorf("add request: secret and its kind disagree: %w", ErrInvalid)
	}
	sealed, err := db.sealSecret(ctx, &h, s)
	if err != nil {
		return fmt.Errorf("add request: %w", err)
	}
	payload, err := encodePayload(r, sealed)
	if err != nil {
		db.abandon(&h, s)
		return fmt.Errorf("add request: %w", err)
	}
	var seq uint64
	err = db.line.do(ctx, &op{
		apply: func(b *batch) (err error) {
			seq, err = b.add(h, payload)
			return err
		},
		settle: func(stored bool) {
			if !stored {
				db.abandon(&h, s)
			}
		},
	})
	if err == nil || errors.Is(err, txn.ErrStoreUnknown) {
		r.Seq = seq
	}
	if err != nil {
		return fmt.Errorf("add request: %w", err)
	}
	return nil
}

// sealSecret closes s, where there is one, and files its key. It sets h.gen.
func (db *DB) sealSecret(ctx context.Context, h *header, s *secret.Value) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	ss, err := db.dir.seal(ctx, db.id, h.id, h.kind, s)
	if err != nil {
		return nil, err
	}
	h.gen = ss.gen
	return ss.box, nil
}

// abandon destroys the key of a secret whose record did not come to be.
func (db *DB) abandon(h *header, s *secret.Value) {
	if s != nil {
		db.dir.mustDestroy(h.keyFile())
	}
}

// Update implements txn.Store. With s nil and r.Secret set, the secret that the
// record holds is kept; it must be of that kind. Further errors as for Add.
func (db *DB) Update(ctx context.Context, r *txn.Request, s *secret.Value) error {
	h, err := headerOf(r)
	if err != nil {
		return fmt.Errorf("update request: %w", err)
	}
	if s != nil && h.kind == kindNone {
		return fmt.Errorf("update request: a secret without a kind: %w", ErrInvalid)
	}
	box, err := db.sealSecret(ctx, &h, s)
	if err != nil {
		return fmt.Errorf("update request: %w", err)
	}
	payload, err := encodePayload(r, box)
	if err != nil {
		db.abandon(&h, s)
		return fmt.Errorf("update request: %w", err)
	}
	seq := r.Seq
	var before string // the key file of the secret that the record held
	err = db.line.do(ctx, &op{
		apply: func(b *batch) error {
			old, size, err := b.stored(seq, h.id)
			if err != nil {
				return err
			}
			before = old.keyFile()
			own, data := h, payload
			if s == nil && h.kind != kindNone {
				if data, err = db.keepSecret(seq, old, &own, payload); err != nil {
					return err
				}
			}
			h.gen = own.gen
			return b.put(seq, own, data, size)
		},
		settle: func(stored bool) {
			switch {
			case !stored:
				db.abandon(&h, s)
			case before != "" && before != h.keyFile():
				db.dir.mustDestroy(before)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("update request: %w", err)
	}
	return nil
}

// keepSecret carries the secret of the old record over into a new payload.
func (db *DB) keepSecret(seq uint64, old *record, h *header, payload []byte) ([]byte, error) {
	if old.kind != h.kind {
		return nil, fmt.Errorf("record %d holds secret %q and not %q: %w", seq, kindName(old.kind), kindName(h.kind), ErrInvalid)
	}
	k := db.dataKey(old.key)
	if k == nil {
		return nil, &RecordError{Seq: seq, RequestID: old.id, Err: fmt.Errorf("data key %d does not open: %w", old.key, txn.ErrSeal)}
	}
	p, err := k.open(db.id, seq, old)
	if err != nil {
		return nil, &RecordError{Seq: seq, RequestID: old.id, Err: err}
	}
	_, box, err := splitPayload(p)
	if err != nil {
		return nil, &RecordError{Seq: seq, RequestID: old.id, Err: err}
	}
	h.gen = old.gen
	return slices.Concat(payload, box), nil
}

// Delete implements txn.Store. Records that are not there are as good as deleted.
func (db *DB) Delete(ctx context.Context, seqs []uint64) error {
	if len(seqs) == 0 {
		return nil
	}
	seqs = slices.Clone(seqs)
	var files []string
	err := db.line.do(ctx, &op{
		apply: func(b *batch) (err error) {
			files, err = b.remove(seqs)
			return err
		},
		settle: func(stored bool) {
			if !stored {
				return
			}
			for _, f := range files {
				db.dir.mustDestroy(f)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("delete requests: %w", err)
	}
	return nil
}

// Serial implements txn.Reader. Numbers come in blocks reserved on disk, so most
// calls cost no sync. Errors: ErrSerials, and those of Add.
func (db *DB) Serial(ctx context.Context) (uint64, error) {
	for {
		if n, ok := db.takeSerial(); ok {
			return n, nil
		}
		err := db.line.do(ctx, &op{apply: (*batch).reserve})
		if err != nil {
			return 0, fmt.Errorf("reserve serials: %w", err)
		}
	}
}

func (db *DB) takeSerial() (uint64, bool) {
	db.serialMu.Lock()
	defer db.serialMu.Unlock()
	if db.next >= db.limit {
		return 0, false
	}
	n := db.next
	db.next++
	return n, true
}

// Get implements txn.Reader.
func (db *DB) Get(ctx context.Context, seq uint64) (*txn.Request, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, _, _, err := db.read(seq)
	return r, err
}

// read copies one record out and opens it.
func (db *DB) read(seq uint64) (*txn.Request, *header, []byte, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.bolt == nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrDown, db.down)
	}
	var raw []byte
	err := view(db.bolt, func(tx *bbolt.Tx) error {
		raw = append(raw, tx.Bucket(bucketItems).Get(itemKey(seq))...)
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read record %d: %w", seq, err)
	}
	if raw == nil {
		return nil, nil, nil, fmt.Errorf("record %d: %w", seq, txn.ErrNotFound)
	}
	return openRecord(db.id, db.keys, seq, raw)
}

// openRecord opens a copy of a record with the keys of the moment it was copied.
func openRecord(id journalID, keys map[uint32]*dataKey, seq uint64, raw []byte) (*txn.Request, *header, []byte, error) {
	rec, err := parseRecord(raw)
	if err != nil {
		return nil, nil, nil, &RecordError{Seq: seq, Err: fmt.Errorf("%w: %w", txn.ErrSeal, err)}
	}
	fail := func(err error) (*txn.Request, *header, []byte, error) {
		return nil, nil, nil, &RecordError{Seq: seq, RequestID: rec.id, Err: err}
	}
	k := keys[rec.key]
	if k == nil {
		return fail(fmt.Errorf("data key %d does not open: %w", rec.key, txn.ErrSeal))
	}
	p, err := k.open(id, seq, rec)
	if err != nil {
		return fail(err)
	}
	r, box, err := decodePayload(p, seq, &rec.header)
	if err != nil {
		return fail(err)
	}
	return r, &rec.header, box, nil
}

// eachPage is how many records Each copies out at once. No transaction is open
// while fn runs: one left open makes the file grow without end.
const eachPage = 64

// opened is a record as Each found it.
type opened struct {
	r   *txn.Request
	err error
}

// Each implements txn.Reader. fn may use the DB. A record that is written while
// Each runs is seen as it was or as it became.
//
// Opening a record costs several times what reading it does, so pages are opened
// beside each other; fn gets the records in order, one after the other.
func (db *DB) Each(ctx context.Context, fn func(*txn.Request, error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	pages := make(chan chan []opened, runtime.GOMAXPROCS(0))
	var readErr error
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		defer close(pages)
		readErr = db.readPages(ctx, &work, pages)
	})
	for p := range pages {
		for _, o := range <-p {
			if err := fn(o.r, o.err); err != nil {
				return err
			}
		}
	}
	return readErr
}

// readPages sends a place for each page, which is filled as soon as it is opened.
func (db *DB) readPages(ctx context.Context, work *sync.WaitGroup, pages chan<- chan []opened) error {
	for next, more := uint64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := db.page(next)
		if err != nil {
			return err
		}
		if more = len(p.seqs) == eachPage; more {
			next = p.seqs[eachPage-1] + 1
		}
		place := make(chan []opened, 1)
		select {
		case pages <- place:
		case <-ctx.Done():
			return ctx.Err()
		}
		work.Go(func() { place <- p.open(db.id) })
	}
	return nil
}

// page is some records as they were copied out, with the keys of that moment: one
// that is rewritten meanwhile may be the last that its key sealed, and a journal
// that is closed forgets them all.
type page struct {
	seqs []uint64
	raws [][]byte
	keys map[uint32]*dataKey
}

func (p *page) open(id journalID) []opened {
	out := make([]opened, len(p.seqs))
	for i, seq := range p.seqs {
		out[i].r, _, _, out[i].err = openRecord(id, p.keys, seq, p.raws[i])
	}
	return out
}

// page copies up to eachPage records from seq on.
func (db *DB) page(from uint64) (*page, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if db.bolt == nil {
		return nil, fmt.Errorf("read records: %w: %w", ErrDown, db.down)
	}
	p := &page{keys: maps.Clone(db.keys)}
	err := view(db.bolt, func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketItems).Cursor()
		for k, v := c.Seek(itemKey(from)); k != nil && len(p.seqs) < eachPage; k, v = c.Next() {
			p.seqs, p.raws = append(p.seqs, binary.BigEndian.Uint64(k)), append(p.raws, slices.Clone(v))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	return p, nil
}

// Secret implements txn.Reader. The caller wipes what it gets.
func (db *DB) Secret(ctx context.Context, r *txn.Request) (*secret.Value, error) {
	_, h, box, err := db.read(r.Seq)
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	if h.id != r.ID {
		return nil, fmt.Errorf("open secret: record %d is of another request: %w", r.Seq, txn.ErrNotFound)
	}
	if h.kind == kindNone {
		return nil, fmt.Errorf("open secret: request %s holds none: %w", r.ID, txn.ErrSecretLost)
	}
	v, err := db.dir.open(ctx, db.id, h, box)
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	return v, nil
}
