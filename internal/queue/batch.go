package queue

import (
	"fmt"

	"go.etcd.io/bbolt"

	"gardu/internal/txn"
)

// batch is one transaction with everybody's changes in it.
type batch struct {
	tx          *bbolt.Tx
	items, meta *bbolt.Bucket

	journal  journalID
	key      *dataKey // seals what this batch writes
	state    state    // as it will be after the commit
	maxItems int
	maxBytes int64

	count    int   // records, with this batch's changes
	bytes    int64 // likewise
	changes  []change
	reserved bool  // a block of serials comes along
	used     int64 // of the file, before

	rewrapped []rewrapped
}

// change is what the index learns once the batch is on disk.
type change struct {
	seq  uint64
	gone bool
	entry
}

func (b *batch) put(seq uint64, h header, payload []byte, oldSize int) error {
	raw := b.key.seal(b.journal, seq, h, payload)
	if len(raw) > maxRecord {
		return fmt.Errorf("%d bytes: %w", len(raw), ErrTooLarge)
	}
	if err := b.items.Put(itemKey(seq), raw); err != nil {
		return fmt.Errorf("put record %d: %w", seq, err)
	}
	h.key = b.key.id
	b.bytes += int64(len(raw) - oldSize)
	b.changes = append(b.changes, change{seq: seq, entry: entry{key: h.key, size: len(raw), file: h.keyFile()}})
	return nil
}

func (b *batch) add(h header, payload []byte) (uint64, error) {
	if b.count >= b.maxItems {
		return 0, fmt.Errorf("%d records of at most %d: %w", b.count, b.maxItems, txn.ErrFull)
	}
	if b.bytes+int64(len(payload)) > b.maxBytes {
		return 0, fmt.Errorf("%d bytes of at most %d: %w", b.bytes, b.maxBytes, txn.ErrFull)
	}
	seq := b.state.seq + 1
	if err := b.put(seq, h, payload, 0); err != nil {
		return 0, err
	}
	b.state.seq = seq
	b.count++
	return seq, nil
}

// stored returns the record at seq as it stands in this transaction. Its box
// shares bbolt's memory.
func (b *batch) stored(seq uint64, id string) (*record, int, error) {
	raw := b.items.Get(itemKey(seq))
	if raw == nil {
		return nil, 0, fmt.Errorf("record %d: %w", seq, txn.ErrNotFound)
	}
	rec, err := parseRecord(raw)
	if err != nil {
		return nil, 0, &RecordError{Seq: seq, Err: fmt.Errorf("%w: %w", txn.ErrSeal, err)}
	}
	if rec.id != id {
		return nil, 0, fmt.Errorf("record %d is of another request: %w", seq, txn.ErrNotFound)
	}
	return rec, len(raw), nil
}

// remove deletes what is there of seqs and returns the key files that go with it.
func (b *batch) remove(seqs []uint64) (files []string, err error) {
	for _, seq := range seqs {
		raw := b.items.Get(itemKey(seq))
		if raw == nil {
			continue
		}
		e := entryOf(raw)
		if err := b.items.Delete(itemKey(seq)); err != nil {
			return nil, fmt.Errorf("delete record %d: %w", seq, err)
		}
		b.count--
		b.bytes -= int64(e.size)
		b.changes = append(b.changes, change{seq: seq, gone: true})
		if e.file != "" {
			files = append(files, e.file)
		}
	}
	return files, nil
}

// reserve takes the next block of serials along, once.
func (b *batch) reserve() error {
	if b.reserved {
		return nil
	}
	if b.state.serial+serialBlock > txn.MaxSerial {
		return ErrSerials
	}
	b.state.serial += serialBlock
	b.reserved = true
	return nil
}
