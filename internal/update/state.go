package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Paths say where everything lies.
type Paths struct {
	Factory string // the program from the package
	Opt     string // folder of versions and of the link
	State   string // folder of state.json, caches and downloads' bookkeeping
	Request string // touched by the agent to ask for a run
}

// SystemPaths are the paths of an installed kiosk, below a prefix that only tests
// have.
func SystemPaths(prefix string) Paths {
	return Paths{
		Factory: prefix + "/usr/lib/gardu/gardu",
		Opt:     prefix + "/opt/gardu",
		State:   prefix + "/var/lib/gardu-update",
		Request: prefix + "/run/gardu/update-request",
	}
}

func (p Paths) state() string    { return filepath.Join(p.State, "state.json") }
func (p Paths) status() string   { return filepath.Join(p.State, "status.json") }
func (p Paths) lock() string     { return filepath.Join(p.State, "state.lock") }
func (p Paths) runLock() string  { return filepath.Join(p.State, "run.lock") }
func (p Paths) metadata() string { return filepath.Join(p.State, "metadata") }
func (p Paths) versions() string { return filepath.Join(p.Opt, "versions") }
func (p Paths) download() string { return filepath.Join(p.Opt, "download") }
func (p Paths) link() string     { return filepath.Join(p.Opt, "current") }

// State is what must survive a power cut at any moment of a swap.
type State struct {
	// Pending is installed and not committed yet; From is what runs again when it
	// does not work: a version or Factory.
	Pending string `json:"pending,omitempty"`
	From    string `json:"from,omitempty"`
	Tries   int    `json:"tries,omitempty"` // starts of Pending
	// Before is what worked before the swap and must work again.
	Before *Agent `json:"before,omitempty"`

	// Previous was committed before the one that is now: the first way back.
	Previous string `json:"previous,omitempty"`
	// Bad are versions that did not work here, and are not installed again.
	Bad map[string]Bad `json:"bad,omitempty"`
	// Hold is an operator's word that nothing is installed.
	Hold *Hold `json:"hold,omitempty"`
	// OutOfService is set when even the factory copy does not start: 'gardu run'
	// then serves a page only, until it is time to try again.
	OutOfService *OutOfService `json:"out_of_service,omitempty"`

	// unknown keeps what a newer release wrote here and this one does not know: the
	// factory copy must not make it forget.
	unknown map[string]json.RawMessage
}

// Bad is why a version is not installed again.
type Bad struct {
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Hold is who said so and why.
type Hold struct {
	Who    string    `json:"who"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until,omitzero"` // zero: until resumed
}

// OutOfService is since when and why.
type OutOfService struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// ErrState says that state.json could not be read.
var ErrState = errors.New("the update state is damaged")

const stateLimit = 1 << 20

// LoadState reads the state; without a file it is empty. A file that cannot be
// read is ErrState.
func LoadState(p Paths) (*State, error) {
	s := &State{}
	b, err := readFile(p.state(), stateLimit)
	if absent(err) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrState, err)
	}
	if err := json.Unmarshal(b, s); err != nil {
		return &State{}, fmt.Errorf("%w: %s: %w", ErrState, p.state(), err)
	}
	if err := json.Unmarshal(b, &s.unknown); err != nil {
		return &State{}, fmt.Errorf("%w: %s: %w", ErrState, p.state(), err)
	}
	for _, v := range []string{s.Pending, s.From, s.Previous} {
		if v != "" && v != Factory && CheckVersion(v) != nil {
			return &State{}, fmt.Errorf("%w: %s names the version %q", ErrState, p.state(), v)
		}
	}
	return s, nil
}

// stateFields are the names that this release writes itself.
var stateFields = []string{"pending", "from", "tries", "before", "previous", "bad", "hold", "out_of_service"}

func (s *State) save(p Paths) error {
	own, err := json.Marshal(s)
	if err != nil {
		return err
	}
	all := maps.Clone(s.unknown)
	if all == nil {
		all = map[string]json.RawMessage{}
	}
	maps.DeleteFunc(all, func(k string, _ json.RawMessage) bool { return slices.Contains(stateFields, k) })
	if err := json.Unmarshal(own, &all); err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.State, 0o755); err != nil { //nolint:gosec // G301: everybody may read the status
		return err
	}
	if err := writeFile(p.state(), append(b, '\n'), 0o644); err != nil { // everybody may read the status
		return fmt.Errorf("write the update state: %w", err)
	}
	return nil
}

// change reads the state, has it changed and writes it, under the lock. A lock
// that cannot be had in so long is done without where force says so: what runs
// before each start must not wait for anybody.
func change(p Paths, wait time.Duration, force bool, fn func(*State) error) (damaged error, err error) {
	if err := os.MkdirAll(p.State, 0o755); err != nil { //nolint:gosec // G301: see save
		return nil, err
	}
	unlock, err := lockFile(p.lock(), wait)
	if err != nil && !force {
		return nil, err
	}
	if err == nil {
		defer unlock()
	}
	s, damaged := LoadState(p)
	if damaged != nil {
		// Kept for whoever looks at it later; what it said is not known any more.
		_ = os.Rename(p.state(), p.state()+".damaged")
	}
	if err := fn(s); err != nil {
		return damaged, err
	}
	return damaged, s.save(p)
}

func (s *State) markBad(version, reason string, now time.Time) {
	if version == "" || version == Factory {
		return
	}
	if s.Bad == nil {
		s.Bad = map[string]Bad{}
	}
	s.Bad[version] = Bad{Reason: reason, At: now.UTC().Truncate(time.Second)}
}

// settle ends what is pending, whichever way.
func (s *State) settle() {
	s.Pending, s.From, s.Tries, s.Before = "", "", 0, nil
}
