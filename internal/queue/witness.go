package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// witness is what a small file beside the journal remembers of it: the last
// commit. It is written after that commit is on disk, so it is never ahead of a
// journal that nobody put back; and before anybody is told of the commit, so it
// is never behind what may have been sent, but for a power cut.
type witness struct {
	journal journalID
	commits uint64 // how many there were
	seq     uint64 // the highest sequence number given
	serial  uint64 // the first serial that was not reserved
}

// The file has two slots, each in a block of its own:
//
//	4   "GDW" and the format's version, 0x01
//	16  journal id
//	8   commits
//	8   highest sequence number
//	8   first serial that is not reserved
//	4   CRC-32C of what is before it
//
// The rest is zeros. What is written between two syncs goes to the same slot, so
// that a power cut, whatever it tears, leaves the other one whole.
const (
	witnessMagic = "GDW\x01"
	slotBytes    = 4 + 16 + 8 + 8 + 8 + 4
	slotEvery    = 4096
	slots        = 2
	witnessBytes = slots * slotEvery
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errSpoiled: there is a witness, and none of its slots is whole.
var errSpoiled = errors.New("the witness says nothing")

func witnessPath(journal string) string { return journal + ".witness" }

func (w *witness) encode() []byte {
	b := make([]byte, 0, slotBytes)
	b = append(b, witnessMagic...)
	b = append(b, w.journal[:]...)
	b = binary.BigEndian.AppendUint64(b, w.commits)
	b = binary.BigEndian.AppendUint64(b, w.seq)
	b = binary.BigEndian.AppendUint64(b, w.serial)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseWitness returns the newest of the slots that are whole.
func parseWitness(b []byte) (*witness, error) {
	var newest *witness
	for i := range slots {
		from := i * slotEvery
		if len(b) < from+slotBytes {
			break
		}
		if w := parseSlot(b[from : from+slotBytes]); w != nil && (newest == nil || w.commits > newest.commits) {
			newest = w
		}
	}
	if newest == nil {
		return nil, errSpoiled
	}
	return newest, nil
}

// parseSlot returns nil where the slot is not whole.
func parseSlot(b []byte) *witness {
	sum := len(b) - 4
	if string(b[:4]) != witnessMagic || crc32.Checksum(b[:sum], castagnoli) != binary.BigEndian.Uint32(b[sum:]) {
		return nil
	}
	w := new(witness)
	b = b[4+copy(w.journal[:], b[4:]):]
	w.commits, w.seq, w.serial = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	return w
}

// readWitness returns nil where there is no file, and errSpoiled where there is
// one that says nothing.
func readWitness(path string) (*witness, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the configuration's
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no witness is an ordinary answer
	}
	if err != nil {
		return nil, fmt.Errorf("read witness: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, witnessBytes))
	if err != nil {
		return nil, fmt.Errorf("read witness: %w", err)
	}
	return parseWitness(b)
}

// behind says why the journal is older than what its witness saw, or "". A
// witness that is missing (nil) saw nothing, and there is always one on the disk
// before the first request is taken.
func (w *witness) behind(id journalID, s *state) string {
	switch {
	case w == nil && s.seq > 0:
		return "its witness is gone or spoiled, so that nobody can tell it from an old copy"
	case w == nil:
		return ""
	case w.journal != id:
		return "another journal stood here before"
	case s.commits < w.commits:
		return fmt.Sprintf("it ends at commit %d, and there were %d", s.commits, w.commits)
	}
	return ""
}

// witnessFile is the open file. writer.turn guards it.
type witnessFile struct {
	f        *os.File
	slot     int  // where the next one goes; the other one is on the disk
	unsynced bool // something was written since the last sync
}

// openWitness brings w to disk and keeps the file open. A file of the right size
// is written over in place, which needs no room on a full disk.
func openWitness(path string, w *witness) (*witnessFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // the path is the configuration's
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	if err == nil {
		wf, ok, err := overwrite(f, w)
		if ok && err == nil {
			return wf, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("write witness: %w", err)
		}
	}
	if f, err = newWitness(path, w); err != nil {
		return nil, fmt.Errorf("make witness: %w", err)
	}
	return &witnessFile{f: f}, nil
}

// overwrite brings w into both slots, one after the other and the older one
// first. ok is false where the file is none that can be written over.
func overwrite(f *os.File, w *witness) (wf *witnessFile, ok bool, err error) {
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != witnessBytes {
		return nil, false, err
	}
	b := make([]byte, witnessBytes)
	if _, err := f.ReadAt(b, 0); err != nil {
		return nil, true, err
	}
	wf = &witnessFile{f: f}
	first, second := parseSlot(b[:slotBytes]), parseSlot(b[slotEvery:slotEvery+slotBytes])
	if first != nil && (second == nil || second.commits < first.commits) {
		wf.slot = 1
	}
	for range slots {
		if err := errors.Join(wf.write(w), wf.sync()); err != nil {
			return nil, true, err
		}
	}
	return wf, true, nil
}

func newWitness(path string, w *witness) (*os.File, error) {
	b := make([]byte, witnessBytes)
	copy(b, w.encode())
	copy(b[slotEvery:], w.encode())
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600) //nolint:gosec // the path is the configuration's
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// write does not wait for the disk: it costs some microseconds.
func (wf *witnessFile) write(w *witness) error {
	if _, err := wf.f.WriteAt(w.encode(), int64(wf.slot)*slotEvery); err != nil {
		return err
	}
	wf.unsynced = true
	return nil
}

func (wf *witnessFile) sync() error {
	if !wf.unsynced {
		return nil
	}
	if err := wf.f.Sync(); err != nil {
		return err
	}
	wf.slot, wf.unsynced = (wf.slot+1)%slots, false
	return nil
}
