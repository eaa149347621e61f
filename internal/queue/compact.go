package queue

import (
	"crypto/rand"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// A burst leaves a large file behind, and each commit then writes a long list of
// free pages. Worth a rewrite only where most of a file of some size is free.
const (
	compactOver  = 8 << 20
	compactTimes = 4
	compactTx    = 1 << 20 // bytes per transaction while copying
)

// compact rewrites a file that is mostly free pages. Where anything goes wrong
// the old file stays.
func (w *writer) compact() {
	h := w.db.handle()
	if h == nil {
		return
	}
	var used int64
	if err := view(h, func(tx *bbolt.Tx) error {
		used = tx.Size()
		return nil
	}); err != nil || used <= compactOver || used <= compactTimes*w.index.bytes {
		return
	}
	if err := w.rewrite(h); err != nil {
		w.db.opt.Log.Warn("journal not compacted", "error", err)
		return
	}
	w.db.opt.Log.Info("journal compacted", "bytes_before", used)
}

func (w *writer) rewrite(h *bbolt.DB) (err error) {
	path := w.db.opt.Path
	tmp := path + ".compact-" + rand.Text()
	defer func() { _ = os.Remove(tmp) }()
	dst, err := bbolt.Open(tmp, 0o600, boltOptions(&w.db.opt))
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	err = guarded(func() error { return bbolt.Compact(dst, h, compactTx) })
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := reserve(tmp, w.db.opt.Reserve); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	// From here on either file is the whole journal. The lock goes with the old
	// one; should another process take the new one first, this one stays closed.
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	w.db.shut(errCompacting)
	w.lastReopen = w.lastReopen.Add(-reopenEvery)
	return w.reopen()
}

// errCompacting is why the file is closed for a moment.
var errCompacting = fmt.Errorf("the journal is being compacted: %w", ErrDown)
