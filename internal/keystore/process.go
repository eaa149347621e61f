package keystore

import (
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

// farewell is how long a worker that was told to end may take, unless Options say otherwise.
const farewell = 2 * time.Second

// lookUp is how long the leader may be deaf to its own context.
const lookUp = 10 * time.Millisecond

// roomOut is the room for what is to be written. Secrets pass through it, so it is
// large enough not to grow: a buffer that grows leaves a copy behind.
const roomOut = 16 << 10

// process is one running worker and the socket to it. It ends once: by a
// deadline, by a malformed answer, by its own death or by being told; every call
// under way is then answered.
type process struct {
	gen     uint64        // counts the starts of a Store
	grace   time.Duration // from being told to end to being killed
	fd      int           // the common socket
	lanes   []*lane       // changed by nobody
	cmd     *exec.Cmd
	log     *slog.Logger
	started time.Time
	token   protocol.Token
	ended   chan struct{} // closed when the process is gone
	words   words         // of its standard error

	mu       sync.Mutex // guards the fields below
	pending  map[uint32]*call
	next     uint32
	err      error // why it takes no more calls
	foreign  error // what it said that is no answer
	paces    [pacedOps]pace
	slow     [pacedOps]bool // the operations for a lane, by the last of the kind
	free     []*lane        // of lanes, those that nobody uses; the last is taken first
	gone     bool           // lanes are closed when they are free
	leaving  bool           // told to end when nothing is under way
	timer    *time.Timer    // calls watch
	watching time.Time      // when it does; zero when it does not

	wmu     sync.Mutex // guards the fields below
	out     []byte     // what is to be written
	spare   []byte     // the buffer that is not out
	writing bool       // somebody writes to fd, and will write what stands in out
	closed  bool

	lead chan struct{} // holds one: who put it there is the leader, and reads; it guards the fields below
	in   []byte        // what was read and is no whole frame yet
}

// launch starts cmd with the ends of socket pairs, of the common one and of lanes.
// Both ends block: a round trip through the runtime's poller takes half as long again.
func launch(cmd *exec.Cmd, gen uint64, o *Options) (*process, error) {
	ours, theirs, err := openSockets(1 + o.lanes())
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = theirs
	cmd.Stdin, cmd.Stdout = nil, nil
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{
		gen: gen, grace: o.farewell, fd: ours[0], cmd: cmd, log: o.Log, started: time.Now(),
		words: words{log: o.Log}, pending: make(map[uint32]*call), ended: make(chan struct{}),
		out: make([]byte, 0, roomOut), spare: make([]byte, 0, roomOut), lead: make(chan struct{}, 1), in: make([]byte, 0, 16<<10),
	}
	for _, fd := range ours[1:] {
		l := newLane(fd)
		p.lanes, p.free = append(p.lanes, l), append(p.free, l)
	}
	up := make(chan error, 1)
	go p.run(up, theirs)
	if err := <-up; err != nil {
		return nil, &Error{Op: "start", Object: "token worker", Err: fmt.Errorf("%w: %w", ErrWorkerLost, err),
			Hint: "reinstall gardu if its program file is damaged, and check that its folder is not mounted noexec"}
	}
	return p, nil
}

// openSockets makes n pairs of sockets. Reads of ours return now and then, to look up.
func openSockets(n int) (ours []int, theirs []*os.File, err error) {
	look := unix.NsecToTimeval(lookUp.Nanoseconds())
	for range n {
		var fds [2]int
		if fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			break
		}
		ours, theirs = append(ours, fds[0]), append(theirs, os.NewFile(uintptr(fds[1]), "worker socket"))
		if err = unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &look); err != nil {
			break
		}
	}
	if err == nil {
		return ours, theirs, nil
	}
	for _, fd := range ours {
		_ = unix.Close(fd)
	}
	closeAll(theirs)
	return nil, nil, fmt.Errorf("%w: socket pair: %w", ErrWorkerLost, err)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// run starts the process and stays until it is gone. The thread stays with it
// all the time: the kernel sends the death signal when the thread that started
// the process ends, not when the program does.
func (p *process) run(up chan<- error, theirs []*os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.ended)
	defer p.release()
	heard, spoken, err := p.hear()
	if err == nil {
		err = p.cmd.Start()
	}
	closeAll(theirs)
	if spoken != nil {
		_ = spoken.Close()
	}
	stop := p.listenTo(heard)
	up <- err
	if err != nil {
		stop()
		return
	}
	_ = p.cmd.Wait()
	stop()
	p.mu.Lock()
	why := fmt.Errorf("%w: %s", ErrWorkerLost, p.cmd.ProcessState)
	if p.foreign != nil {
		why = fmt.Errorf("%w: %w (%s)", ErrWorkerLost, p.foreign, p.cmd.ProcessState)
	}
	p.mu.Unlock()
	if told := p.end(why, nil); !told {
		p.log.Warn("token worker ended", "error", why, "uptime", time.Since(p.started).Round(time.Millisecond))
	}
}

// release closes the descriptors once nobody can use them any more: a number
// that is used after it was closed may already be another file's.
func (p *process) release() {
	_ = unix.Shutdown(p.fd, unix.SHUT_RDWR)
	p.closeLanes()
	p.lead <- struct{}{} // for good
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.closed = true
	if !p.writing { // else that one does it, at once: the socket is shut
		_ = unix.Close(p.fd)
	}
}

// end kills the process and answers every call under way: the late ones with
// ErrTimeout, the others with err. It reports whether the process was ended before.
func (p *process) end(err error, late map[uint32]bool) (before bool) {
	p.mu.Lock()
	before = p.err != nil
	if !before {
		p.err = err
	}
	calls := p.pending
	p.pending = make(map[uint32]*call)
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	for id, c := range calls {
		if late[id] {
			c.reply <- reply{err: ErrTimeout}
		} else {
			c.reply <- reply{err: err}
		}
	}
	return before
}

// expel ends a process that says what is no answer; run finishes the work.
func (p *process) expel(err error) {
	p.mu.Lock()
	if p.foreign == nil {
		p.foreign = err
	}
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
}

// leave lets the calls under way finish and then ends the process, by force
// after grace.
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
	time.AfterFunc(p.grace, func() { _ = p.cmd.Process.Kill() })
	if idle {
		p.farewell()
	}
}

// farewell tells the worker that nothing more will come.
func (p *process) farewell() {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if !p.closed {
		_ = unix.Shutdown(p.fd, unix.SHUT_WR)
	}
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil
}

// errEnded is the end of the socket.
var errEnded = errors.New("the socket was closed")
