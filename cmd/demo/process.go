package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// processes are the sandbox and the agent of one demo.
type processes struct {
	s     *setup
	ended chan error // the first that ended by itself

	mu      sync.Mutex // guards what follows
	sandbox *process
	agent   *process
}

// process is a program that was started and is waited for.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
	mute bool  // it was told to end
	log  *os.File
}

func launch(name, logFile, bin string, args ...string) (*process, error) {
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: the demo's own folder
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	cmd := exec.Command(bin, args...) //nolint:gosec,noctx // G204: our own program; it is ended by stop, not by a context
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), f.Close())
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{}), log: f}
	go func() {
		p.err = cmd.Wait()
		_ = f.Close()
		close(p.done)
	}()
	return p, nil
}

// end sends a signal and waits.
func (p *process) end(sig syscall.Signal) {
	if p == nil {
		return
	}
	p.mute = true
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func start(ctx context.Context, s *setup) (*processes, error) {
	p := &processes{s: s, ended: make(chan error, 2)}
	if err := p.startSandbox(ctx); err != nil {
		p.stop()
		return nil, err
	}
	if err := p.startAgent(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *processes) startSandbox(ctx context.Context) error {
	say("starting the sandbox (it plays the three platforms on loopback)")
	addrs := p.s.path("sandbox.addr")
	_ = os.Remove(addrs)
	pr, err := launch("sandbox", p.s.path("log", "sandbox.log"), p.s.path("bin", "sandbox"),
		"--config", p.s.path("sandbox.json"), "--make-certs", p.s.path("certs"), "--addr-file", addrs)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.sandbox = pr
	p.mu.Unlock()
	p.watch(pr)
	return pr.until(ctx, 20*time.Second, func() error {
		_, err := os.Stat(addrs)
		return err
	})
}

func (p *processes) startAgent(ctx context.Context) error {
	pr, err := launch("gardu", p.s.path("log", "gardu.log"), p.s.path("bin", "gardu"), "--config", p.s.path("gardu.toml"), "run")
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.agent = pr
	p.mu.Unlock()
	p.watch(pr)
	return pr.until(ctx, 30*time.Second, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.s.Screen+"/healthz", nil)
		if err != nil {
			return err
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = r.Body.Close() }()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("healthz says %s", r.Status)
		}
		return nil
	})
}

// killAgent ends the agent as a power cut or the kernel would.
func (p *processes) killAgent() { p.agent.end(syscall.SIGKILL) }

func (p *processes) watch(pr *process) {
	go func() {
		<-pr.done
		if !pr.mute {
			p.ended <- fmt.Errorf("%s ended by itself: %w; the end of its log:\n%s", pr.name, pr.err, tail(pr.log.Name()))
		}
	}()
}

// until waits for ok, and gives up when the process has ended or time is up.
func (p *process) until(ctx context.Context, limit time.Duration, ok func() error) error {
	stop := time.After(limit)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.done:
			return fmt.Errorf("%s ended at once; the end of its log:\n%s", p.name, tail(p.log.Name()))
		case <-stop:
			return fmt.Errorf("%s is not ready after %s: %w; the end of its log:\n%s", p.name, limit, err, tail(p.log.Name()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *processes) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.agent.end(syscall.SIGTERM)
	p.sandbox.end(syscall.SIGTERM)
}

func tail(file string) string {
	b, err := os.ReadFile(file) //nolint:gosec // G304: the demo's own log
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}

// freePorts finds loopback ports that nobody has. They are chosen once and kept,
// so that the address stays the same from start to start.
func freePorts(ctx context.Context, n int) ([]string, error) {
	var ls []net.Listener
	defer func() {
		for _, l := range ls {
			_ = l.Close()
		}
	}()
	var out []string
	for range n {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		ls = append(ls, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}
