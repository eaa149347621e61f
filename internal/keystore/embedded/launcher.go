package embedded

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"gardu/internal/keystore"
)

// Arguments of the carried program, which is cmd/token-worker.
const (
	// ServeArgument makes it serve the socket that the keystore hands over.
	ServeArgument = "token-worker"
	// ProbeArgument makes it end at once with code 0: it can be executed here.
	ProbeArgument = "probe"
)

// probeLimit is generous: a machine that boots is slow, and a way that is given
// up wrongly is given up for as long as the program runs.
const probeLimit = 20 * time.Second

// ErrNotCarried says that this program was built without a token worker inside.
var ErrNotCarried = errors.New("this program carries no token worker")

// Sum returns the SHA-256 of the worker that this program carries, in hex, and ""
// when it carries none.
func Sum() string {
	program, err := unpack(carried)
	if program == "" || err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(program))
	return hex.EncodeToString(sum[:])
}

// unpack returns the program of its carried form, gzip; nothing of nothing.
func unpack(packed string) (string, error) {
	if packed == "" {
		return "", nil
	}
	r, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		return "", fmt.Errorf("unpack the carried token worker: %w", err)
	}
	var b strings.Builder
	if _, err := io.Copy(&b, r); err != nil { //nolint:gosec // G110: it comes from this very program
		return "", fmt.Errorf("unpack the carried token worker: %w", err)
	}
	return b.String(), nil
}

// Options say where a worker may be executed from, apart from memory.
type Options struct {
	// Dir is the runtime directory, which this process can write to; "" leaves
	// this way out.
	Dir string
	// Helper is the absolute path of a copy of the carried program; "" leaves this
	// way out.
	Helper string
	// TrustHelper accepts a Helper that others than root can write to. For
	// demonstrations and tests.
	TrustHelper bool
	// Log says when the worker does not run from memory, and why; nil for nothing.
	Log *slog.Logger
}

// Launcher makes commands that start the worker. Its method Command is a
// keystore.Options.Launcher. It is safe for use by several goroutines.
type Launcher struct {
	opts   Options
	broken error // why there is no program
	memfd  func(name string, flags int) (int, error)

	mu      sync.Mutex // guards what follows
	program string     // until a way has worked
	path    string     // what is executed, once one has
	file    *os.File   // stays open as long as the Launcher is in use: path leads through it
}

// New returns a Launcher of the worker that this program carries. Nothing is
// written or started before the first Command.
func New(opts Options) *Launcher {
	program, err := unpack(carried)
	l := newLauncher(opts, program)
	l.broken = err
	return l
}

func newLauncher(opts Options, program string) *Launcher {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Launcher{opts: opts, program: program, memfd: memfdCreate}
}

// Command returns a command that becomes the token worker. The first call finds
// out which way works here, by executing the program once. Its error is
// ErrNotCarried, or a *keystore.Error that wraps keystore.ErrWorkerLost and names
// each way that was tried; the next call tries again.
func (l *Launcher) Command() (*exec.Cmd, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		switch {
		case l.broken != nil:
			return nil, l.broken
		case l.program == "":
			return nil, ErrNotCarried
		}
		if err := l.find(); err != nil {
			return nil, err
		}
		l.program = "" // the file holds it now, and memory is short beside a browser
	}
	cmd := exec.Command(l.path, ServeArgument) //nolint:gosec,noctx // the file that find compared; it outlives the call that needs it first
	cmd.Args[0] = memfdName
	return cmd, nil
}

// find sets file and path. The caller holds mu.
func (l *Launcher) find() error {
	var failed []error
	for _, w := range []struct {
		name string
		used bool
		open func() (*os.File, error)
	}{
		{"in memory", true, l.inMemory},
		{"in " + l.opts.Dir, l.opts.Dir != "", l.inDir},
		{"as " + l.opts.Helper, l.opts.Helper != "", l.helper},
	} {
		if !w.used {
			continue
		}
		file, path, err := l.prove(w.open)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s (%w)", w.name, err))
			continue
		}
		if len(failed) > 0 {
			l.opts.Log.Warn("token worker runs from a file", "where", w.name, "error", list(failed))
		}
		l.file, l.path = file, path
		return nil
	}
	return &keystore.Error{
		Op: "start", Object: "the token worker",
		Err:  fmt.Errorf("%w: this system does not execute it %w", keystore.ErrWorkerLost, list(failed)),
		Hint: "put the token-worker file of this release where only root can write and name it as token.helper_path, or allow programs in memory (sysctl vm.memfd_noexec below 2)",
	}
}

// prove opens the program one way, compares it and executes it once.
func (l *Launcher) prove(open func() (*os.File, error)) (_ *os.File, path string, err error) {
	file, err := open()
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	if err := l.compare(file); err != nil {
		return nil, "", err
	}
	// Our own number and not "self": the child arranges the descriptors that it is
	// given anew before it executes. But the child may not look into a parent that
	// is closed to tracing, only into itself, where a high number is left alone.
	for _, path := range []string{
		fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()),
		fmt.Sprintf("/proc/self/fd/%d", file.Fd()),
	} {
		if err = probe(path); err == nil {
			return file, path, nil
		}
		if !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return nil, "", err
}

// compare checks that file holds the carried program and nothing else.
func (l *Launcher) compare(file *os.File) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(file, 0, int64(len(l.program))+1))
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	want := sha256.Sum256([]byte(l.program))
	if got := h.Sum(nil); n != int64(len(l.program)) || !bytes.Equal(got, want[:]) {
		return fmt.Errorf("the file is not this release's worker (SHA-256 %x, not %x)", got[:4], want[:4])
	}
	return nil
}

// probe executes path in an empty environment.
func probe(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, ProbeArgument)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		// The dynamic loader says here which library it misses.
		return fmt.Errorf("%w: %.200q", err, out)
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err // a number under /proc tells nobody anything
	}
	return err
}

// list is several errors in one line.
type list []error

func (l list) Error() string {
	s := ""
	for i, err := range l {
		if i > 0 {
			s += ", nor "
		}
		s += err.Error()
	}
	return s
}

func (l list) Unwrap() []error { return l }
