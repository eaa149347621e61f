package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"gardu/cmd/crash/booth"
)

// boothVerb is the command line by which this program becomes a booth.
const boothVerb = "booth"

// life is one booth from its start to its end.
type life struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	book  *book
	news  func(*life, *request) // hears of every change, in the reader's goroutine; must not block
	rows  []booth.Event         // of the reader until ready is closed
	ready chan struct{}         // closed when the journal has been read
	over  chan struct{}         // closed when it has ended and everything it said was read

	err    error  // of the process; set before over is closed
	failed string // why it did not start; likewise
	serves bool   // it was ready; likewise

	mu      sync.Mutex // guards what follows
	inShut  bool
	answers map[string]chan struct{} // closed when a request's asking was answered
}

// begin starts a booth. wrap goes before its command line (strace, for example).
func begin(b *book, config, log string, news func(*life, *request), wrap ...string) (*life, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: the campaign's own folder
	if err != nil {
		return nil, fmt.Errorf("open the booth's log: %w", err)
	}
	defer func() { _ = f.Close() }()
	line := slices.Concat(wrap, []string{self, boothVerb, config})
	cmd := exec.Command(line[0], line[1:]...) //nolint:gosec,noctx // G204: this program; it is ended by end
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a booth: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a booth: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a booth: %w", err)
	}
	l := &life{
		cmd: cmd, in: in, book: b, news: news,
		ready: make(chan struct{}), over: make(chan struct{}), answers: map[string]chan struct{}{},
	}
	go func() {
		defer close(l.over)
		l.read(out)
		l.err = cmd.Wait()
	}()
	return l, nil
}

func (l *life) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var e booth.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			continue // the last line of a booth that was killed in the middle of it
		}
		switch e.Event {
		case booth.SaidRow:
			l.rows = append(l.rows, e)
		case booth.SaidReady:
			l.book.found(l.rows)
			if e.Why != "" {
				l.book.put(&l.book.behind, e.Why)
			}
			l.serves = true
			close(l.ready)
		case booth.SaidFailed:
			l.failed = e.Why
		default:
			if r := l.book.said(e); r != nil && e.Event == booth.SaidChange {
				l.news(l, r)
			}
			if e.Event != booth.SaidChange {
				l.answered(e.Key)
			}
		}
	}
}

func (l *life) answered(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ch := l.answers[key]; ch != nil {
		close(ch)
		delete(l.answers, key)
	}
}

var errOver = errors.New("the booth has ended")

func (l *life) send(c booth.Command) error {
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write a command: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inShut {
		return errOver
	}
	if _, err := l.in.Write(append(b, '\n')); err != nil {
		return errOver
	}
	return nil
}

// ask asks for a request and waits for the answer.
func (l *life) ask(r *request) error {
	ch := make(chan struct{})
	l.mu.Lock()
	l.answers[r.Key] = ch
	l.mu.Unlock()
	l.book.asking(r)
	if err := l.send(booth.Command{Do: booth.DoAsk, Key: r.Key, Operation: r.Operation, Fields: r.Fields, Secret: r.PIN}); err != nil {
		return err
	}
	select {
	case <-ch:
		return nil
	case <-l.over:
		return errOver
	}
}

// kill ends the booth as kill -9 does and waits until everything it said is read.
func (l *life) kill() {
	_ = l.cmd.Process.Kill()
	<-l.over
	_ = l.close()
}

func (l *life) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inShut = true
	return l.in.Close()
}

// stop ends the booth in order.
func (l *life) stop(limit time.Duration) error {
	_ = l.close()
	select {
	case <-l.over:
		return l.err
	case <-time.After(limit):
		l.kill()
		return fmt.Errorf("the booth did not end within %s", limit)
	}
}

// waitReady waits until the journal has been read.
func (l *life) waitReady(ctx context.Context, limit time.Duration) error {
	select {
	case <-l.ready:
		return nil
	case <-l.over:
		if l.serves {
			return nil // and has been killed since
		}
		if l.failed != "" {
			return errors.New(l.failed)
		}
		return fmt.Errorf("the booth ended before it had read its journal: %w", l.err)
	case <-time.After(limit):
		return fmt.Errorf("the journal was not read within %s", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}
