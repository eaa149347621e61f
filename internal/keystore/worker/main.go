// Package worker is the process that touches the token: it loads the vendor's
// PKCS#11 module, logs in once and carries out whole operations that a keystore
// asks for over sockets (package protocol).
//
// It is a process of its own because a vendor's module may crash or hang, and
// because a static program cannot load one. It trusts its parent, which started
// it and holds the other ends of the sockets, and nobody else: it takes no
// commands from anywhere else, leaves no core dump, cannot be traced by its own
// user, and ends with its parent. The token's PIN reaches it once, over the
// socket, and is cleared after C_Login; the copy that crosses into C is freed
// but not cleared there.
//
// This is the only package that needs cgo. Its rules towards a module come from
// modules that were seen to break without them: one-shot operations only, one
// session per call, a session that saw an error is never used again, one idle
// session stays open for life (closing the last one logs out), attributes are
// asked one at a time, and the module is never unloaded.
package worker

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// Argument is the command line word that starts the program as a token worker.
const Argument = "token-worker"

// FD is the file descriptor on which the parent hands over its end of the common
// socket; those of the lanes follow.
const FD = 3

// processName is what ps shows; the kernel keeps 15 bytes.
const processName = "gardu-token"

// finalizeLimit bounds the farewell to the module: the parent is gone, and a
// module that hangs must not keep the process.
const finalizeLimit = 500 * time.Millisecond

// Main serves the socket that the parent handed over until the parent closes
// it, and returns the exit code. A program calls it instead of everything else
// when its only argument is Argument.
func Main() int {
	// The terminal and systemd signal the whole group at once, while the parent
	// may still need the token to finish what it began; the end of the socket is
	// the only signal that counts.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	if err := harden(); err != nil {
		fmt.Fprintln(os.Stderr, "token worker:", err)
		return 1
	}
	// A thread that waits in a read or in the module keeps its place in Go's
	// scheduler for a while, and must find one when it comes back.
	runtime.GOMAXPROCS(runtime.NumCPU() + 1 + protocol.MaxLanes)
	if err := Serve(FD); err != nil {
		fmt.Fprintln(os.Stderr, "token worker:", err)
		return 1
	}
	return 0
}

// giveWay makes this process one that the kernel ends before its parent when memory is
// short. A service that is spared hands that on to what it starts, and then a module
// that leaks would cost the agent. Where it cannot be changed nothing is lost but that.
func giveWay(path string) {
	b, err := os.ReadFile(path) //nolint:gosec // a file of the kernel's
	if err != nil {
		return
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n < 0 {
		_ = os.WriteFile(path, []byte("0"), 0)
	}
}

func harden() error {
	// The name goes first: a process that is not dumpable may not write its own comm.
	if err := os.WriteFile("/proc/self/comm", []byte(processName), 0); err != nil {
		return fmt.Errorf("set process name: %w", err)
	}
	giveWay("/proc/self/oom_score_adj")
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	// What the module starts in turn must not hold the sockets open.
	for i := range 1 + protocol.MaxLanes {
		unix.CloseOnExec(FD + i)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid tracing: %w", err)
	}
	if !isSocket(FD) {
		return errors.New("this command is started by gardu itself, never by hand")
	}
	return nil
}

// Serve answers the requests that arrive on the blocking stream socket fd until
// it is closed at the other end (nil) or something arrives that is not this
// protocol (an error wrapping protocol.ErrFrame).
func Serve(fd int) error {
	s := newServer(fd)
	go s.loop()
	err := <-s.done
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.using.Lock() // for good
		if s.tok != nil {
			_ = s.tok.ctx.Finalize()
		}
	}()
	select {
	case <-done:
	case <-time.After(finalizeLimit):
	}
	return err
}
