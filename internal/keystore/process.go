package keystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// errUnsent marks a request that no worker has seen.
var errUnsent = errors.New("not sent")

// farewell is how long a worker that was told to end may take.
const farewell = 2 * time.Second

// process is one running worker and the socket to it. Requests are numbered and
// may be under way together. It ends once: by a deadline, by a malformed answer,
// by its own death or by being told; every call under way is then answered.
type process struct {
	gen     uint64 // counts the starts of a Store
	fd      int
	cmd     *exec.Cmd
	log     *slog.Logger
	started time.Time
	token   protocol.Token
	ended   chan struct{} // closed when the process is gone

	mu      sync.Mutex // guards the fields below
	pending map[uint32]*call
	next    uint32
	err     error // why it takes no more calls
	leaving bool  // told to end when nothing is under way

	wmu    sync.Mutex // guards writes to fd, out and closed
	out    []byte
	closed bool
}

type call struct {
	reply chan reply // holds one
	timer *time.Timer
}

type reply struct {
	status uint8
	body   []byte
	err    error
}

// launch starts cmd with one end of a socket pair. Both ends block: a round trip
// through the runtime's poller takes half as long again.
func launch(cmd *exec.Cmd, gen uint64, log *slog.Logger) (*process, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: socket pair: %w", ErrWorkerLost, err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "worker socket")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdin, cmd.Stdout = nil, nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{
		gen: gen, fd: fds[0], cmd: cmd, log: log, started: time.Now(),
		pending: make(map[uint32]*call), ended: make(chan struct{}),
	}
	up := make(chan error, 1)
	go p.run(up, theirs)
	if err := <-up; err != nil {
		return nil, fmt.Errorf("%w: start worker: %w", ErrWorkerLost, err)
	}
	return p, nil
}

// run starts the process and reads its answers until it is gone. The thread
// stays with it all the time: the kernel sends the death signal when the thread
// that started the process ends, not when the program does.
func (p *process) run(up chan<- error, theirs *os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	err := p.cmd.Start()
	_ = theirs.Close()
	up <- err
	if err != nil {
		_ = unix.Close(p.fd)
		return
	}
	why := p.read()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if why == nil {
		why = fmt.Errorf("%w: %s", ErrWorkerLost, p.cmd.ProcessState)
	} else {
		why = fmt.Errorf("%w: %w (%s)", ErrWorkerLost, why, p.cmd.ProcessState)
	}
	told := p.end(why, 0, nil)
	p.wmu.Lock()
	p.closed = true
	_ = unix.Close(p.fd)
	p.wmu.Unlock()
	if !told {
		p.log.Warn("token worker ended", "error", why, "uptime", time.Since(p.started).Round(time.Millisecond))
	}
}

// read delivers answers until the socket ends (nil) or says something that is
// no answer.
func (p *process) read() error {
	buf := make([]byte, 16<<10)
	n := 0
	for {
		m, err := unix.Read(p.fd, buf[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET):
			return nil
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case m == 0:
			return nil
		}
		n += m
		used := 0
		for {
			f, ok, err := protocol.Next(buf[used:n])
			if err != nil {
				return err
			}
			if !ok {
				if f.Size > len(buf) {
					larger := make([]byte, f.Size)
					copy(larger, buf[:n])
					clear(buf)
					buf = larger
				}
				break
			}
			if err := p.deliver(f); err != nil {
				return err
			}
			used += f.Size
		}
		rest := copy(buf, buf[used:n])
		clear(buf[rest:n]) // a plaintext may have been in it
		n = rest
	}
}

func (p *process) deliver(f protocol.Frame) error {
	if f.Code != protocol.StatusOK && f.Code != protocol.StatusFailed {
		return fmt.Errorf("%w: status %d", protocol.ErrFrame, f.Code)
	}
	p.mu.Lock()
	c := p.pending[f.ID]
	delete(p.pending, f.ID)
	idle := p.leaving && len(p.pending) == 0
	p.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%w: an answer to request %d, which is not under way", protocol.ErrFrame, f.ID)
	}
	c.timer.Stop()
	c.reply <- reply{status: f.Code, body: append([]byte(nil), f.Body...)}
	if idle {
		_ = unix.Shutdown(p.fd, unix.SHUT_WR)
	}
	return nil
}

// roundTrip sends one request and waits for its answer. When deadline passes the
// worker is killed, and every other call under way fails with ErrWorkerLost. When
// ctx ends first only this caller leaves; the deadline stays in force.
func (p *process) roundTrip(ctx context.Context, op protocol.Op, deadline time.Duration, body func([]byte) []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := &call{reply: make(chan reply, 1)}
	p.mu.Lock()
	if p.err != nil {
		defer p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errUnsent, p.err)
	}
	p.next++
	id := p.next
	c.timer = time.AfterFunc(deadline, func() {
		p.log.Warn("token worker killed: no answer in time", "deadline", deadline)
		p.end(fmt.Errorf("%w: another request did not end within %v", ErrWorkerLost, deadline),
			id, fmt.Errorf("%w: %v", ErrTimeout, deadline))
	})
	p.pending[id] = c
	p.mu.Unlock()

	if err := p.send(protocol.Head{ID: id, Code: op}, body); err != nil {
		if errors.Is(err, protocol.ErrFrame) { // too large, and nothing was sent
			p.mu.Lock()
			delete(p.pending, id)
			p.mu.Unlock()
			c.timer.Stop()
			return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		// The reader finds out why, and answers this call with the others.
		_ = p.cmd.Process.Kill()
	}
	select {
	case r := <-c.reply:
		body, err := r.open()
		if errors.Is(err, protocol.ErrFrame) {
			p.end(err, 0, nil)
		}
		return body, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r reply) open() ([]byte, error) {
	if r.err != nil || r.status == protocol.StatusOK {
		return r.body, r.err
	}
	var f protocol.Failure
	if err := f.Parse(r.body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWorkerLost, err)
	}
	return nil, &f
}

// send writes one frame in one call.
func (p *process) send(h protocol.Head, body func([]byte) []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.closed {
		return unix.EPIPE
	}
	p.out = body(protocol.Begin(p.out[:0], h))
	defer clear(p.out)
	if err := protocol.Finish(p.out, 0); err != nil {
		return err
	}
	for b := p.out; len(b) > 0; {
		n, err := unix.Write(p.fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// end kills the process and answers every call under way with err, but the one
// numbered id with its own. It reports whether the process was ended before.
func (p *process) end(err error, id uint32, own error) (before bool) {
	p.mu.Lock()
	before = p.err != nil
	if !before {
		p.err = err
	}
	calls := p.pending
	p.pending = make(map[uint32]*call)
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	for n, c := range calls {
		c.timer.Stop()
		if n == id && own != nil {
			c.reply <- reply{err: own}
		} else {
			c.reply <- reply{err: err}
		}
	}
	return before
}

// leave lets the calls under way finish and then ends the process, by force
// after farewell.
func (p *process) leave() {
	p.mu.Lock()
	if p.err == nil {
		p.err = fmt.Errorf("%w: it is being replaced", ErrWorkerLost)
	}
	first := !p.leaving
	p.leaving = true
	idle := len(p.pending) == 0
	p.mu.Unlock()
	if !first {
		return
	}
	if idle {
		_ = p.shutdown()
	}
	time.AfterFunc(farewell, func() { _ = p.cmd.Process.Kill() })
}

// shutdown tells the worker that nothing more will come.
func (p *process) shutdown() error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.closed {
		return nil
	}
	return unix.Shutdown(p.fd, unix.SHUT_WR)
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil
}
