package queue

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gardu/internal/txn"
)

// Salvaged says what Salvage found in a damaged journal.
type Salvaged struct {
	Kept    string // where the damaged file is now
	Records int    // requests that are in the new journal
	Broken  int    // what began like a record and does not open: damage, or a rest of what was written over
	Stale   int    // versions of requests from long before the newest, which a page in use no longer holds
}

// Salvage puts a new journal in the place of a damaged one, with every request of
// which a version opens under its seal, and keeps the damaged file beside it. It
// does not believe the file's structure at all: a record says its own length, its
// place stands right before it, and its seal says whether both are true.
//
// Pages that are not in use any more hold older versions of a request. Of several
// the one that got furthest counts; whether there was one that got further still,
// nobody can know. So the new journal is Behind: what may have been sent is in
// doubt, and external ids are made from another salt. Customers' tokens are left
// behind; those customers bind again. Keys of PINs go with the next Open, but for
// requests that still name them.
//
// Errors: *Error, of which ErrDamaged says that not even a data key opens and
// nothing was changed; *LockedError; and those of the KEK.
func Salvage(ctx context.Context, opt Options) (*Salvaged, error) {
	if err := opt.check(); err != nil {
		return nil, err
	}
	f, err := lockFile(opt.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fail := func(err error, hint string) (*Salvaged, error) {
		return nil, &Error{Op: "salvage journal", Path: opt.Path, Err: err, Hint: hint}
	}
	wit, err := readWitness(witnessPath(opt.Path))
	if err != nil && !errors.Is(err, errSpoiled) {
		return fail(err, hintWitness)
	}
	raw, err := io.ReadAll(f)
	if err != nil {
		return fail(err, "")
	}
	s := &salvage{raw: raw, keys: map[uint32][]*dataKey{}, found: map[string]version{}}
	if err := s.openKeys(ctx, opt.KEK, wit); err != nil {
		return nil, fmt.Errorf("salvage journal %s: %w", opt.Path, err)
	}
	if len(s.keys) == 0 {
		return fail(fmt.Errorf("%w: no data key in it opens under %q", ErrDamaged, opt.KEK.ID()), hintDamaged)
	}
	s.openRecords()
	s.dropStale()
	kept, err := s.replace(ctx, &opt, wit)
	if err != nil {
		return fail(err, "the folder needs room for a second journal")
	}
	return &Salvaged{Kept: kept, Records: len(s.found), Broken: s.broken, Stale: s.stale}, nil
}

// lockFile opens the journal under its lock.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // the path is the configuration's
	if err != nil {
		return nil, &Error{Op: "salvage journal", Path: path, Err: err}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, lockedError(path)
	}
	return f, nil
}

// version is one copy of a request, opened.
type version struct {
	seq     uint64
	header  header
	payload []byte
	request *txn.Request
}

type salvage struct {
	raw     []byte
	journal journalID
	keys    map[uint32][]*dataKey // by number; a number may have been given twice after a crash
	last    uint32                // highest number
	found   map[string]version    // by request id
	broken  int
	stale   int
}

// openKeys finds the journal's id and its data keys: the id is the one that a data
// key is bound to.
func (s *salvage) openKeys(ctx context.Context, kek KEK, wit *witness) error {
	var ids []journalID
	if wit != nil {
		ids = append(ids, wit.journal)
	}
	each(s.raw, metaJournal, func(at int) {
		if rest := s.raw[at+len(metaJournal):]; len(rest) >= len(journalID{}) {
			if id := journalID(rest); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	})
	type candidate struct {
		id uint32
		w  *wrappedKey
	}
	var all []candidate
	seen := map[string]bool{}
	each(s.raw, []byte(dataKeyMagic), func(at int) {
		from := at - 4
		if from-len(metaKeys) < 0 || !bytes.Equal(s.raw[from-len(metaKeys):from], metaKeys) {
			return
		}
		w, n := cutWrappedKey(s.raw[at:])
		if w == nil || seen[string(s.raw[from:at+n])] {
			return
		}
		seen[string(s.raw[from:at+n])] = true
		all = append(all, candidate{binary.BigEndian.Uint32(s.raw[from:]), w})
	})
	for _, id := range ids {
		for _, c := range all {
			aead, err := unwrapKey(ctx, kek, c.w.wrapped, dataKeyAAD(id, c.id))
			if errors.Is(err, ErrKeyMismatch) {
				continue
			}
			if err != nil {
				return err
			}
			s.journal, s.last = id, max(s.last, c.id)
			s.keys[c.id] = append(s.keys[c.id], &dataKey{id: c.id, aead: aead})
		}
		if len(s.keys) > 0 {
			return nil
		}
	}
	return nil
}

// cutWrappedKey reads a wrapped data key that b begins with, and how long it is.
func cutWrappedKey(b []byte) (*wrappedKey, int) {
	const name = 4 + 8
	if len(b) <= name || len(b) < name+1+int(b[name])+2 {
		return nil, 0
	}
	n := name + 1 + int(b[name])
	n += 2 + int(binary.BigEndian.Uint16(b[n:]))
	if len(b) < n {
		return nil, 0
	}
	w, err := parseWrappedKey(dataKeyMagic, b[:n])
	if err != nil {
		return nil, 0
	}
	return w, n
}

// each calls fn for every place in b where what begins.
func each(b, what []byte, fn func(at int)) {
	for from := 0; ; {
		i := bytes.Index(b[from:], what)
		if i < 0 {
			return
		}
		fn(from + i)
		from += i + 1
	}
}

func (s *salvage) openRecords() {
	const place = 8 // a leaf's key stands right before its value
	each(s.raw, []byte(recordMagic), func(at int) {
		if at < place {
			return
		}
		v, ok := s.open(binary.BigEndian.Uint64(s.raw[at-place:]), s.raw[at:])
		if !ok {
			s.broken++
			return
		}
		if old, there := s.found[v.request.ID]; !there || further(&v, &old) {
			s.found[v.request.ID] = v
		}
	})
}

// open opens the record that b begins with.
func (s *salvage) open(seq uint64, b []byte) (version, bool) {
	n, ok := recordLength(b)
	if !ok {
		return version{}, false
	}
	rec, err := parseRecord(b[:n])
	if err != nil {
		return version{}, false
	}
	for _, k := range s.keys[rec.key] {
		p, err := k.open(s.journal, seq, rec)
		if err != nil {
			continue
		}
		r, _, err := decodePayload(p, seq, &rec.header)
		if err != nil {
			return version{}, false
		}
		return version{seq, rec.header, p, r}, true
	}
	return version{}, false
}

// recordLength reads how long a record is that b begins with.
func recordLength(b []byte) (int, bool) {
	n := fixedHeader
	for range 2 { // the request's id, the operation
		if n >= len(b) {
			return 0, false
		}
		n += 1 + int(b[n])
	}
	if n+4 > len(b) {
		return 0, false
	}
	box := int64(binary.BigEndian.Uint32(b[n:]))
	if box > maxRecord || int64(n)+4+box > int64(len(b)) {
		return 0, false
	}
	return n + 4 + int(box), true
}

// further reports whether a is the later of two versions of one request. A request
// that is finished stays so; attempts are only ever added.
func further(a, b *version) bool {
	final := func(v *version) int {
		if v.request.State.Final() {
			return 1
		}
		return 0
	}
	tried := func(v *version) int { return len(v.request.Attempts) + v.request.Omitted }
	return cmp.Or(
		cmp.Compare(final(a), final(b)),
		cmp.Compare(tried(a), tried(b)),
		a.request.At.Wall.Compare(b.request.At.Wall),
		cmp.Compare(progress(a.request.State), progress(b.request.State)),
	) > 0
}

// progress orders states of which one cannot follow on another by time alone.
func progress(s txn.State) int {
	return slices.Index([]txn.State{txn.Queued, txn.Sending, txn.Pending, txn.InDoubt, txn.Unresolved}, s)
}

// staleAfter is longer than any request is left alone by a running agent, and as
// long as finished ones are kept: what is older than the newest by that much was
// deleted, and only a page that is free by now still holds it.
const staleAfter = 48 * time.Hour

// dropStale leaves out requests that were deleted long ago. Unresolved ones are kept
// for much longer, and nobody touches them.
func (s *salvage) dropStale() {
	var newest time.Time
	for _, v := range s.found {
		if v.request.At.Wall.After(newest) {
			newest = v.request.At.Wall
		}
	}
	for id, v := range s.found {
		if v.request.State != txn.Unresolved && newest.Sub(v.request.At.Wall) > staleAfter {
			delete(s.found, id)
			s.stale++
		}
	}
}

// replace writes the new journal and puts it in place of the damaged one, which
// keeps a name of its own. A crash leaves either the one or the other.
func (s *salvage) replace(ctx context.Context, opt *Options, wit *witness) (kept string, err error) {
	tmp := opt.Path + ".new-" + rand.Text()
	defer func() { _ = os.Remove(tmp) }()
	h, err := bbolt.Open(tmp, 0o600, boltOptions(opt))
	if err != nil {
		return "", err
	}
	err = s.write(ctx, h, opt, wit)
	if cerr := h.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	if err := reserve(tmp, opt.Reserve); err != nil {
		return "", err
	}
	kept = fmt.Sprintf("%s.damaged-%s", opt.Path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.Link(opt.Path, kept); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, opt.Path); err != nil {
		return "", err
	}
	return kept, syncDir(filepath.Dir(opt.Path))
}

func (s *salvage) write(ctx context.Context, h *bbolt.DB, opt *Options, wit *witness) error {
	k, err := newDataKey(ctx, opt.KEK, s.journal, s.last+1)
	if err != nil {
		return err
	}
	w := wrappedKey{created: k.created.UnixMilli(), kek: k.kek, wrapped: k.wrapped}
	raw, err := w.encode(dataKeyMagic)
	if err != nil {
		return err
	}
	st := state{salt: newSalt(), serial: 1, nextKey: s.last + 2, commits: 1, behind: true}
	if wit != nil && wit.journal == s.journal {
		st.seq, st.serial, st.commits = wit.seq, max(wit.serial, 1), wit.commits+1
	}
	all := make([]version, 0, len(s.found))
	for _, v := range s.found {
		st.seq = max(st.seq, v.seq)
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b version) int { return cmp.Compare(a.seq, b.seq) })
	return h.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket(bucketMeta)
		if err != nil {
			return err
		}
		items, err := tx.CreateBucket(bucketItems)
		if err != nil {
			return err
		}
		items.FillPercent = 1
		for _, v := range all {
			if err := items.Put(itemKey(v.seq), k.seal(s.journal, v.seq, v.header, v.payload)); err != nil {
				return fmt.Errorf("put record %d: %w", v.seq, err)
			}
		}
		return errors.Join(
			meta.Put(metaJournal, s.journal[:]),
			opt.schema.write(meta),
			meta.Put(metaKey(k.id), raw),
			meta.Put(metaState, st.seal(k, s.journal)),
		)
	})
}
