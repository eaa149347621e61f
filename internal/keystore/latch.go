package keystore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A token locks after a few wrong PINs, most after three, and a service that is
// restarted three times is enough. So each PIN is tried once: what came of it is
// kept on disk, and a PIN that was refused is not tried again until its origin
// changes or someone calls Unlatch. A PIN whose first try ended without an
// answer (a crash, a power cut) gets one more.

// latchState is what is known about a PIN. The values reach the disk.
type latchState string

const (
	latchTrying latchState = "trying" // written before the first try
	latchGood   latchState = "good"
	latchWrong  latchState = "wrong"
	latchLocked latchState = "locked" // the token said so
)

// maxTries is how often a PIN may be tried without ever an answer.
const maxTries = 2

// latchRecord holds nothing computed from the PIN.
type latchRecord struct {
	Version  int        `json:"version"`
	Selector string     `json:"selector"` // the token's URI in the configuration
	Label    string     `json:"label"`
	Serial   string     `json:"serial"`
	Origin   PINOrigin  `json:"origin"`
	State    latchState `json:"state"`
	Tries    int        `json:"tries"`
	At       time.Time  `json:"at"`

	damaged bool // the file could not be read as a record
}

const latchVersion = 1

func (r *latchRecord) refuses() bool {
	return r.State == latchWrong || r.State == latchLocked || (r.State == latchTrying && r.Tries >= maxTries)
}

// latch is the file. Programs that share it (the agent and a command) take turns
// through a lock file beside it.
type latch struct{ path string }

// lock waits for its turn.
func (l latch) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(l.path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, l.failed(err)
	}
	likeFolder(f)
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, l.failed(err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, l.failed(errors.New("another program holds it"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// likeFolder gives a file that root makes to the folder's owner, so that a
// command run by root does not lock the agent out.
func likeFolder(f *os.File) {
	if os.Geteuid() != 0 {
		return
	}
	if st, err := os.Stat(filepath.Dir(f.Name())); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			_ = f.Chown(int(sys.Uid), int(sys.Gid))
		}
	}
}

func (l latch) failed(err error) error {
	hint := "make its folder writable for gardu"
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		hint = "free space on its disk"
	}
	return &Error{Op: "use", Object: "the wrong-PIN latch", Err: fmt.Errorf("%w: %w", ErrConfiguration, err), Hint: hint + "; without it the token's PIN is not tried"}
}

// read returns nil when there is no record. A damaged one counts as a try
// without an answer: it can neither block the kiosk for good nor be used up.
func (l latch) read() (*latchRecord, error) {
	b, err := os.ReadFile(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, l.failed(err)
	}
	var r latchRecord
	if damaged := json.Unmarshal(b, &r); damaged != nil || r.Version != latchVersion {
		return &latchRecord{State: latchTrying, Tries: 1, damaged: true}, nil //nolint:nilerr // a damaged record is an answer too
	}
	return &r, nil
}

// write replaces the record and returns when it will survive a power cut.
func (l latch) write(r *latchRecord) error {
	r.Version = latchVersion
	r.At = time.Now().UTC()
	b, err := json.Marshal(r)
	if err != nil {
		return l.failed(err)
	}
	f, err := os.CreateTemp(filepath.Dir(l.path), filepath.Base(l.path)+".*")
	if err != nil {
		return l.failed(err)
	}
	likeFolder(f)
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), l.path)
	}
	if err == nil {
		err = l.syncFolder()
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return l.failed(err)
	}
	return nil
}

// overwrite puts r into the record that is there, for a disk or a folder that takes no
// new file. Cut off it leaves a damaged record, which is a try without an answer.
func (l latch) overwrite(r *latchRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return l.failed(err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return l.failed(err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return l.failed(err)
	}
	return nil
}

func (l latch) remove() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = l.syncFolder()
	}
	if err != nil {
		return l.failed(err)
	}
	return nil
}

func (l latch) syncFolder() error {
	d, err := os.Open(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}

// Unlatch opens the wrong-PIN latch at path: the PIN may be tried once more. Do
// so only when the PIN is known to be right now, or the token was reset.
func Unlatch(ctx context.Context, path string) error {
	l := latch{path}
	unlock, err := l.lock(ctx)
	if err != nil {
		return explain("unlatch", path, err)
	}
	defer unlock()
	return explain("unlatch", path, l.remove())
}

// latched is the refusal that stands until Unlatch or another PIN.
func (r *latchRecord) latched() error {
	switch r.State {
	case latchLocked:
		return fmt.Errorf("%w: the token reported its PIN as locked on %s", ErrPINLocked, r.At.Format(time.DateTime))
	case latchTrying:
		return fmt.Errorf("%w: %d tries of this PIN ended without an answer, the last on %s", ErrPINLocked, r.Tries, r.At.Format(time.DateTime))
	default:
		return fmt.Errorf("%w: the token refused this PIN on %s and it has not changed since", ErrPINLocked, r.At.Format(time.DateTime))
	}
}
