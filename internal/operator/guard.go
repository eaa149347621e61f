package operator

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/secret"
)

// Why nobody is let in.
var (
	ErrWrong  = errors.New("this id and code do not belong together")
	ErrLocked = errors.New("too many wrong codes")
	// ErrState: what was used cannot be written down, so no code is accepted.
	ErrState = errors.New("used codes cannot be written down")
)

// Wrong codes of everybody together that close the door, and for how long. Six
// digits and three periods give a guess a chance of 3 in a million.
const (
	tries  = 5
	window = 15 * time.Minute
)

// Method is how an operator was recognised.
type Method string

// The methods.
const (
	ByTOTP     Method = "totp"
	ByRecovery Method = "recovery"
)

// Guard recognises operators. It is safe for concurrent use.
type Guard struct {
	state string // path
	log   *slog.Logger
	now   func() time.Time

	mu   sync.Mutex // guards what follows
	who  map[string]*operator
	used state
}

// state is the agent's own file, as JSON.
type state struct {
	// Step is the newest period whose password was used, by operator.
	Step map[string]int64 `json:"step"`
	// Recovery are the digests of used recovery codes, in hexadecimal.
	Recovery []string `json:"recovery"`
	// Wrong is when wrong codes came, the oldest first.
	Wrong []time.Time `json:"wrong"`
}

// Open reads the operators' file at path and what was used from the file at state,
// which need not be there yet; its folder must. An unreadable operators' file is a
// *config.Error. A state file that cannot be read is an error too: without it every
// used code would open the screen again.
func Open(path, statePath string, log *slog.Logger, now func() time.Time) (*Guard, error) {
	who, err := read(path)
	if err != nil {
		return nil, err
	}
	g := &Guard{state: statePath, log: log, now: now, who: who, used: state{Step: map[string]int64{}}}
	b, err := os.ReadFile(statePath) //nolint:gosec // G304: the configuration's
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err == nil {
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		err = d.Decode(&g.used)
	}
	if err != nil {
		return nil, fmt.Errorf("read the operators' used codes from %s: %w; restore the file, or give every operator a new seed and remove it", statePath, err)
	}
	if g.used.Step == nil {
		g.used.Step = map[string]int64{}
	}
	return g, nil
}

// Reload reads the operators' file again. With an error everybody stays as they were.
func (g *Guard) Reload(path string) error {
	who, err := read(path)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.who {
		o.seed.Wipe()
	}
	g.who = who
	return nil
}

// Check recognises an operator by id and code, a one-time password of now or a
// recovery code, and uses the code up. left is how many recovery codes remain.
// Errors: ErrWrong, ErrLocked (wraps until when as *LockedError), ErrState.
func (g *Guard) Check(_ context.Context, id string, code *secret.Value) (m Method, left int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.forget(now)
	if len(g.used.Wrong) >= tries {
		return "", 0, &LockedError{g.used.Wrong[0].Add(window)}
	}
	next := g.used.clone()
	o := g.who[id]
	switch {
	case o == nil:
	case o.byTOTP(code, now, next.Step):
		m = ByTOTP
	case o.byRecovery(code, &next):
		m = ByRecovery
	}
	if m == "" {
		next.Wrong = append(next.Wrong, now)
	} else {
		next.Wrong = nil
	}
	// On disk first: a code that is accepted before it is used up opens twice.
	if err := next.write(g.state); err != nil {
		g.log.Error("operators' used codes not written; nobody is let in", "error", err)
		return "", 0, fmt.Errorf("%w: %w", ErrState, err)
	}
	g.used = next
	if m == "" {
		g.log.Warn("wrong operator code", "wrong_in_window", len(next.Wrong))
		return "", 0, ErrWrong
	}
	g.log.Info("operator let in", "operator", id, "method", m)
	return m, o.left(&next), nil
}

// forget drops wrong codes that are over. Those of a time to come, after the clock
// was put back, count from now.
func (g *Guard) forget(now time.Time) {
	for i, at := range g.used.Wrong {
		if at.After(now) {
			g.used.Wrong[i] = now
		}
	}
	g.used.Wrong = slices.DeleteFunc(g.used.Wrong, func(at time.Time) bool { return now.Sub(at) >= window })
}

// LockedError says until when no code is looked at. It is ErrLocked.
type LockedError struct{ Until time.Time }

// Error says what to do.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%v; wait until %s", ErrLocked, e.Until.Local().Format(time.TimeOnly))
}

// Is makes it ErrLocked.
func (*LockedError) Is(target error) bool { return target == ErrLocked }

// byTOTP uses the period's password up. The passwords of all periods are compared,
// so that the time taken says nothing.
func (o *operator) byTOTP(code *secret.Value, now time.Time, used map[string]int64) bool {
	newest, ever := used[o.id]
	found := int64(-1)
	for step := stepOf(now) - totpSkew; step <= stepOf(now)+totpSkew; step++ {
		want := totp(o.seed, step)
		if subtle.ConstantTimeCompare(want, code.Bytes()) == 1 && (!ever || step > newest) {
			found = step
		}
		clear(want)
	}
	if found < 0 {
		return false
	}
	used[o.id] = found
	return true
}

func (o *operator) byRecovery(code *secret.Value, used *state) bool {
	clean := make([]byte, 0, code.Len())
	defer func() { clear(clean) }()
	for _, c := range code.Bytes() { // as it is printed: in groups, in either case
		if c != '-' && c != ' ' {
			clean = append(clean, c)
		}
	}
	clean = upper(clean)
	sum := recoveryDigest(o.id, clean)
	for _, d := range o.recovery {
		if subtle.ConstantTimeCompare(d[:], sum[:]) == 1 {
			h := hex.EncodeToString(d[:])
			if slices.Contains(used.Recovery, h) {
				return false
			}
			used.Recovery = append(used.Recovery, h)
			return true
		}
	}
	return false
}

func upper(b []byte) []byte {
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return b
}

func (o *operator) left(used *state) (n int) {
	for _, d := range o.recovery {
		if !slices.Contains(used.Recovery, hex.EncodeToString(d[:])) {
			n++
		}
	}
	return n
}

func (s *state) clone() state {
	c := state{Step: make(map[string]int64, len(s.Step)+1), Recovery: slices.Clone(s.Recovery), Wrong: slices.Clone(s.Wrong)}
	for id, step := range s.Step {
		c.Step[id] = step
	}
	return c
}

// write replaces the file at once and for good.
func (s *state) write(path string) (err error) {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600) //nolint:gosec // G304: beside the journal
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
