package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"gardu/internal/txn"
)

// DB is an open journal. It is safe for concurrent use.
type DB struct {
	opt  Options
	id   journalID
	salt uint64
	dir  *keyDir
	line *line

	finished chan struct{} // closed when the writer has ended

	mu   sync.RWMutex        // guards what follows; held for reading while a record is copied out and opened
	bolt *bbolt.DB           // nil while the file is closed
	down error               // why
	keys map[uint32]*dataKey // those that could be unwrapped

	serialMu sync.Mutex // guards the serials at hand
	next     uint64     // the next to hand out
	limit    uint64     // the first that is not reserved

	grantMu sync.Mutex // guards grants, and held while its key is made
	grants  *grantKeys // nil until first used

	statMu sync.Mutex // guards what follows
	stats  Stats
	stamp  []byte
	behind string

	closeOnce sync.Once
	closeErr  error
}

var (
	_ txn.Store  = (*DB)(nil)
	_ txn.Reader = (*DB)(nil)
)

// Stats is what is known of the journal without reading it.
type Stats struct {
	Items          int
	MaxItems       int
	Bytes          int64  // of records
	FileBytes      int64  // of the file
	HighestSeq     uint64 // ever given
	DataKeys       int
	KEKs           []string // the KEKs that some data key still needs; see DB.KEKs
	KeyFilesDoomed int      // keys of secrets that could not be destroyed yet
	Down           error    // why the file is closed at the moment; nil where it is open
}

// Open opens the journal, or creates it where there is none and never was one.
//
// Errors a person must mend are *Error (ErrVanished, ErrDamaged, ErrNewer,
// ErrWrongKEK, ErrKeyDir) and *LockedError; an error of the KEK is passed on.
// It may be called again until it succeeds.
func Open(ctx context.Context, opt Options) (*DB, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	dir, err := openKeyDir(&opt)
	if err != nil {
		return nil, err
	}
	dir.sweepOld(opt.SecretMost) // first, whatever fails afterwards
	if _, err := os.Stat(opt.Path); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(witnessPath(opt.Path)); !errors.Is(err, fs.ErrNotExist) {
			return nil, &Error{Op: "open journal", Path: opt.Path, Err: ErrVanished, Hint: hintVanish}
		}
		if err := create(ctx, &opt); err != nil {
			return nil, err
		}
	}
	h, err := openBolt(&opt)
	if err != nil {
		return nil, err
	}
	db := &DB{
		opt: opt, dir: dir, line: newLine(), bolt: h,
		finished: make(chan struct{}), keys: map[uint32]*dataKey{},
	}
	w, err := db.start(ctx)
	if err != nil {
		_ = h.Close()
		return nil, err
	}
	db.line.serve = w.lead
	go func() {
		defer close(db.finished)
		w.run(context.WithoutCancel(ctx)) // Close ends it, and not the end of opening
	}()
	return db, nil
}

// start unseals what the journal needs, makes this run's data key and clears away
// what a crash left behind.
func (db *DB) start(ctx context.Context) (w *writer, err error) {
	removeLeftovers(db.opt.Path)
	wit, err := readWitness(witnessPath(db.opt.Path))
	if err != nil && !errors.Is(err, errSpoiled) {
		return nil, &Error{Op: "open journal", Path: db.opt.Path, Err: err, Hint: hintWitness}
	}
	if err := db.opt.migrate(db.bolt); err != nil {
		return nil, &Error{Op: "open journal", Path: db.opt.Path, Err: err, Hint: hintOf(err)}
	}
	l, err := load(db.bolt, db.opt.schema)
	if err != nil {
		return nil, &Error{Op: "open journal", Path: db.opt.Path, Err: err, Hint: hintOf(err)}
	}
	db.id = l.journal
	st, err := db.unwrapKeys(ctx, l)
	if err != nil {
		return nil, err
	}
	db.stamp = slices.Clone(st.stamp)
	if st.behind {
		db.behind = "it was put back from a copy or salvaged from a damaged file, and that is not settled yet"
	}
	if why := wit.behind(db.id, &st); why != "" {
		db.behind, st.behind = why, true
		if wit != nil && wit.journal == db.id {
			st.seq, st.serial, st.commits = max(st.seq, wit.seq), max(st.serial, wit.serial), max(st.commits, wit.commits)
		}
		// What the lost part of the journal sent is not known. With another salt no
		// new external id can equal one of those.
		st.salt = newSalt()
		db.opt.Log.Error("journal is behind its witness", "path", db.opt.Path, "why", db.behind)
	}
	db.salt = st.salt

	w = &writer{db: db, index: l.index, state: st, onDisk: l.state, keks: map[uint32]string{}, made: make(chan *dataKey, 1)}
	for id, k := range l.keys {
		w.keks[id] = k.kek
	}
	id, err := stateKey(l.state)
	if err != nil {
		return nil, err
	}
	w.key = db.keys[id]
	if w.fresh, err = newDataKey(ctx, db.opt.KEK, db.id, st.nextKey); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", db.opt.Path, err)
	}
	if err := w.firstCommit(); err != nil {
		return nil, &Error{Op: "open journal", Path: db.opt.Path, Err: err}
	}
	// From here on a copy of what was on the disk until now is known as one.
	if w.wit, err = openWitness(witnessPath(db.opt.Path), w.witness()); err != nil {
		return nil, &Error{Op: "open journal", Path: db.opt.Path, Err: err, Hint: hintWitness}
	}
	defer func() {
		if err != nil {
			_ = w.wit.f.Close()
		}
	}()
	wanted := map[string]bool{}
	for _, e := range w.index.items {
		wanted[e.file] = true
	}
	// What a crash left between filing a key and committing its record, or between a
	// commit and destroying the key. Nobody can add yet.
	n, err := db.dir.sweep(func(name string) bool { return wanted[name] })
	if err != nil {
		return nil, &Error{Op: "sweep key folder", Path: db.opt.KeyDir, Err: err, Hint: "the service user must own what is in it"}
	}
	if n > 0 {
		db.opt.Log.Info("orphaned keys destroyed", "count", n)
	}
	db.next, db.limit = w.state.serial, w.state.serial
	w.publish()
	return w, nil
}

// unwrapKeys opens the data keys that are still needed, and the state.
func (db *DB) unwrapKeys(ctx context.Context, l *loaded) (state, error) {
	damaged := func(err error) error {
		return &Error{Op: "open journal", Path: db.opt.Path, Err: fmt.Errorf("%w: %w", ErrDamaged, err), Hint: hintDamaged}
	}
	current, err := stateKey(l.state)
	if err != nil {
		return state{}, damaged(err)
	}
	if l.keys[current] == nil {
		return state{}, damaged(fmt.Errorf("data key %d is missing", current))
	}
	for id, k := range l.keys {
		if id != current && l.index.perKey[id] == 0 {
			continue
		}
		aead, err := unwrapKey(ctx, db.opt.KEK, k.wrapped, dataKeyAAD(db.id, id))
		if errors.Is(err, ErrKeyMismatch) && id != current {
			// Its records are reported one by one as they are read.
			db.opt.Log.Error("data key does not open", "key", id, "kek", k.kek)
			continue
		}
		if errors.Is(err, ErrKeyMismatch) {
			return state{}, &Error{
				Op: "open journal", Path: db.opt.Path,
				Err:  fmt.Errorf("%w: it was sealed under %q, configured is %q: %w", ErrWrongKEK, k.kek, db.opt.KEK.ID(), err),
				Hint: "insert the token that was there before, or name its key in the configuration",
			}
		}
		if err != nil {
			return state{}, fmt.Errorf("open journal %s: %w", db.opt.Path, err)
		}
		db.keys[id] = &dataKey{id: id, aead: aead, created: time.UnixMilli(k.created), kek: k.kek, wrapped: k.wrapped}
	}
	st, err := openState(db.keys[current], db.id, l.state)
	if err != nil {
		return state{}, damaged(err)
	}
	return st, nil
}

// firstCommit brings this run's data key to disk. The stamp stays as it was
// found until something else is written, so that a crash now does not lose what
// it says.
func (w *writer) firstCommit() error {
	b := &batch{journal: w.db.id, key: w.key, state: w.state}
	var sealed []byte
	err := w.db.bolt.Update(func(tx *bbolt.Tx) error {
		b.tx, b.items, b.meta = tx, tx.Bucket(bucketItems), tx.Bucket(bucketMeta)
		b.state.commits++
		if err := w.install(b); err != nil {
			return err
		}
		if err := w.dropKeys(b); err != nil {
			return err
		}
		sealed = b.state.seal(b.key, b.journal)
		return b.meta.Put(metaState, sealed)
	})
	if err != nil {
		return fmt.Errorf("commit this run's data key: %w", err)
	}
	w.committed(b, sealed, nil)
	return nil
}

// Identity is what this journal makes external ids of.
func (db *DB) Identity() txn.Identity {
	return txn.Identity{Kiosk: db.opt.Kiosk, Salt: db.salt}
}

// Behind says why the journal is older than what its witness saw, or "" where it
// is not. Such a journal was put back from a copy: what it calls unsent may have
// been sent. It stays so over restarts until AcceptBehind.
func (db *DB) Behind() string {
	db.statMu.Lock()
	defer db.statMu.Unlock()
	return db.behind
}

// AcceptBehind ends Behind, once everything that may have been sent is marked so.
func (db *DB) AcceptBehind(ctx context.Context) error {
	err := db.line.do(ctx, &op{apply: func(b *batch) error {
		b.state.behind = false
		return nil
	}})
	if err != nil {
		return fmt.Errorf("accept journal: %w", err)
	}
	db.statMu.Lock()
	defer db.statMu.Unlock()
	db.behind = ""
	return nil
}

// StampOnDisk is what Options.Stamp had given for the last commit: right after
// Open, that of the run before.
func (db *DB) StampOnDisk() []byte {
	db.statMu.Lock()
	defer db.statMu.Unlock()
	return slices.Clone(db.stamp)
}

// Stats tells where things stand.
func (db *DB) Stats() Stats {
	db.statMu.Lock()
	s := db.stats
	s.KEKs = slices.Clone(s.KEKs)
	db.statMu.Unlock()
	s.MaxItems = db.opt.MaxItems
	if fi, err := os.Stat(db.opt.Path); err == nil {
		s.FileBytes = fi.Size()
	}
	db.mu.RLock()
	s.Down = db.down
	db.mu.RUnlock()
	return s
}

func (db *DB) publish(fn func(*Stats), stamp []byte) {
	db.statMu.Lock()
	defer db.statMu.Unlock()
	fn(&db.stats)
	db.stamp = stamp
}

// Close finishes what waits in line, and closes the file. Operations that come
// later get ErrClosed.
func (db *DB) Close() error {
	db.closeOnce.Do(func() {
		db.line.close()
		<-db.finished
		db.mu.Lock()
		defer db.mu.Unlock()
		if db.bolt != nil {
			db.closeErr = db.bolt.Close()
		}
		db.bolt, db.down = nil, ErrClosed
		clear(db.keys)
	})
	return db.closeErr
}

// handle returns the open file, or nil. Only the writer may use it without mu:
// nobody else closes it before the writer has ended.
func (db *DB) handle() *bbolt.DB {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.bolt
}

func (db *DB) shut(cause error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.down = cause
	if db.bolt == nil {
		return
	}
	if err := db.bolt.Close(); err != nil {
		db.opt.Log.Error("journal not closed", "error", err)
	}
	db.bolt = nil
}

func (db *DB) reopened(h *bbolt.DB) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.bolt, db.down = h, nil
}

func (db *DB) downError() error {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return fmt.Errorf("%w: %w", ErrDown, db.down)
}

func (db *DB) dataKey(id uint32) *dataKey {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return db.keys[id]
}

func (db *DB) setKey(k *dataKey) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.keys[k.id] = k
}

func (db *DB) dropKey(id uint32) {
	db.mu.Lock()
	defer db.mu.Unlock()
	delete(db.keys, id)
}

// serials is how many are at hand.
func (db *DB) serials() uint64 {
	db.serialMu.Lock()
	defer db.serialMu.Unlock()
	return db.limit - db.next
}

// allot takes over a block of serials that is now reserved on disk. Where it
// does not follow on what is at hand, that rest is given up.
func (db *DB) allot(from, to uint64) {
	db.serialMu.Lock()
	defer db.serialMu.Unlock()
	if from != db.limit {
		db.next = from
	}
	db.limit = to
}
