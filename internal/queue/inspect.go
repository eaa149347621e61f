package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt trusts its file: on a damaged one it can panic, fault or loop for ever,
// some of it in goroutines of its own. So the file is read through once before
// bbolt sees it, by code that believes nothing. The format is that of bbolt 1.3
// and 1.4 and 1.5 (its version number 2); numbers have the host's byte order.
const (
	boltMagic      = 0xED0CDAED
	boltVersion    = 2
	boltPageHeader = 16
	boltMetaSize   = 64
	boltElement    = 16
	boltMinPage    = 1 << 10
	boltMaxPage    = 1 << 16
	boltMaxDepth   = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element
)

var native = binary.NativeEndian

type boltMeta struct {
	pageSize int64
	root     uint64
	freelist uint64
	pages    uint64 // one past the highest page in use
	txid     uint64
}

// inspector reads one file's pages.
type inspector struct {
	f    io.ReaderAt
	meta boltMeta
	seen []bool // pages that have been met, reachable or free
}

// inspect reports the first thing in the file that bbolt could stumble over. It
// does not look at values: those have seals.
func inspect(f io.ReaderAt, size int64) error {
	m, err := newestMeta(f, size)
	if err != nil {
		return err
	}
	if m.pages < 4 || m.pages > uint64(size/m.pageSize) { //nolint:gosec // size is not negative
		return fmt.Errorf("the file has %d bytes and its header speaks of %d pages of %d", size, m.pages, m.pageSize)
	}
	in := &inspector{f: f, meta: m, seen: make([]bool, m.pages)}
	in.seen[0], in.seen[1] = true, true
	if err := in.freelist(); err != nil {
		return err
	}
	if err := in.tree(m.root, nil, nil, 0); err != nil {
		return err
	}
	for id, seen := range in.seen {
		if !seen {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}
	return nil
}

// newestMeta returns the valid header with the highest transaction.
func newestMeta(f io.ReaderAt, size int64) (boltMeta, error) {
	var best boltMeta
	found := false
	use := func(off int64) {
		m, ok := readMeta(f, off)
		// The second header stands one page after the first.
		if ok && (off == 0 || off == m.pageSize) && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	use(0)
	for off := int64(boltMinPage); off <= boltMaxPage && off < size; off *= 2 {
		use(off)
	}
	if !found {
		return best, errors.New("neither of its two headers is valid")
	}
	return best, nil
}

func readMeta(f io.ReaderAt, off int64) (m boltMeta, ok bool) {
	b := make([]byte, boltPageHeader+boltMetaSize)
	if _, err := f.ReadAt(b, off); err != nil {
		return m, false
	}
	flags := native.Uint16(b[8:])
	b = b[boltPageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(b[:56])
	if flags != flagMeta || native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion || native.Uint64(b[56:]) != h.Sum64() {
		return m, false
	}
	m = boltMeta{
		pageSize: int64(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
	power := m.pageSize&(m.pageSize-1) == 0
	return m, power && m.pageSize >= boltMinPage && m.pageSize <= boltMaxPage
}

// page reads page id with its overflow and marks all of it as met.
func (in *inspector) page(id uint64, wantFlags ...uint16) (data []byte, flags uint16, count int, err error) {
	if id < 2 || id >= in.meta.pages {
		return nil, 0, 0, fmt.Errorf("page %d is outside the file", id)
	}
	head := make([]byte, boltPageHeader)
	off := int64(id) * in.meta.pageSize //nolint:gosec // id is below pages, which the file's size bounds
	if _, err := in.f.ReadAt(head, off); err != nil {
		return nil, 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	flags, count = native.Uint16(head[8:]), int(native.Uint16(head[10:]))
	overflow := uint64(native.Uint32(head[12:]))
	if native.Uint64(head) != id {
		return nil, 0, 0, fmt.Errorf("page %d says that it is page %d", id, native.Uint64(head))
	}
	known := false
	for _, w := range wantFlags {
		known = known || flags == w
	}
	if !known {
		return nil, 0, 0, fmt.Errorf("page %d is of the wrong kind (%#x)", id, flags)
	}
	if overflow >= in.meta.pages-id {
		return nil, 0, 0, fmt.Errorf("page %d runs over the end of the file", id)
	}
	for p := id; p <= id+overflow; p++ {
		if in.seen[p] {
			return nil, 0, 0, fmt.Errorf("page %d is used twice", p)
		}
		in.seen[p] = true
	}
	data = make([]byte, int64(overflow+1)*in.meta.pageSize) //nolint:gosec // likewise
	if _, err := in.f.ReadAt(data, off); err != nil {
		return nil, 0, 0, fmt.Errorf("read page %d: %w", id, err)
	}
	return data, flags, count, nil
}

func (in *inspector) freelist() error {
	if in.meta.freelist == ^uint64(0) {
		return errors.New("the list of free pages is missing")
	}
	data, _, count, err := in.page(in.meta.freelist, flagFreelist)
	if err != nil {
		return fmt.Errorf("free pages: %w", err)
	}
	ids := data[boltPageHeader:]
	n := uint64(count)   //nolint:gosec // 16 bits
	if count == 0xFFFF { // more than fit in 16 bits: the number stands first
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return fmt.Errorf("free pages: %d do not fit their page", n)
	}
	for i := range n {
		id := native.Uint64(ids[i*8:])
		if id < 2 || id >= in.meta.pages || in.seen[id] {
			return fmt.Errorf("free pages: page %d is in use, listed twice or outside the file", id)
		}
		in.seen[id] = true
	}
	return nil
}

// tree walks the pages from id down. Keys are at least low and below high, where
// those are not nil.
func (in *inspector) tree(id uint64, low, high []byte, depth int) error {
	if depth > boltMaxDepth {
		return errors.New("the tree is too deep")
	}
	data, flags, count, err := in.page(id, flagBranch, flagLeaf)
	if err != nil {
		return err
	}
	if flags == flagLeaf {
		if err := in.leaf(data, count, low, high, depth); err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		return nil
	}
	if count == 0 {
		return fmt.Errorf("page %d: a branch without children", id)
	}
	keys := make([][]byte, count)
	children := make([]uint64, count)
	for i := range count {
		e, ok := element(data, i)
		if !ok {
			return fmt.Errorf("page %d: element %d is outside the page", id, i)
		}
		if keys[i], ok = span(e, native.Uint32(e), 0, native.Uint32(e[4:])); !ok {
			return fmt.Errorf("page %d: key %d is outside the page", id, i)
		}
		children[i] = native.Uint64(e[8:])
	}
	if err := ordered(keys, low, high); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, child := range children {
		next := high
		if i+1 < count {
			next = keys[i+1]
		}
		if err := in.tree(child, keys[i], next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (in *inspector) leaf(data []byte, count int, low, high []byte, depth int) error {
	keys := make([][]byte, count)
	for i := range count {
		e, ok := element(data, i)
		if !ok {
			return fmt.Errorf("element %d is outside the page", i)
		}
		flags, pos, ksize, vsize := native.Uint32(e), native.Uint32(e[4:]), native.Uint32(e[8:]), native.Uint32(e[12:])
		if keys[i], ok = span(e, pos, 0, ksize); !ok {
			return fmt.Errorf("key %d is outside the page", i)
		}
		value, ok := span(e, pos, ksize, vsize)
		switch {
		case !ok:
			return fmt.Errorf("value %d is outside the page", i)
		case flags&^flagBucket != 0:
			return fmt.Errorf("element %d is of an unknown kind (%#x)", i, flags)
		case flags == flagBucket:
			if err := in.bucket(value, depth); err != nil {
				return fmt.Errorf("bucket %d: %w", i, err)
			}
		}
	}
	return ordered(keys, low, high)
}

// bucket checks a bucket's header and what is below it: its pages, or the small
// leaf that stands inside the value itself.
func (in *inspector) bucket(value []byte, depth int) error {
	if len(value) < 16 {
		return errors.New("shorter than a bucket's header")
	}
	if root := native.Uint64(value); root != 0 {
		return in.tree(root, nil, nil, depth+1)
	}
	inline := value[16:]
	if len(inline) < boltPageHeader || native.Uint16(inline[8:]) != flagLeaf || depth > boltMaxDepth {
		return errors.New("its inline page is not a leaf")
	}
	return in.leaf(inline, int(native.Uint16(inline[10:])), nil, nil, depth+1)
}

// element returns the page from element i on: positions count from there.
func element(data []byte, i int) ([]byte, bool) {
	off := boltPageHeader + i*boltElement
	if off+boltElement > len(data) {
		return nil, false
	}
	return data[off:], true
}

// span cuts n bytes, skip after pos, out of what follows an element.
func span(e []byte, pos, skip, n uint32) ([]byte, bool) {
	from := uint64(pos) + uint64(skip)
	if from+uint64(n) > uint64(len(e)) {
		return nil, false
	}
	return e[from : from+uint64(n)], true
}

func ordered(keys [][]byte, low, high []byte) error {
	for i, k := range keys {
		switch {
		case i == 0 && low != nil && bytes.Compare(k, low) < 0:
			return errors.New("its keys begin before its parent's")
		case i > 0 && bytes.Compare(keys[i-1], k) >= 0:
			return fmt.Errorf("key %d is out of order", i)
		case high != nil && bytes.Compare(k, high) >= 0:
			return fmt.Errorf("key %d belongs to the next page", i)
		}
	}
	return nil
}
