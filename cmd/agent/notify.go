package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/ui"
)

// manager is the service manager that started the program: systemd with
// Type=notify. It is told what is true of the agent and nothing else: ready when the
// screen answers, alive when screen and engine do their work. Without a manager every
// method does nothing.
//
// The protocol is that of sd_notify(3) and sd_listen_fds(3): datagrams to the socket
// that $NOTIFY_SOCKET names, and open sockets from descriptor 3 on.
type manager struct {
	socket *net.UnixAddr
	// watchdog is how long the manager waits for a sign of life; 0: for ever.
	watchdog time.Duration
	log      *slog.Logger

	mu     sync.Mutex // guards what follows
	status string
}

// newManager reads what the manager said in the environment, and takes it out of
// there: it is meant for this process and for none that it starts.
func newManager(log *slog.Logger) *manager {
	m := &manager{log: log}
	if name := os.Getenv("NOTIFY_SOCKET"); name != "" {
		m.socket = &net.UnixAddr{Name: name, Net: "unixgram"} // a leading @ is the abstract name space, also for Go
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name)
	}
	return m
}

// tell sends assignments such as READY=1. A manager that cannot be reached has its
// own timeouts; the agent goes on.
func (m *manager) tell(assignments ...string) {
	if m == nil || m.socket == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, m.socket)
	if err == nil {
		_, err = c.Write([]byte(strings.Join(assignments, "\n")))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		m.log.Warn("service manager not told", "error", err)
	}
}

// setStatus says in one line how the agent is; 'systemctl status gardu' shows it.
func (m *manager) setStatus(text string) {
	if m == nil {
		return
	}
	text = strings.ReplaceAll(text, "\n", " ")
	m.mu.Lock()
	changed := m.status != text
	m.status = text
	m.mu.Unlock()
	if changed {
		m.tell("STATUS=" + text)
	}
}

// firstInherited is the first descriptor that a manager passes.
const firstInherited = 3

// inheritedListener is the screen's socket where the manager opened it: it stays
// open while the agent restarts, and who comes then waits instead of being refused.
// It returns nil where no socket was passed. The socket must be the one that the
// configuration names.
func inheritedListener(want string) (net.Listener, error) {
	l, err := inherited("gardu.socket")
	if l == nil || err != nil {
		return nil, err
	}
	if got := l.Addr().String(); got != want {
		_ = l.Close()
		return nil, fmt.Errorf("gardu.socket listens on %s and screen.listen is %s; make them the same: 'systemctl edit gardu.socket' with ListenStream= and ListenStream=%s under [Socket]", got, want, want)
	}
	return l, nil
}

// inherited is the one socket that the manager has opened for a unit, nil where there
// is none.
func inherited(unit string) (net.Listener, error) {
	count, pid := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID")
	for _, name := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	if count != "1" {
		return nil, fmt.Errorf("%s passes %s sockets instead of one; take the added ListenStream= out of its drop-ins in /etc/systemd/system/%s.d", unit, count, unit)
	}
	unix.CloseOnExec(firstInherited)
	f := os.NewFile(firstInherited, unit)
	l, err := net.FileListener(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("take the socket that %s passes: %w; it must be of the kind that ListenStream= opens", unit, err)
	}
	return l, nil
}

// setHealth tells screen and manager whether the kiosk can serve.
func (ag *agent) setHealth(h ui.Health) {
	ag.mu.Lock()
	ag.health = h
	ag.mu.Unlock()
	ag.screen.SetHealth(h)
	if h.OK {
		ag.manager.setStatus("in service")
		return
	}
	ag.manager.setStatus("out of service: " + h.Reason + "; " + h.Hint)
}

// supervise tells the manager what it needs to know until ctx ends: that the screen
// is served, signs of life, what is reloaded at SIGHUP, and that the end has come.
func (ag *agent) supervise(ctx context.Context) error {
	m := ag.manager
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	const patience = 10 * time.Second
	every := patience
	if m.watchdog > 0 {
		every = m.watchdog / 3
	}
	// The manager is not told ready before the screen has answered once.
	for ag.screenAnswers(ctx, patience) != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
	m.tell("READY=1")
	t := time.NewTicker(every)
	defer t.Stop()
	well := true
	for {
		select {
		case <-ctx.Done():
			m.tell("STOPPING=1", "STATUS=stopping; calls under way may finish")
			return nil
		case <-reload:
			ag.reload()
		case <-t.C:
			if m.watchdog == 0 {
				continue // nobody waits for it
			}
			err := ag.alive(ctx, every)
			if ctx.Err() != nil {
				continue
			}
			if err == nil {
				m.tell("WATCHDOG=1")
			} else if well {
				ag.log.Error("the agent gives no sign of life to the service manager, which will restart it", "error", err)
			}
			well = err == nil
		}
	}
}

// alive reports an error where the screen's server, the desk behind it or the
// engine's loop does not answer in time. A token, a journal or a link that does not
// work is none: they are not mended by a restart.
func (ag *agent) alive(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ag.screenAnswers(ctx, limit); err != nil {
		return fmt.Errorf("ask the screen: %w", err)
	}
	if e := ag.serving(); e != nil {
		return e.Beat(ctx)
	}
	return nil
}

// screenAnswers asks for the screen's health as a browser would, over the loopback
// interface and through the desk. That it is well is not asked.
func (ag *agent) screenAnswers(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ag.screen.Addr()+"/healthz", nil)
	if err != nil {
		return err
	}
	// A connection of its own each time: the accepting is a part of what is asked. The
	// environment's proxy is not for this machine itself.
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return err
	}
	return r.Body.Close()
}

// reload reads the staff file and the operators' file again, so that people come and
// go without a restart. A file that cannot be used changes nothing.
func (ag *agent) reload() {
	m := ag.manager
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
	defer m.tell("READY=1")
	if ag.staff == nil && ag.console == nil {
		ag.log.Info("nothing to reload: neither a staff file nor an operators' file is configured; other settings need 'systemctl restart gardu'")
	}
	if ag.console != nil {
		ag.console.reload()
	}
	if ag.staff == nil {
		return
	}
	fresh, err := readStaff(ag.set.Screen.Staff, ag.log)
	if err != nil {
		ag.log.Error("staff file not taken; the staff of before stay", "error", err)
		return
	}
	ag.staff.replace(fresh)
	ag.log.Info("staff file read again", "staff", len(fresh.staff))
}
