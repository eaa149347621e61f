package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"gardu/internal/txn"
)

const (
	serialBlock  = 1000
	maxBatch     = 512
	witnessEvery = 5 * time.Second
	idleEvery    = 5 * time.Second
	reopenEvery  = time.Second
	wrapTimeout  = 30 * time.Second
	wrapRetry    = time.Minute
	extendAhead  = growStep / 4 // more than most commits take
	extendRetry  = time.Minute
)

// writer writes: at a time only who has the turn, a caller or the writer's own
// goroutine. They take whoever waits into one commit, so that its two syncs are shared.
type writer struct {
	db *DB

	turn sync.Mutex // guards what follows, but for made and makers; see letGo

	index  *index
	state  state
	onDisk []byte            // the sealed state of the last commit that is known
	tried  []byte            // the sealed state of the commit under way
	keks   map[uint32]string // the data keys in the file, with the KEK of each
	key    *dataKey

	fresh  *dataKey      // made, not yet in the file
	made   chan *dataKey // where the maker delivers; nil says that it could not
	making bool
	held   []string  // the KEKs that there were when the making began
	failed time.Time // when the token last could not
	makers sync.WaitGroup

	doubts     []doubt // commits whose fate is not known; empty while the file is open
	lastReopen time.Time
	wit        *witnessFile
	witnessed  time.Time // when it was last synced
	dirty      bool      // it is older than the journal
	mute       bool      // that it cannot be written has been said
	quiet      bool      // nothing was committed since the last tick
	purged     time.Time // when grants were last looked through
	room       int64     // the file is at least as long; 0: nobody has looked
	full       time.Time // when it last could not be made longer
}

// run serves the line until it is closed and empty.
func (w *writer) run(ctx context.Context) {
	tick := time.NewTicker(w.db.opt.idle)
	defer tick.Stop()
	ctx, cancel := context.WithCancel(ctx)
	defer w.makers.Wait()
	defer cancel()
	for over := false; !over; {
		select {
		case <-w.db.line.wake:
			w.turn.Lock()
		case <-tick.C:
			w.turn.Lock()
			w.idle(ctx)
		case k := <-w.made:
			w.turn.Lock()
			w.fresh, w.making, w.held = k, false, nil
			if k == nil { // the token could not
				w.failed = time.Now()
			}
		}
		over = w.serveAll(ctx)
		w.letGo()
	}
}

// letGo ends the turn, and has the writer look at the line again for who came too
// late for it and found it taken.
func (w *writer) letGo() {
	w.turn.Unlock()
	if !w.db.line.empty() {
		w.db.line.ring()
	}
}

// serveAll serves the line until it is empty and reports whether it is closed.
// w.turn is held.
func (w *writer) serveAll(ctx context.Context) (over bool) {
	for {
		w.renewKey(ctx)
		ops, closed := w.db.line.take(maxBatch)
		if len(ops) > 0 {
			w.serve(ops)
			continue
		}
		if closed {
			w.closeWitness()
		}
		return closed
	}
}

// lead serves the line until a caller is answered, unless somebody is at it already.
func (w *writer) lead(answered func() bool) {
	if !w.turn.TryLock() {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			crash(v)
		}
	}()
	for !answered() {
		ops, _ := w.db.line.take(maxBatch)
		if len(ops) == 0 {
			break
		}
		w.serve(ops)
	}
	if w.mayRenewKey() {
		w.db.line.ring() // which is the writer's own goroutine's to do
	}
	w.letGo()
}

// crash ends the process for a panic, as it would end for one in the writer's own
// goroutine: who recovers those of callers, as a web server does, would leave the
// turn taken for ever, and nobody would know why nothing is stored any more.
func crash(v any) {
	go panic(fmt.Sprint(v, "\n", string(debug.Stack())))
	select {}
}

// idle does what waits for nobody.
func (w *writer) idle(ctx context.Context) {
	w.db.dir.sweepOld(w.db.opt.SecretMost) // also while the file is closed
	if w.db.handle() == nil {
		if err := w.reopen(); err != nil {
			w.db.opt.Log.Warn("journal is still closed", "error", err)
		}
	}
	if w.dirty && w.db.handle() != nil {
		w.writeWitness()
	}
	w.syncWitness()
	w.purgeGrants(ctx)
	if w.quiet {
		w.compact()
	}
	w.quiet = true
	w.publish()
}

// serve carries out one batch and answers everybody in it.
func (w *writer) serve(ops []*op) {
	if w.db.handle() == nil {
		if err := w.reopen(); err != nil {
			for _, o := range ops {
				o.settled(false)
				o.answer(err)
			}
			return
		}
	}
	w.quiet = false
	refused := make([]error, len(ops))
	b, sealed, err := w.transact(ops, refused)
	live := make([]*op, 0, len(ops))
	for i, o := range ops {
		if refused[i] != nil {
			o.settled(false)
			o.answer(refused[i])
			continue
		}
		live = append(live, o)
	}
	switch {
	case err == nil && sealed == nil: // everybody was refused
	case err == nil:
		w.committed(b, sealed, live)
	case errors.Is(err, errCommit):
		w.inDoubt(doubt{base: w.onDisk, state: sealed, ops: live}, err)
	default:
		for _, o := range live {
			o.settled(false)
			o.answer(err)
		}
	}
}

// errCommit marks an error after which only the file knows what it holds.
var errCommit = errors.New("commit")

// transact applies every op in one transaction and commits it; refused gets the
// answers of those whose own precondition failed. Where all were refused nothing
// is committed and sealed is nil. An error that is not errCommit means that
// nothing was written.
func (w *writer) transact(ops []*op, refused []error) (b *batch, sealed []byte, err error) {
	tx, err := w.db.handle().Begin(true)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	defer func() {
		// After Commit this does nothing; after a panic it frees bbolt's lock.
		_ = guarded(tx.Rollback)
	}()
	w.tried = nil
	damage := guarded(func() error {
		b, sealed, err = w.apply(tx, ops, refused)
		return nil
	})
	if damage != nil {
		return b, w.tried, fmt.Errorf("%w: %w", errCommit, damage)
	}
	return b, sealed, err
}

// apply is transact without the care for a damaged page.

func (w *writer) apply(tx *bbolt.Tx, ops []*op, refused []error) (b *batch, sealed []byte, err error) {
	b = &batch{
		tx: tx, items: tx.Bucket(bucketItems), meta: tx.Bucket(bucketMeta),
		journal: w.db.id, key: w.key, state: w.state,
		maxItems: w.db.opt.MaxItems, maxBytes: w.db.opt.MaxBytes,
		count: len(w.index.items), bytes: w.index.bytes,
	}
	b.items.FillPercent = 1 // requests come in order: half-empty pages would only be more to write
	if w.fresh != nil {
		if err := w.install(b); err != nil {
			return nil, nil, err
		}
	}
	b.used = tx.Size()
	anybody := false
	for i, o := range ops {
		if refused[i] = o.apply(b); refused[i] == nil {
			anybody = true
		}
	}
	if !anybody {
		return b, nil, nil
	}
	if !b.reserved && w.db.serials() < serialBlock/4 {
		_ = b.reserve() // nobody waits for it; whoever does is told
	}
	if err := w.dropKeys(b); err != nil {
		return nil, nil, err
	}
	b.state.stamp = w.stamp()
	b.state.commits++
	if b.key.seals.Load() >= sealLimit {
		return nil, nil, fmt.Errorf("data key %d has sealed too much and the token makes no new one: %w", b.key.id, ErrInvalid)
	}
	sealed = b.state.seal(b.key, b.journal)
	if err := b.meta.Put(metaState, sealed); err != nil {
		return nil, nil, fmt.Errorf("put state: %w", err)
	}
	w.tried = sealed
	if err := w.db.opt.commit(tx); err != nil {
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			return nil, nil, fmt.Errorf("%w: %w", txn.ErrFull, err)
		}
		return b, sealed, fmt.Errorf("%w: %w", errCommit, err)
	}
	return b, sealed, nil
}

func (w *writer) stamp() []byte {
	s := w.db.opt.Stamp()
	if len(s) > maxStamp {
		w.db.opt.Log.Error("stamp is too long", "bytes", len(s), "limit", maxStamp)
		return w.state.stamp
	}
	return slices.Clone(s)
}

// install puts a fresh data key into the file and lets this batch use it.
func (w *writer) install(b *batch) error {
	k := wrappedKey{created: w.fresh.created.UnixMilli(), kek: w.fresh.kek, wrapped: w.fresh.wrapped}
	raw, err := k.encode(dataKeyMagic)
	if err != nil {
		return err
	}
	if err := b.meta.Put(metaKey(w.fresh.id), raw); err != nil {
		return fmt.Errorf("put data key: %w", err)
	}
	b.key = w.fresh
	b.state.nextKey = w.fresh.id + 1
	// Readers may meet records under it as soon as the commit is visible.
	w.db.setKey(w.fresh)
	return nil
}

// dropKeys deletes the data keys that seal nothing any more.
func (w *writer) dropKeys(b *batch) error {
	for id := range w.keks {
		if !w.unused(id, b.key) {
			continue
		}
		if err := b.meta.Delete(metaKey(id)); err != nil {
			return fmt.Errorf("delete data key %d: %w", id, err)
		}
	}
	return nil
}

// unused reports whether no record needed key id before this batch. The batch
// itself writes under its own key only.
func (w *writer) unused(id uint32, own *dataKey) bool {
	return id != w.key.id && id != own.id && w.index.perKey[id] == 0
}

// committed takes over what a batch brought to disk.
func (w *writer) committed(b *batch, sealed []byte, ops []*op) {
	for id := range w.keks {
		if w.unused(id, b.key) {
			delete(w.keks, id)
			w.db.dropKey(id)
		}
	}
	if b.key == w.fresh {
		w.key, w.fresh = b.key, nil
		w.keks[w.key.id] = w.key.kek
	}
	for _, r := range b.rewrapped {
		if _, ok := w.keks[r.id]; ok {
			w.keks[r.id] = r.kek
		}
	}
	for _, c := range b.changes {
		if c.gone {
			w.index.remove(c.seq)
		} else {
			w.index.put(c.seq, c.entry)
		}
	}
	base := w.state.serial
	w.state, w.onDisk = b.state, sealed
	// Before anybody is told, so that what is sent because of this commit is not
	// sent again by a journal put back from a copy made before it.
	w.writeWitness()
	if b.reserved {
		w.db.allot(base, b.state.serial)
	}
	for _, o := range ops {
		o.settled(true)
	}
	w.publish() // before the answers, so that who has one sees its effect
	for _, o := range ops {
		o.answer(nil)
	}
	if w.wit != nil && time.Since(w.witnessed) >= witnessEvery {
		w.syncWitness()
	}
	w.extend(b.used)
}

// extend makes the file longer before bbolt has to. bbolt leaves a hole, and each
// commit into one also has to write the file system's own journal; see reserve.
// Where that does not work, bbolt asks for what it needs, and its error is told.
func (w *writer) extend(used int64) {
	if w.db.opt.Reserve < 0 || used+extendAhead <= w.room || time.Since(w.full) < extendRetry {
		return
	}
	room, err := extend(w.db.opt.Path, used+extendAhead, int64(w.db.opt.fileLimit()))
	if w.room = room; err != nil || room < used+extendAhead {
		w.full = time.Now()
	}
}

// witness is what there is to say of the last commit.
func (w *writer) witness() *witness {
	return &witness{journal: w.db.id, commits: w.state.commits, seq: w.state.seq, serial: w.state.serial}
}

// writeWitness does not stop the journal where it fails: requests that wait for a
// file that only tells copies apart would be the greater loss.
func (w *writer) writeWitness() {
	if w.wit == nil { // the commit of Open, which writes it itself
		return
	}
	w.witnessDone(w.wit.write(w.witness()))
}

// syncWitness bounds what a power cut takes from the witness. Nobody waits for it.
func (w *writer) syncWitness() {
	w.witnessed = time.Now()
	if err := w.wit.sync(); err != nil {
		w.witnessDone(err)
	}
}

func (w *writer) witnessDone(err error) {
	w.dirty = err != nil
	if err != nil && !w.mute {
		w.db.opt.Log.Error("witness not written: a journal put back from a copy may not be noticed", "error", err)
	}
	w.mute = err != nil
}

// closeWitness is the end of a run. The journal that is closed after an error may
// be somebody else's by now, and with it the witness.
func (w *writer) closeWitness() {
	if w.dirty && w.db.handle() != nil {
		w.writeWitness()
	}
	w.syncWitness()
	if err := w.wit.f.Close(); err != nil {
		w.db.opt.Log.Warn("witness not closed", "error", err)
	}
}

// renewKey has a new data key made when the present one is worn, without holding
// anybody up for it: the token may be slow or absent.
func (w *writer) renewKey(ctx context.Context) {
	if !w.mayRenewKey() {
		return
	}
	w.making = true
	w.held = slices.Collect(maps.Values(w.keks))
	id := w.state.nextKey
	w.makers.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, wrapTimeout)
		defer cancel()
		k, err := newDataKey(ctx, w.db.opt.KEK, w.db.id, id)
		if err != nil {
			w.db.opt.Log.Warn("data key not renewed", "error", err)
		}
		w.made <- k
	})
}

func (w *writer) mayRenewKey() bool {
	return w.fresh == nil && !w.making && w.worn() && time.Since(w.failed) >= wrapRetry
}

// worn reports whether a new data key should take over.
func (w *writer) worn() bool {
	return w.key.seals.Load() >= w.db.opt.keySeals || time.Since(w.key.created) >= w.db.opt.keyAge
}

// publish lets Stats see where things stand.
func (w *writer) publish() {
	// A key under way may come back wrapped by what wrapped when it was asked for.
	keks := slices.Clone(w.held)
	if w.fresh != nil {
		keks = append(keks, w.fresh.kek)
	}
	for _, k := range w.keks {
		keks = append(keks, k)
	}
	slices.Sort(keks)
	keks = slices.Compact(keks)
	doomed := w.db.dir.retry()
	w.db.publish(func(s *Stats) {
		s.Items, s.Bytes = len(w.index.items), w.index.bytes
		s.HighestSeq, s.DataKeys, s.KEKs = w.state.seq, len(w.keks), keks
		s.KeyFilesDoomed = doomed
	}, w.state.stamp)
}

// guarded runs fn and turns what a damaged page does to bbolt, a panic or a
// fault, into an error.
func guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, v)
		}
	}()
	return fn()
}

// view runs fn on a read transaction that ends with it.
func view(h *bbolt.DB, fn func(*bbolt.Tx) error) error {
	return guarded(func() error { return h.View(fn) })
}
