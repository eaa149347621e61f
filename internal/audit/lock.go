package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockEvery is how often the lock is tried for. It is held for the time of a
	// write, and of a sync only where a gap is written down.
	lockEvery = 2 * time.Millisecond
	// lockWait bounds the wait for it. The delivery path waits here, so that nobody
	// who holds the lock can keep requests from being sent without anybody knowing why.
	lockWait = 2 * time.Second
)

// LockedError says that the record's lock could not be had, and nothing was
// written. Where the context ended first it wraps the context's error.
type LockedError struct {
	Path   string // the lock file
	Waited time.Duration
	Err    error // why the wait ended early, or nil
}

// Error is one sentence, with what to do.
func (e *LockedError) Error() string {
	s := fmt.Sprintf("another process has held %s for %v", e.Path, e.Waited.Round(time.Millisecond))
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; find it with 'fuser " + e.Path + "' and end it"
}

// Unwrap returns why the wait ended early.
func (e *LockedError) Unwrap() error { return e.Err }

// lockPath names the lock file. Writers do not lock the record itself: whoever
// may read that could then stop them.
func lockPath(record string) string { return record + ".lock" }

// locked runs fn with the lock, for which it waits until t.wait after began. mu
// is held, or t is not shared yet.
func (t *Trail) locked(ctx context.Context, began time.Time, fn func() error) error {
	if err := t.takeLock(ctx, began); err != nil {
		return err
	}
	defer t.letGo()
	return fn()
}

func (t *Trail) takeLock(ctx context.Context, began time.Time) error {
	for {
		locked, err := t.tryLock()
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		if locked {
			return nil
		}
		e := &LockedError{Path: lockPath(t.path), Waited: time.Since(began), Err: ctx.Err()}
		if e.Err != nil || e.Waited >= t.wait {
			return e
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockEvery):
		}
	}
}

// tryLock reports whether the lock was to be had now. The lock file stays open from
// one line to the next: to open it anew each time cost as much as the line itself.
func (t *Trail) tryLock() (locked bool, err error) {
	if t.lockFile == nil {
		if t.lockFile, err = t.openLock(); t.lockFile == nil {
			return false, err
		}
		if t.lockIs, err = t.lockFile.Stat(); err != nil {
			t.closeLock()
			return false, err
		}
	}
	err = unix.Flock(int(t.lockFile.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) && t.named() {
		return false, nil
	}
	if err == nil && t.named() {
		return true, nil
	}
	t.closeLock()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return false, err
}

// letGo ends the lock. Closing the file ends it where unlocking does not.
func (t *Trail) letGo() {
	if err := unix.Flock(int(t.lockFile.Fd()), unix.LOCK_UN); err != nil {
		t.closeLock()
	}
}

func (t *Trail) closeLock() {
	if t.lockFile != nil {
		_ = t.lockFile.Close()
		t.lockFile = nil
	}
}

// named reports whether what is locked is still the lock file: two processes that
// hold the locks of two files would write at once.
func (t *Trail) named() bool {
	is, err := os.Lstat(lockPath(t.path))
	return err == nil && os.SameFile(is, t.lockIs)
}

// openLock returns nil where somebody else is making the file just now.
func (t *Trail) openLock() (*os.File, error) {
	path := lockPath(t.path)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // the path is the configuration's
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) //nolint:gosec // likewise
	if errors.Is(err, fs.ErrExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// An operator's command may run as root and come first: the record's owner must
	// be able to take the lock all the same.
	if os.Geteuid() == 0 {
		var st unix.Stat_t
		err := unix.Fstat(int(t.f.Fd()), &st)
		if err == nil {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	return f, nil
}
