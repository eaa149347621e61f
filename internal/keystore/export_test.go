package keystore

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// WorkerPID returns the process id of the running worker, 0 when there is none.
func WorkerPID(s *Store) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// SetFarewell changes how long a worker that was told to end may take.
func SetFarewell(o *Options, d time.Duration) { o.farewell = d }

// SetDeadlines has what begins from here on take as long. Nothing may be under way.
func SetDeadlines(s *Store, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Deadline, s.opts.StartDeadline = d, d
}

// Expire has the deadline of everything pass that the running worker was asked.
func Expire(s *Store) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	p.mu.Lock()
	for _, c := range p.pending {
		c.due = time.Now()
	}
	p.mu.Unlock()
	p.watch()
}

// Lanes returns how many lanes there are to the running worker, and how many of
// them nobody uses.
func Lanes(s *Store) (all, free int) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	if p == nil {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lanes), len(p.free)
}

// Slow says whether operations of the kind take lanes.
func Slow(s *Store, op protocol.Op) bool {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slow[op]
}

// Together has the MACs of lone callers go one way, from here on.
func Together(s *Store, together bool) {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paces[protocol.OpMAC] = pace{way: wayOf(together), left: -1 << 30}
}

// ErrEnded is errEnded.
var ErrEnded = errEnded

// CheckModule is checkModule.
var CheckModule = checkModule

// WorkerArgument is the argument of the default Launcher.
const WorkerArgument = workerArgument

// Environment is what the worker sees of all.
func Environment(o *Options, all []string) []string { return o.environment(all) }

// Explain is explain.
var Explain = explain

// Sentinels are all of them.
func Sentinels() []error {
	var all []error
	for _, k := range kinds {
		all = append(all, k.sentinel)
	}
	return all
}

// ReadAnswers has a process with requests 1 to n under way read b from its
// worker. It returns how many were answered and what ended the reading, nil for
// the end of b.
func ReadAnswers(n uint32, b []byte) (answered int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	p := &process{fd: fds[0], pending: make(map[uint32]*call), in: make([]byte, 0, 64)}
	calls := make([]*call, n)
	for i := range calls {
		calls[i] = &call{reply: make(chan reply, 1)}
		p.pending[uint32(i)+1] = calls[i] //nolint:gosec // few
	}
	go func() {
		for len(b) > 0 {
			k, err := unix.Write(fds[1], b)
			if err != nil {
				break
			}
			b = b[k:]
		}
		_ = unix.Close(fds[1])
	}()
	for err == nil {
		err = p.read()
	}
	_ = unix.Close(fds[0])
	for _, c := range calls {
		answered += len(c.reply)
	}
	if errors.Is(err, errEnded) {
		err = nil
	}
	return answered, err
}

// ReadLane has request id under way on a lane on which b arrives, and returns
// whether it was answered and what ended the reading.
func ReadLane(id uint32, b []byte) (answered bool, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	p := &process{pending: make(map[uint32]*call)}
	c := &call{reply: make(chan reply, 1)}
	p.pending[id] = c
	l := &lane{fd: fds[0], buf: make([]byte, 0, 64)}
	go func() {
		for len(b) > 0 {
			k, err := unix.Write(fds[1], b)
			if err != nil {
				break
			}
			b = b[k:]
		}
		_ = unix.Close(fds[1])
	}()
	if err = l.read(context.Background(), c); err == nil {
		err = p.take(l, id)
	}
	_ = unix.Close(fds[0])
	return len(c.reply) == 1, err
}
