package queue

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"gardu/internal/txn"
)

const (
	lockTimeout = 500 * time.Millisecond
	lockRetry   = 50 * time.Millisecond
	initialMap  = 64 << 20 // address space, not memory: spares remaps while readers read
	growStep    = 1 << 20  // by which bbolt makes the file longer
)

const (
	hintDamaged = "keep it for investigation: move it and its .witness aside, start with a new journal, and settle by hand what was open, since it may have been sent"
	hintVanish  = "put the file back; if it is lost for good, settle by hand what was open, remove the .witness file, and start again"
	hintWitness = "the service user must be able to read and write the .witness file beside it, and there must be room for its 8 KiB"
)

// openBolt locks, reads through and opens an existing file.
func openBolt(opt *Options) (*bbolt.DB, error) {
	if err := probe(opt.Path); err != nil {
		return nil, err
	}
	bo := boltOptions(opt)
	bo.InitialMmapSize = initialMap
	h, err := bbolt.Open(opt.Path, 0o600, bo)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, lockedError(opt.Path)
	}
	if err != nil {
		return nil, &Error{Op: "open journal", Path: opt.Path, Err: err}
	}
	h.AllocSize = growStep
	return h, nil
}

func boltOptions(opt *Options) *bbolt.Options {
	return &bbolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bbolt.FreelistMapType,
		MaxSize:      opt.fileLimit(),
	}
}

// probe looks at the file, under its lock, before bbolt does.
func probe(path string) error {
	fail := func(err error, hint string) error {
		return &Error{Op: "open journal", Path: path, Err: err, Hint: hint}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the path is the configuration's
	if err != nil {
		return fail(err, "the service user must be able to read and write it")
	}
	defer func() {
		// A child that is being born has the file too, and would keep the lock until it
		// executes: it is given back, and not only let go.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		_ = f.Close()
	}()
	for began := time.Now(); ; time.Sleep(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fail(fmt.Errorf("lock: %w", err), "")
		}
		if time.Since(began) > lockTimeout {
			return lockedError(path)
		}
	}
	fi, err := f.Stat()
	switch {
	case err != nil:
		return fail(err, "")
	case !fi.Mode().IsRegular():
		return fail(fmt.Errorf("%w: not a regular file", ErrDamaged), "name a file in the configuration")
	case fi.Size() == 0:
		return fail(fmt.Errorf("%w: it is empty", ErrDamaged), hintDamaged)
	}
	if err := inspect(f, fi.Size()); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrDamaged, err), hintDamaged)
	}
	return nil
}

// lockedError finds out who holds the lock on path.
func lockedError(path string) error {
	e := &LockedError{Path: path}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return e
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return e
	}
	defer func() { _ = f.Close() }()
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for s := bufio.NewScanner(f); s.Scan(); {
		// 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
		l := strings.Fields(s.Text())
		if len(l) >= 6 && l[1] == "FLOCK" && l[5] == file {
			if pid, err := strconv.Atoi(l[4]); err == nil && pid > 0 {
				e.PID = pid
			}
			return e
		}
	}
	return e
}

// loaded is what stands in a file, before any seal is opened.
type loaded struct {
	journal journalID
	state   []byte
	keys    map[uint32]*wrappedKey
	index   *index
}

func load(h *bbolt.DB, own schema) (*loaded, error) {
	l := &loaded{keys: map[uint32]*wrappedKey{}, index: newIndex()}
	err := view(h, func(tx *bbolt.Tx) error {
		version, readable, err := schemaOf(tx)
		if err == nil {
			err = own.judge(version, readable)
		}
		if err != nil {
			return err
		}
		meta, items := tx.Bucket(bucketMeta), tx.Bucket(bucketItems)
		if copy(l.journal[:], meta.Get(metaJournal)) != len(l.journal) {
			return fmt.Errorf("%w: it has no journal id", ErrDamaged)
		}
		l.state = append(l.state, meta.Get(metaState)...)
		c := meta.Cursor()
		for k, v := c.Seek(metaKeys); k != nil && strings.HasPrefix(string(k), string(metaKeys)); k, v = c.Next() {
			w, err := parseWrappedKey(dataKeyMagic, v)
			if len(k) != len(metaKeys)+4 || err != nil {
				return fmt.Errorf("%w: data key %x: %w", ErrDamaged, k, err)
			}
			l.keys[binary.BigEndian.Uint32(k[len(metaKeys):])] = w
		}
		return items.ForEach(func(k, v []byte) error {
			if len(k) != 8 || v == nil {
				return fmt.Errorf("%w: a record has the key %x", ErrDamaged, k)
			}
			l.index.put(binary.BigEndian.Uint64(k), entryOf(v))
			return nil
		})
	})
	return l, err
}

// create makes a complete new journal under another name and links it to its
// place, so that a crash leaves either none or one that opens.
func create(ctx context.Context, opt *Options) error {
	err := build(ctx, opt)
	if err == nil {
		if err = syncDir(filepath.Dir(opt.Path)); err != nil {
			return &Error{Op: "create journal", Path: opt.Path, Err: err}
		}
		return nil
	}
	// Somebody else was faster, and may have tidied up under our hands. Whose
	// journal it is now is for the lock to say.
	if _, serr := os.Stat(opt.Path); serr == nil {
		return nil
	}
	hint := ""
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		hint = "its folder must exist and belong to the service user"
	}
	return &Error{Op: "create journal", Path: opt.Path, Err: err, Hint: hint}
}

func build(ctx context.Context, opt *Options) error {
	tmp := opt.Path + ".new-" + rand.Text()
	defer func() { _ = os.Remove(tmp) }()
	h, err := bbolt.Open(tmp, 0o600, boltOptions(opt))
	if err != nil {
		return err
	}
	err = writeNew(ctx, h, opt)
	if cerr := h.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := reserve(tmp, opt.Reserve); err != nil {
		return err
	}
	// A link, unlike a rename, never takes the place of what is there.
	return os.Link(tmp, opt.Path)
}

func writeNew(ctx context.Context, h *bbolt.DB, opt *Options) error {
	var id journalID
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	k, err := newDataKey(ctx, opt.KEK, id, 1)
	if err != nil {
		return err
	}
	st := state{salt: newSalt(), serial: 1, nextKey: 2}
	w := wrappedKey{created: k.created.UnixMilli(), kek: k.kek, wrapped: k.wrapped}
	raw, err := w.encode(dataKeyMagic)
	if err != nil {
		return err
	}
	return h.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(bucketItems); err != nil {
			return err
		}
		return errors.Join(
			meta.Put(metaJournal, id[:]),
			opt.schema.write(meta),
			meta.Put(metaKey(1), raw),
			meta.Put(metaState, st.seal(k, id)),
		)
	})
}

func newSalt() uint64 {
	n, err := rand.Int(rand.Reader, big.NewInt(txn.MaxSalt))
	if err != nil {
		panic(err) // crypto/rand's Reader never fails
	}
	return n.Uint64()
}

// reserve takes disk space for the file while there is some, so that others who
// fill the disk do not stop the journal. It writes zeros and does not only
// allocate: a commit into blocks that were never written must also write the
// file system's own journal.
func reserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // the path is the configuration's
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	if size > 0 { // fills the holes; where the file system cannot, the zeros must do
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	}
	if err := zeros(f, fi.Size(), size); err != nil {
		return fmt.Errorf("reserve %d bytes of disk: %w", size, err)
	}
	return nil
}

// zeros writes and syncs zeros.
func zeros(f *os.File, from, to int64) error {
	b := make([]byte, min(128<<10, max(to-from, 0)))
	for off := from; off < to; {
		n, err := f.WriteAt(b[:min(int64(len(b)), to-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return f.Sync()
}

// extend makes a file that is shorter than wanted longer by growStep, with zeros for
// the same reason, or leaves it as it was. It returns how long the file is. Nobody
// else may write to it meanwhile.
func extend(path string, wanted, limit int64) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // the path is the configuration's
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if size = fi.Size(); size >= wanted || size+growStep > limit {
		return size, nil
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, growStep)
	if err == nil || errors.Is(err, unix.EOPNOTSUPP) {
		err = zeros(f, size, size+growStep)
	}
	if err != nil { // on a full disk others need the rest
		return size, errors.Join(err, f.Truncate(size))
	}
	return size + growStep, nil
}

func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // the path is the configuration's
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

// removeLeftovers deletes what a crash in create left. Called under the lock:
// whoever else is creating will find the journal in its place.
func removeLeftovers(path string) {
	for _, pattern := range []string{".new-*", ".compact-*"} {
		list, _ := filepath.Glob(escapeGlob(path) + pattern)
		for _, f := range list {
			_ = os.Remove(f)
		}
	}
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
