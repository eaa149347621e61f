package queue

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gardu/internal/txn"
)

// doubt is a commit of which only the file can say whether it is on disk: bbolt
// returns an error for a commit whose second sync failed, and yet shows it.
type doubt struct {
	base     []byte // the sealed state that the commit was built on
	state    []byte // the sealed state that it would have left; nil where it never got so far
	ops      []*op
	cause    error
	answered bool // with ErrStoreUnknown; what is left is to settle
}

// inDoubt closes the file, reads back from the disk what became of the commit,
// and answers. Only where that is not possible is the answer ErrStoreUnknown.
func (w *writer) inDoubt(d doubt, cause error) {
	w.db.opt.Log.Error("commit failed", "error", cause, "operations", len(d.ops))
	d.cause = cause
	w.doubts = append(w.doubts, d)
	w.db.shut(cause)
	w.lastReopen = time.Time{}
	if err := w.reopen(); err == nil {
		return
	}
	for i := range w.doubts {
		if w.doubts[i].answered {
			continue
		}
		w.doubts[i].answered = true
		for _, o := range w.doubts[i].ops {
			o.answer(fmt.Errorf("%w: %w", txn.ErrStoreUnknown, cause))
		}
	}
}

// errForeign: while the file was closed somebody else wrote to it.
var errForeign = errors.New("another process changed the journal while it was closed; restart the agent")

// reopen opens the file again after an error and settles the doubts. It tries at
// most once in reopenEvery; until it succeeds the answer is ErrDown.
func (w *writer) reopen() error {
	if time.Since(w.lastReopen) < reopenEvery {
		return w.db.downError()
	}
	w.lastReopen = time.Now()
	if err := w.tryReopen(); err != nil {
		w.db.shut(err)
		return w.db.downError()
	}
	w.db.opt.Log.Info("journal is open again")
	return nil
}

func (w *writer) tryReopen() error {
	// After compacting, the new file's name may not be on disk yet.
	if err := syncDir(filepath.Dir(w.db.opt.Path)); err != nil {
		return err
	}
	forgetPages(w.db.opt.Path)
	h, err := openBolt(&w.db.opt)
	if err != nil {
		return err
	}
	if err := w.takeOver(h); err != nil {
		_ = h.Close()
		return err
	}
	return nil
}

// takeOver finds out which of the doubtful commits are in the file, proves with
// a commit of its own that the disk takes writes again, and goes on from there.
func (w *writer) takeOver(h *bbolt.DB) error {
	l, err := load(h, w.db.opt.schema)
	if err != nil {
		return err
	}
	if l.journal != w.db.id || !w.ours(l.state) {
		return errForeign
	}
	id, err := stateKey(l.state)
	if err != nil {
		return err
	}
	key := w.db.dataKey(id)
	if key == nil {
		return errForeign
	}
	st, err := openState(key, w.db.id, l.state)
	if err != nil {
		return err
	}
	st.commits++
	proof := doubt{base: l.state, state: st.seal(key, w.db.id), answered: true}
	if err := w.prove(h, proof.state); err != nil {
		w.doubts = append(w.doubts, proof)
		return fmt.Errorf("write to the journal again: %w", err)
	}
	on := w.ancestry(l.state)
	w.index, w.state, w.key, w.onDisk = l.index, st, key, proof.state
	w.room = 0 // after compacting it is a shorter file
	if w.fresh != nil && w.fresh.id == key.id {
		w.fresh = nil
	}
	w.keks = map[uint32]string{}
	for id, k := range l.keys {
		w.keks[id] = k.kek
	}
	w.writeWitness()
	w.db.reopened(h)
	w.publish()
	doubts := w.doubts
	w.doubts = nil
	for i := range doubts {
		d := &doubts[i]
		stored := on[string(d.state)]
		for _, o := range d.ops {
			o.settled(stored)
			switch {
			case d.answered:
			case stored:
				o.answer(nil)
			default:
				o.answer(notStored(d.cause))
			}
		}
	}
	return nil
}

func (w *writer) prove(h *bbolt.DB, state []byte) error {
	tx, err := h.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.Bucket(bucketMeta).Put(metaState, state); err != nil {
		return err
	}
	return w.db.opt.commit(tx)
}

// notStored is the answer where a commit failed and the disk says that nothing of
// it is there.
func notStored(cause error) error {
	if errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT) {
		return fmt.Errorf("%w: the disk has no room: %w", txn.ErrFull, cause)
	}
	return fmt.Errorf("the disk refused the change, and it is not stored: %w", cause)
}

// ours reports whether a state is one that this process wrote or tried to.
func (w *writer) ours(state []byte) bool {
	if bytes.Equal(state, w.onDisk) {
		return true
	}
	for i := range w.doubts {
		if w.doubts[i].state != nil && bytes.Equal(state, w.doubts[i].state) {
			return true
		}
	}
	return false
}

// ancestry returns the doubtful states that the given one was built on, itself
// included.
func (w *writer) ancestry(state []byte) map[string]bool {
	on := map[string]bool{}
	for i := len(w.doubts) - 1; i >= 0; i-- {
		if d := &w.doubts[i]; d.state != nil && bytes.Equal(d.state, state) {
			on[string(d.state)] = true
			state = d.base
		}
	}
	return on
}

// forgetPages lets the kernel drop what it has of the file in memory. After a
// failed sync that may differ from what is on the disk, and the disk is asked
// here. Errors do not matter: what is read afterwards is proved by a commit.
func forgetPages(path string) {
	f, err := os.Open(path) //nolint:gosec // the path is the configuration's
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	_ = unix.Fdatasync(int(f.Fd()))
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}
