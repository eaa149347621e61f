package queue

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// witness is what a small file beside the journal remembers of it. It is
// written after the commits it speaks of are on disk, and not synced, so it is
// never ahead of a journal that nobody put back.
type witness struct {
	Version int    `json:"version"`
	Journal string `json:"journal"` // hex
	Seq     uint64 `json:"seq"`     // the highest sequence number given
	Serial  uint64 `json:"serial"`  // the first serial that was not reserved
}

const (
	witnessVersion = 1
	maxWitness     = 4096
)

func witnessPath(journal string) string { return journal + ".witness" }

// readWitness returns nil where there is no file, and an error where there is
// one that says nothing.
func readWitness(path string) (*witness, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no witness is an ordinary answer
	}
	if err != nil {
		return nil, fmt.Errorf("read witness: %w", err)
	}
	if fi.Size() > maxWitness {
		return nil, fmt.Errorf("read witness: %d bytes, want at most %d", fi.Size(), maxWitness)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the path is the configuration's
	if err != nil {
		return nil, fmt.Errorf("read witness: %w", err)
	}
	return parseWitness(b)
}

func parseWitness(b []byte) (*witness, error) {
	w := new(witness)
	if err := json.Unmarshal(b, w); err != nil {
		return nil, fmt.Errorf("parse witness: %w", err)
	}
	if w.Version != witnessVersion {
		return nil, fmt.Errorf("parse witness: version %d, want %d", w.Version, witnessVersion)
	}
	if id, err := hex.DecodeString(w.Journal); err != nil || len(id) != len(journalID{}) {
		return nil, errors.New("parse witness: journal is not 32 hexadecimal digits")
	}
	return w, nil
}

func (w *witness) write(path string) error {
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write witness: %w", err)
	}
	return nil
}

// behind says why the journal is older than what its witness saw, or "".
func (w *witness) behind(id journalID, s *state) string {
	switch {
	case w == nil:
		return ""
	case w.Journal != hex.EncodeToString(id[:]):
		return "another journal stood here before"
	case s.seq < w.Seq:
		return fmt.Sprintf("it ends at record %d, and there were %d", s.seq, w.Seq)
	case s.serial < w.Serial:
		return fmt.Sprintf("its serials end at %d, and there were %d", s.serial, w.Serial)
	}
	return ""
}
