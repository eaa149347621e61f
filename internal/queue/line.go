package queue

import (
	"context"
	"sync"
)

// op is one caller's wish in the line before the writer.
type op struct {
	// apply makes the change inside the transaction, in the goroutine of whoever writes. An
	// error means that it changed nothing, and is that caller's answer alone.
	apply func(*batch) error
	// settle is called once, as soon as it is known whether the change is on disk.
	// May be nil.
	settle func(stored bool)

	done chan struct{} // closed when err stands
	err  error
}

func (o *op) settled(stored bool) {
	if o.settle != nil {
		o.settle(stored)
		o.settle = nil
	}
}

func (o *op) answer(err error) {
	o.err = err
	close(o.done)
}

func (o *op) answered() bool {
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// line is where callers wait until the writer takes them, all at once, into one
// commit.
type line struct {
	wake chan struct{} // a token in it: somebody waits, or the line closed

	// serve has the caller commit what waits, where nobody else does: to change
	// goroutines twice costs more than to seal a record.
	serve func(answered func() bool)

	mu      sync.Mutex // guards what follows
	waiting []*op
	closed  bool
}

func newLine() *line { return &line{wake: make(chan struct{}, 1)} }

func (l *line) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// do waits for o's answer. A ctx that ends while o is still in the line takes it
// out: it was not stored. Once the writer has it, the answer is waited for.
func (l *line) do(ctx context.Context, o *op) error {
	o.done = make(chan struct{})
	if err := l.join(ctx, o); err != nil {
		o.settled(false)
		return err
	}
	l.serve(o.answered)
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if l.leave(o) {
		o.settled(false)
		return ctx.Err()
	}
	<-o.done
	return o.err
}

func (l *line) join(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.waiting = append(l.waiting, o)
	return nil
}

// leave reports whether o was still waiting.
func (l *line) leave(o *op) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		if w == o {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (l *line) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) == 0
}

// take removes up to n from the head of the line.
func (l *line) take(n int) (ops []*op, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.waiting))
	ops = append(ops, l.waiting[:n]...)
	rest := copy(l.waiting, l.waiting[n:])
	clear(l.waiting[rest:])
	l.waiting = l.waiting[:rest]
	return ops, l.closed
}

// close lets nobody in any more.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ring()
}
