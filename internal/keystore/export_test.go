package keystore

import (
	"errors"

	"golang.org/x/sys/unix"
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
