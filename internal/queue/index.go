package queue

// entry is what is kept in memory of each record, all of it from its header.
type entry struct {
	key  uint32 // data key; 0 where the header cannot be read
	size int
	file string // the key file of its secret, or ""
}

// index counts. writer.turn guards it.
type index struct {
	items  map[uint64]entry
	bytes  int64
	perKey map[uint32]int
}

func newIndex() *index {
	return &index{items: map[uint64]entry{}, perKey: map[uint32]int{}}
}

func entryOf(raw []byte) entry {
	e := entry{size: len(raw)}
	if rec, err := parseRecord(raw); err == nil {
		e.key, e.file = rec.key, rec.keyFile()
	}
	return e
}

func (x *index) put(seq uint64, e entry) {
	x.remove(seq)
	x.items[seq] = e
	x.bytes += int64(e.size)
	x.perKey[e.key]++
}

func (x *index) remove(seq uint64) {
	e, ok := x.items[seq]
	if !ok {
		return
	}
	delete(x.items, seq)
	x.bytes -= int64(e.size)
	if x.perKey[e.key]--; x.perKey[e.key] == 0 {
		delete(x.perKey, e.key)
	}
}
