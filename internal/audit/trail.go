package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Options say where the record is.
type Options struct {
	Path string       // the file; its folder must exist
	Who  string       // the Who of lines that Open and CompareStamp write themselves
	Log  *slog.Logger // nil: nothing is logged

	wait time.Duration // for the lock; 0: lockWait
}

// Trail is an open record. It is safe for concurrent use, and several processes
// may have the same file open: each line is written under the record's lock.
type Trail struct {
	path string
	who  string
	log  *slog.Logger
	wait time.Duration // for the lock
	head atomic.Pointer[Head]

	lineMu sync.Mutex // guards line; may be taken with mu held
	line   []*waiting // entries of this process that wait for mu

	mu sync.Mutex  // guards what follows, and keeps the lines of this process in turn
	f  *os.File    // nil after Close
	is fs.FileInfo // which file f is
	// lockFile is open while the trail is, and locked while a line is written.
	lockFile *os.File
	lockIs   fs.FileInfo // which file that is
	size     int64       // up to the end of the line that head is
	found    Head        // the last line that was there at Open, or when lines were last missed: what follows it was not lost
}

// ErrClosed says that Close was called.
var ErrClosed = errors.New("the audit record is closed")

// Open opens the record or begins one. What a power loss left at its end that is
// no line is moved to a file beside it, and a line says so. A *LockedError where
// another process does not let go of the lock.
func Open(ctx context.Context, opt Options) (*Trail, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.wait == 0 {
		opt.wait = lockWait
	}
	t := &Trail{path: opt.Path, who: opt.Who, log: opt.Log, wait: opt.wait}
	t.head.Store(new(Head))
	if err := t.openFile(); err != nil {
		return nil, err
	}
	err := t.locked(ctx, time.Now(), func() error {
		tail, err := readTail(t.f)
		if err != nil {
			return err
		}
		t.found = tail.head
		return t.adopt(tail)
	})
	if err != nil {
		t.closeLock()
		_ = t.f.Close()
		return nil, fmt.Errorf("open audit record %s: %w", opt.Path, err)
	}
	return t, nil
}

func (t *Trail) openFile() error {
	_, err := os.Lstat(t.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	// Operators in the file's group may read and verify it.
	f, err := os.OpenFile(t.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o640) //nolint:gosec // see above
	if err != nil {
		return fmt.Errorf("open audit record: %w", err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is not a regular file")
	}
	if err == nil && fresh {
		err = syncDir(filepath.Dir(t.path))
	}
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("open audit record %s: %w", t.path, err)
	}
	t.f, t.is = f, fi
	return nil
}

// Head is the newest line that this process knows of. It never waits.
func (t *Trail) Head() Head { return *t.head.Load() }

// Append writes one line, and with e.Sync waits until it is on disk. Where another
// process does not let go of the lock for two seconds, or ctx ends first, it is a
// *LockedError. An error after which the line may stand in the file all the same
// says so.
func (t *Trail) Append(ctx context.Context, e Entry) (Head, error) {
	f, head, err := t.append(ctx, &waiting{entry: &e})
	if err != nil {
		return Head{}, fmt.Errorf("append to audit record %s: %w", t.path, err)
	}
	if !e.Sync {
		return head, nil
	}
	// Outside the lock, so that a slow disk holds up nobody else. A Close in
	// between is answered like a failed sync.
	if err := f.Sync(); err != nil {
		return head, fmt.Errorf("append to audit record %s: line %d is written, but may not be on disk: %w", t.path, head.Seq, err)
	}
	return head, nil
}

// waiting is an entry on its way into the file. mu guards it once it is in the line.
type waiting struct {
	entry *Entry
	done  bool     // what follows stands
	f     *os.File // the file it was written to; the open one may be another by then
	head  Head
	err   error
}

// append waits for its turn. Whoever has the lock writes the entries of all who wait
// behind it, so that taking the lock is shared.
func (t *Trail) append(ctx context.Context, w *waiting) (*os.File, Head, error) {
	began := time.Now() // before waiting for others of this process, who wait for the same lock
	t.lineMu.Lock()
	t.line = append(t.line, w)
	t.lineMu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !w.done {
		if err := t.appendAll(ctx, began); !w.done {
			t.leave(w)
			w.err = err
		}
	}
	return w.f, w.head, w.err
}

// appendAll writes everybody's entries, or nobody's with an error. mu is held.
func (t *Trail) appendAll(ctx context.Context, began time.Time) error {
	if t.f == nil {
		return ErrClosed
	}
	if err := t.inPlace(); err != nil {
		return err
	}
	return t.locked(ctx, began, func() error {
		if _, err := t.catchUp(); err != nil { // a gap is logged and written down
			return err
		}
		t.lineMu.Lock()
		all := t.line
		t.line = nil
		t.lineMu.Unlock()
		t.write(all...)
		return nil
	})
}

// leave takes w, of which nothing was written, out of the line.
func (t *Trail) leave(w *waiting) {
	t.lineMu.Lock()
	defer t.lineMu.Unlock()
	t.line = slices.DeleteFunc(t.line, func(o *waiting) bool { return o == w })
}

// inPlace makes sure that the file that is open is the one that its name leads
// to: a line in a deleted file is lost.
func (t *Trail) inPlace() error {
	named, err := os.Stat(t.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && os.SameFile(named, t.is) {
		return nil
	}
	t.log.Error("audit record was replaced", "path", t.path)
	old := t.f
	if err := t.openFile(); err != nil {
		return err
	}
	_ = old.Close()
	t.size = -1 // whatever its size: it is to be read
	return nil
}

// catchUp takes in what other processes wrote since, and writes down what is
// missing of what this one knew.
func (t *Trail) catchUp() (Gap, error) {
	fi, err := t.f.Stat()
	if err != nil || fi.Size() == t.size {
		return Gap{}, err
	}
	known := t.Head()
	tail, err := readTail(t.f)
	if err != nil {
		return Gap{}, err
	}
	if err := t.adopt(tail); err != nil || tail.head == known {
		return Gap{}, err
	}
	g := Gap{Changed: true}
	if tail.head.Seq < known.Seq {
		g = Gap{Missing: known.Seq - tail.head.Seq}
	} else if known.Seq == 0 {
		return Gap{}, nil
	} else if has, _, err := look(t.f, tail.end, known); has || err != nil {
		return Gap{}, err
	}
	t.found = tail.head
	return g, t.gap(g, known)
}

// adopt goes on after the last line of tail. Bytes behind it are moved away.
func (t *Trail) adopt(tail tail) error {
	head := tail.head
	t.head.Store(&head)
	t.size = tail.end
	if tail.junk == 0 {
		return nil
	}
	saved, err := t.moveJunk(tail)
	if err != nil {
		return err
	}
	t.log.Error("audit record was torn", "path", t.path, "bytes", tail.junk, "saved", saved)
	return t.writeGap(map[string]string{
		"cause": "torn",
		"bytes": strconv.FormatInt(tail.junk, 10),
		"saved": filepath.Base(saved),
	})
}

// gap writes down that the line which want is the head of is not there.
func (t *Trail) gap(g Gap, want Head) error {
	cause, missing := "cut", strconv.FormatUint(g.Missing, 10)
	if g.Changed {
		cause, missing = "changed", "unknown"
	}
	t.log.Error("audit record lacks lines", "path", t.path, "cause", cause, "missing", missing, "remembered_seq", want.Seq)
	return t.writeGap(map[string]string{
		"cause":        cause,
		"missing":      missing,
		rememberedSeq:  strconv.FormatUint(want.Seq, 10),
		rememberedHash: want.Hash(),
	})
}

// writeGap writes a line that says what is missing before it, and syncs it.
func (t *Trail) writeGap(attrs map[string]string) error {
	w := &waiting{entry: &Entry{Act: ActGap, Who: t.who, Attrs: attrs}}
	if t.write(w); w.err != nil {
		return w.err
	}
	return t.f.Sync()
}

// write puts one line for each at the end, in one piece. The lock is held and the
// file is caught up.
func (t *Trail) write(all ...*waiting) {
	head := t.Head()
	var lines []byte
	for _, w := range all {
		w.done = true
		r, err := newRecord(w.entry, head)
		if err != nil {
			w.err = err
			continue
		}
		line, h := r.encode()
		lines = append(append(lines, line...), '\n')
		head = Head{Seq: r.seq, hash: h}
		w.f, w.head = t.f, head
	}
	if len(lines) == 0 {
		return
	}
	if _, err := t.f.Write(lines); err != nil {
		// Half a line, on a full disk, would make the next one unreadable too.
		if terr := t.f.Truncate(t.size); terr != nil {
			err = errors.Join(err, terr)
		}
		for _, w := range all {
			if w.err == nil {
				w.head, w.err = Head{}, err
			}
		}
		return
	}
	t.size += int64(len(lines))
	t.head.Store(&head)
}

// Close syncs and closes the file.
func (t *Trail) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.f == nil {
		return nil
	}
	t.closeLock()
	err := t.f.Sync()
	if cerr := t.f.Close(); err == nil {
		err = cerr
	}
	t.f = nil
	if err != nil {
		return fmt.Errorf("close audit record %s: %w", t.path, err)
	}
	return nil
}
