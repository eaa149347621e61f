package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Processes are the sandbox and the agent of one stage.
type Processes struct {
	s     *Stage
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
	log  *os.File

	mu   sync.Mutex // guards what follows
	mute bool       // it was told to end
}

func launch(name, logFile, bin string, args ...string) (*process, error) {
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: the stage's own folder
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	cmd := exec.Command(bin, args...) //nolint:gosec,noctx // G204: our own program; it is ended by end, not by a context
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
	p.mu.Lock()
	p.mute = true
	p.mu.Unlock()
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *process) muted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute
}

// Start starts both and waits until they serve.
func (s *Stage) Start(ctx context.Context) (*Processes, error) {
	p, err := s.StartSandbox(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.StartAgent(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// StartSandbox starts the platforms alone and waits until they listen.
func (s *Stage) StartSandbox(ctx context.Context) (*Processes, error) {
	s.say("starting the sandbox (it plays the three platforms on loopback)")
	addrs := s.Path("sandbox.addr")
	_ = os.Remove(addrs)
	p := &Processes{s: s, ended: make(chan error, 2)}
	pr, err := launch("sandbox", s.Path("log", "sandbox.log"), s.Path("bin", "sandbox"),
		"--config", s.Path("sandbox.json"), "--make-certs", s.Path("certs"), "--addr-file", addrs)
	if err != nil {
		return nil, err
	}
	p.sandbox = pr
	p.watch(pr)
	if err := pr.until(ctx, 20*time.Second, func() error {
		_, err := os.Stat(addrs)
		return err
	}); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// StartAgent starts the agent and waits until it is in service.
func (p *Processes) StartAgent(ctx context.Context) error {
	pr, err := launch("gardu", p.s.Path("log", "gardu.log"), p.s.Path("bin", "gardu"), "--config", p.s.Path("gardu.toml"), "run")
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

// Ended delivers what became of a program that ended by itself.
func (p *Processes) Ended() <-chan error { return p.ended }

// KillAgent ends the agent as a power cut or the kernel would.
func (p *Processes) KillAgent() { p.endAgent(syscall.SIGKILL) }

// StopAgent ends the agent as the service manager would.
func (p *Processes) StopAgent() { p.endAgent(syscall.SIGTERM) }

func (p *Processes) endAgent(sig syscall.Signal) {
	p.mu.Lock()
	a := p.agent
	p.mu.Unlock()
	a.end(sig)
}

func (p *Processes) watch(pr *process) {
	go func() {
		<-pr.done
		if pr.muted() {
			return
		}
		select {
		case p.ended <- fmt.Errorf("%s ended by itself: %w; the end of its log:\n%s", pr.name, pr.err, tail(pr.log.Name())):
		default:
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
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends both as the service manager would.
func (p *Processes) Stop() {
	p.StopAgent()
	p.sandbox.end(syscall.SIGTERM)
}

func tail(file string) string {
	b, err := os.ReadFile(file) //nolint:gosec // G304: the stage's own log
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
