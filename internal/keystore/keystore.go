// Package keystore is the token: its keys are used by name and never seen.
//
// The token's PKCS#11 module runs in a process of its own, the token worker
// (package worker), and this package starts it, speaks to it and replaces it. So
// a module that crashes or hangs costs one call and not the agent, and the agent
// can be a static program, which could not load a module.
//
// The two speak over one socket that all requests share, and over a few lanes, each
// of which carries one slow operation at a time (package protocol).
//
// Trust: the worker is our own program; the module inside it is the vendor's,
// and gets the token's PIN. Its path comes from the local configuration only and
// every folder on the way belongs to root. What the module answers is checked
// where it can be: every signature is verified against the public key before it
// leaves this package, a key is the same one each time it is found again, a new
// key computes what its value computes here. The PIN is tried once per value,
// because tokens lock.
//
// Failures: a lost session or handle is mended in the worker by a new session, a
// lost worker or sick token by a new worker, once per call; what still fails is
// answered with a typed error at once until a growing pause has passed. A token
// that comes back is used again without a restart.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gardu/internal/keystore/protocol"
)

// Options say which token to use and how. Module and Token are mandatory, and
// LatchPath when PIN is given.
type Options struct {
	// Module is the absolute path of the PKCS#11 module.
	Module string
	// InitReserved is handed to C_Initialize; some modules take parameters there.
	InitReserved string
	// TrustModulePath leaves out the check that only root can write to the
	// module and the folders above it. For demonstrations and tests.
	TrustModulePath bool

	// Token selects the token: a pkcs11: URI with token=, serial=, manufacturer= or model=.
	Token string
	// PIN returns the token's PIN; nil for a token that needs none.
	PIN PINSource
	// LatchPath is the file that remembers a refused PIN.
	LatchPath string

	// Launcher returns the command that becomes the token worker; nil starts this
	// program itself with the one argument "token-worker". Arguments, environment
	// and file descriptors that the worker needs are set by the Store.
	Launcher func() (*exec.Cmd, error)
	// EnvAllow are names of environment variables that the worker inherits, in
	// addition to DefaultEnvironment; a trailing * stands for any rest.
	EnvAllow []string
	// Env are further variables for the worker, as NAME=value.
	Env []string

	// Sessions is how many operations the token may carry out at once; 4 by default, at most 16.
	Sessions int
	// Deadline limits one operation, 5 s by default. A worker that exceeds it is killed.
	Deadline time.Duration
	// StartDeadline limits loading the module and logging in, each; 20 s by default.
	StartDeadline time.Duration
	// CeremonyDeadline limits making a key, importing, listing; 3 min by default.
	CeremonyDeadline time.Duration
	// BackoffMin and BackoffMax bound the pause after a failure, in which calls
	// are answered with that failure; 1 s and 30 s by default.
	BackoffMin, BackoffMax time.Duration
	// MinRSABits is the shortest RSA key that is used, 2048 by default. It cannot
	// be lowered below 1024, which is all that Go verifies.
	MinRSABits int
	// Wrapped are keys that the token cannot hold; see WrappedKey.
	Wrapped []WrappedKey

	farewell time.Duration // how long a worker that was told to end may take

	// Log takes the worker's starts and ends; nil for none.
	Log *slog.Logger
}

// DefaultEnvironment are the variables a worker inherits: those by which known
// modules find their configuration, and nothing that changes how programs are
// loaded.
var DefaultEnvironment = []string{
	"SOFTHSM2_CONF", "TPM2_PKCS11_*", "TSS2_*", "P11_KIT_*", "YUBIHSM_PKCS11_CONF", "OPENSC_CONF",
	"NSS_LIB_PARAMS", "CS_PKCS11_R3_CFG", "ChrystokiConfigurationPath", "CKNFAST_*", "HOME", "LANG", "TZ",
}

const leastRSABits = 1024

func (o *Options) complete() error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value *time.Duration
		byDef time.Duration
		name  string
	}{
		{&o.Deadline, 5 * time.Second, "Deadline"},
		{&o.StartDeadline, 20 * time.Second, "StartDeadline"},
		{&o.CeremonyDeadline, 3 * time.Minute, "CeremonyDeadline"},
		{&o.BackoffMin, time.Second, "BackoffMin"},
		{&o.BackoffMax, 30 * time.Second, "BackoffMax"},
	} {
		if *d.value == 0 {
			*d.value = d.byDef
		}
		if *d.value < 0 {
			return configuration("%s is negative", d.name)
		}
	}
	if o.farewell == 0 {
		o.farewell = farewell
	}
	o.BackoffMax = max(o.BackoffMax, o.BackoffMin)
	if o.Sessions == 0 {
		o.Sessions = 4
	}
	if o.Sessions < 0 || o.Sessions > 16 {
		return configuration("Sessions is %d; give 1 to 16", o.Sessions)
	}
	if o.MinRSABits == 0 {
		o.MinRSABits = 2048
	}
	if o.MinRSABits < leastRSABits {
		return configuration("the shortest RSA key allowed is %d bits; it cannot be lowered below %d", o.MinRSABits, leastRSABits)
	}
	if o.PIN != nil && !filepath.IsAbs(o.LatchPath) {
		return configuration("the wrong-PIN latch needs an absolute path")
	}
	for _, v := range o.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return configuration("a variable for the worker is not NAME=value")
		}
	}
	if o.Launcher == nil {
		o.Launcher = func() (*exec.Cmd, error) {
			return exec.Command("/proc/self/exe", workerArgument), nil //nolint:noctx // the worker outlives the call that needs it first
		}
	}
	return nil
}

// lanes is how many operations of the slower kind have a way of their own to the
// worker: no more than the token carries out at once.
func (o *Options) lanes() int { return min(o.Sessions, protocol.MaxLanes) }

// workerArgument is worker.Argument, which this package cannot import: it must
// build without cgo.
const workerArgument = "token-worker"

// environment is what the worker sees: allowed variables of ours, then the
// given ones.
func (o *Options) environment(all []string) []string {
	allowed := slices.Concat(DefaultEnvironment, o.EnvAllow)
	var env []string
	for _, v := range all {
		name, _, _ := strings.Cut(v, "=")
		if slices.ContainsFunc(allowed, func(a string) bool { ok, err := path.Match(a, name); return ok && err == nil }) {
			env = append(env, v)
		}
	}
	return append(env, o.Env...)
}

// Store is a token in use. It is safe for use by several goroutines.
type Store struct {
	opts  Options
	token URI
	latch latch

	mu       sync.Mutex // guards the fields below
	proc     *process
	last     *process // the one started last, which may still be ending
	starting *starting
	gen      uint64
	breaker  breaker             // of starts
	sick     map[string]*breaker // of objects, by their names in requests
	recheck  recheck
	refused  PINOrigin // the PIN that was refused while the latch could not be written
	keys     []tester
	closed   bool

	held map[string]*held // by name; made by Open and not changed

	processes sync.WaitGroup
	starts    sync.WaitGroup
	stop      chan struct{} // closed by Close
}

// starting is one start of a worker that any number of callers wait for.
type starting struct {
	done chan struct{}
	err  error // set before done is closed
}

// Open checks the options and returns a Store. It does not touch the token: the
// first use, or Ready, does. Its errors are about the options and wrap
// ErrConfiguration.
func Open(opts Options) (*Store, error) {
	s, err := newStore(opts)
	return s, explain("open", "token", err)
}

func newStore(opts Options) (*Store, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	token, err := ParseURI(opts.Token)
	if err != nil {
		return nil, err
	}
	if !token.namesToken() || token.namesObject() || token.Type != "" {
		return nil, configuration("the token's URI must name the token (token=, serial=) and no object in it")
	}
	if !filepath.IsAbs(opts.Module) {
		return nil, configuration("the module's path must be absolute")
	}
	if !opts.TrustModulePath {
		// A file that is missing now may be there later; a folder that others can
		// write to is a mistake to be told at once.
		if err := checkModule(opts.Module); err != nil && !errors.Is(err, ErrModule) {
			return nil, err
		}
	}
	s := &Store{
		opts: opts, token: token, latch: latch{opts.LatchPath}, sick: make(map[string]*breaker), stop: make(chan struct{}),
		breaker: newBreaker(&opts),
		recheck: recheck{least: 2 * opts.BackoffMin, most: 4 * opts.BackoffMax},
	}
	return s, s.holdWrapped()
}

// Ready starts the worker and logs in, if that is not done yet.
func (s *Store) Ready(ctx context.Context) error {
	return explain("open", s.token.String(), s.ready(ctx))
}

func (s *Store) ready(ctx context.Context) error {
	pass, err := s.admit("")
	if err != nil {
		return err
	}
	_, err = s.worker(ctx)
	s.release(pass, err == nil)
	return err
}

// Unlatch opens the wrong-PIN latch: the PIN may be tried once more.
func (s *Store) Unlatch(ctx context.Context) error {
	if err := Unlatch(ctx, s.opts.LatchPath); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = ""
	s.breaker = newBreaker(&s.opts)
	return nil
}

// Close lets the calls under way finish, ends the worker and returns when it is
// gone. Later calls fail with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p != nil {
		p.leave()
	}
	for _, h := range s.held {
		h.wipe()
	}
	s.starts.Wait()
	s.processes.Wait()
	return nil
}

// worker returns the running worker, and starts one when there is none. The
// start goes on when ctx ends, so that impatient callers cannot prevent it.
func (s *Store) worker(ctx context.Context) (*process, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		if s.proc != nil && s.proc.alive() {
			p := s.proc
			s.mu.Unlock()
			return p, nil
		}
		if s.starting == nil {
			s.gen++
			s.starting = &starting{done: make(chan struct{})}
			gen := s.gen
			s.starts.Go(func() { s.start(context.WithoutCancel(ctx), gen) })
		}
		st := s.starting
		s.mu.Unlock()
		select {
		case <-st.done:
			if st.err != nil {
				return nil, st.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the token: %w", ctx.Err())
		}
	}
}

// start runs one start and publishes what came of it.
func (s *Store) start(ctx context.Context, gen uint64) {
	ctx, cancel := context.WithTimeout(ctx, 4*s.opts.StartDeadline) // for what has no deadline of its own
	defer cancel()
	s.starts.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	began := time.Now()
	p, err := s.bring(ctx, gen)
	switch { // the start's own end, and no caller's
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: it was not ready within %v", ErrTimeout, 4*s.opts.StartDeadline)
	case errors.Is(err, context.Canceled):
		err = ErrClosed
	}
	s.mu.Lock()
	if err == nil && s.closed {
		err = ErrClosed
	}
	if err == nil {
		s.proc = p
		s.breaker = newBreaker(&s.opts)
	} else {
		s.breaker.failed(gen, err, time.Now())
	}
	st := s.starting
	s.starting = nil
	st.err = err
	s.mu.Unlock()
	close(st.done)

	if err != nil {
		if p != nil {
			p.leave()
		}
		s.opts.Log.Warn("token not usable", "token", s.token.String(), "error", err)
		return
	}
	s.opts.Log.Info("token ready", "token", s.token.String(), "serial", p.token.Serial, "model", p.token.Model,
		"library", p.token.Library, "took", time.Since(began).Round(time.Millisecond))
}

// run starts the process itself, once the one before is gone: some tokens serve
// one process at a time.
func (s *Store) run(ctx context.Context, gen uint64) (*process, error) {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil {
		select {
		case <-last.ended:
		case <-ctx.Done():
			return nil, ErrClosed
		case <-time.After(2 * s.opts.farewell): // it does not die: a driver that hangs in the kernel
		}
	}
	cmd, err := s.opts.Launcher()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWorkerLost, err)
	}
	cmd.Env = s.opts.environment(os.Environ())
	p, err := launch(cmd, gen, &s.opts)
	if err != nil {
		return nil, err
	}
	s.processes.Go(func() { <-p.ended })
	s.mu.Lock()
	s.last = p
	s.mu.Unlock()
	return p, nil
}

func (s *Store) hello() *protocol.Hello {
	return &protocol.Hello{
		Module: s.opts.Module, InitReserved: s.opts.InitReserved,
		Label: s.token.Token, Serial: s.token.Serial, Manufacturer: s.token.Manufacturer, Model: s.token.Model,
		Sessions: uint32(s.opts.Sessions), //nolint:gosec // 1 to 16
		Lanes:    uint32(s.opts.lanes()),  //nolint:gosec // as few
	}
}
