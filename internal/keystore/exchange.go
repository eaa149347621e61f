package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// Requests are numbered and may be under way together; see lane for those that the
// token takes long for. For the others, on the common socket: There is no goroutine
// that reads the answers: of those who wait, one is the leader and reads, for
// itself and the others, until its own answer is there; then another leads. A
// lone caller so reads its own answer, which saves waking one goroutine by
// another, more than a third of a round trip.

// errUnsent marks a request that no worker has seen.
var errUnsent = errors.New("not sent")

type call struct {
	op    protocol.Op
	reply chan reply // holds one
	due   time.Time  // when the worker must have answered
}

type reply struct {
	status uint8
	body   []byte
	err    error
}

// roundTrip sends one request and waits for its answer. When deadline passes the
// worker is killed, and every other call under way fails with ErrWorkerLost. When
// ctx ends first only this caller leaves; the deadline stays in force.
func (p *process) roundTrip(ctx context.Context, op protocol.Op, deadline time.Duration, body func([]byte) []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	began := time.Now()
	c := &call{op: op, reply: make(chan reply, 1), due: began.Add(deadline)}
	p.mu.Lock()
	if p.err != nil {
		defer p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errUnsent, p.err)
	}
	p.next++
	id := p.next
	p.pending[id] = c
	l := p.laneFor(op)
	paced := l == nil && worthwhile && int(op) < pacedOps && len(p.pending) == 1
	together := paced && p.paces[op].together()
	p.watchUntil(c.due)
	p.mu.Unlock()

	head := protocol.Head{ID: id, Code: op}
	if l != nil {
		return p.ride(ctx, l, head, c, body)
	}
	if together {
		// Both stay, or the kernel moves whoever is woken to an idle processor.
		var seat protocol.Seat
		if cpu := protocol.Processor(); seat.Take(cpu) {
			defer seat.Take(protocol.Anywhere)
			head.Code |= protocol.Here
			message := body
			body = func(b []byte) []byte { return message(protocol.AppendProcessor(b, uint16(cpu))) } //nolint:gosec // few
		}
	}
	if err := p.send(head, body); err != nil {
		if errors.Is(err, protocol.ErrFrame) { // too large, and nothing was sent
			p.settle(id)
			return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
		// run finds out why, and answers this call with the others.
		_ = p.cmd.Process.Kill()
	}
	lead := p.lead
	for {
		select {
		case r := <-c.reply:
			if paced && r.err == nil {
				p.mu.Lock()
				p.paces[op].took(together, time.Since(began))
				p.mu.Unlock()
			}
			return p.open(r)
		case <-ctx.Done():
			return nil, ctx.Err()
		case lead <- struct{}{}:
			if err := p.readFor(ctx, c); err != nil {
				p.expel(err)
				lead = nil // nothing more will be read; run answers
			}
			<-p.lead
		}
	}
}

func (p *process) open(r reply) ([]byte, error) {
	if r.err != nil || r.status == protocol.StatusOK {
		return r.body, r.err
	}
	var f protocol.Failure
	if err := f.Parse(r.body); err != nil {
		p.expel(err)
		return nil, fmt.Errorf("%w: %w", ErrWorkerLost, err)
	}
	return nil, &f
}

// watchUntil has watch called at due, if nothing calls it before: one timer for
// all requests, which is set anew once per deadline and not once per request. The
// caller holds mu.
func (p *process) watchUntil(due time.Time) {
	if !p.watching.IsZero() && !due.Before(p.watching) {
		return
	}
	p.watching = due
	if p.timer == nil {
		p.timer = time.AfterFunc(time.Until(due), p.watch)
	} else {
		p.timer.Reset(time.Until(due))
	}
}

// watch kills a worker that has not answered in time. A request whose answer is
// there and whose caller has left does not count.
func (p *process) watch() {
	select {
	case p.lead <- struct{}{}:
		if err := p.readReady(); err != nil {
			p.expel(err)
		}
		<-p.lead
	default: // somebody reads
	}
	now := time.Now()
	late := make(map[uint32]bool)
	p.mu.Lock()
	p.watching = time.Time{}
	for id, c := range p.pending {
		if c.due.After(now) {
			p.watchUntil(c.due)
		} else {
			late[id] = true
		}
	}
	p.mu.Unlock()
	if len(late) > 0 {
		p.log.Warn("token worker killed: no answer in time", "requests", len(late))
		p.end(fmt.Errorf("%w: another request was not answered in time", ErrWorkerLost), late)
	}
}

// send writes one frame. Whoever finds another writing leaves the frame to that
// one, which writes all that has come together in one piece.
func (p *process) send(h protocol.Head, body func([]byte) []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.closed {
		return unix.EPIPE
	}
	at := len(p.out)
	p.out = body(protocol.Begin(p.out, h))
	if err := protocol.Finish(p.out, at); err != nil {
		clear(p.out[at:])
		p.out = p.out[:at]
		return err
	}
	if p.writing {
		return nil
	}
	p.writing = true
	defer func() {
		p.writing = false
		if p.closed {
			_ = unix.Close(p.fd)
		}
	}()
	for len(p.out) > 0 && !p.closed {
		b := p.out
		p.out = p.spare[:0]
		p.wmu.Unlock()
		err := writeAll(p.fd, b)
		clear(b) // a PIN or a plaintext may be in it
		p.wmu.Lock()
		p.spare = b
		if err != nil {
			return err
		}
	}
	return nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
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

// readFor reads until c is answered or ctx ends. The caller is the leader.
func (p *process) readFor(ctx context.Context, c *call) error {
	for len(c.reply) == 0 && ctx.Err() == nil {
		if err := p.read(); err != nil {
			return err
		}
	}
	return nil
}

// readReady reads what is there without waiting. The caller is the leader.
func (p *process) readReady() error {
	for {
		ready := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}} //nolint:gosec // a file descriptor
		n, err := unix.Poll(ready, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		if err := p.read(); err != nil {
			return err
		}
	}
}

// read makes one read and delivers the answers that are complete with it. The
// caller is the leader.
func (p *process) read() error {
	n, err := unix.Read(p.fd, p.in[len(p.in):cap(p.in)])
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return nil
	case n == 0, errors.Is(err, unix.ECONNRESET):
		return errEnded
	case err != nil:
		return fmt.Errorf("read: %w", err)
	}
	p.in = p.in[:len(p.in)+n]
	used := 0
	for {
		f, ok, err := protocol.Next(p.in[used:])
		if err != nil {
			return err
		}
		if !ok {
			if f.Size > cap(p.in) {
				larger := append(make([]byte, 0, f.Size), p.in[used:]...)
				clear(p.in)
				p.in, used = larger, 0
			}
			break
		}
		if err := p.deliver(f); err != nil {
			return err
		}
		used += f.Size
	}
	rest := copy(p.in, p.in[used:])
	clear(p.in[rest:]) // a plaintext may have been in it
	p.in = p.in[:rest]
	return nil
}

func (p *process) deliver(f protocol.Frame) error {
	slow := f.Code&protocol.Slow != 0
	f.Code &^= protocol.Slow
	if f.Code != protocol.StatusOK && f.Code != protocol.StatusFailed {
		return fmt.Errorf("%w: status %d", protocol.ErrFrame, f.Code)
	}
	c, known := p.settle(f.ID)
	if !known {
		return fmt.Errorf("%w: an answer to request %d, which is not under way", protocol.ErrFrame, f.ID)
	}
	if c != nil {
		p.learn(c.op, slow)
		c.reply <- reply{status: f.Code, body: append([]byte(nil), f.Body...)}
	}
	return nil
}

// settle takes a request from those under way. c is nil when it is answered
// already, by the end of the process; known is false when it never was under way.
func (p *process) settle(id uint32) (c *call, known bool) {
	p.mu.Lock()
	c = p.pending[id]
	delete(p.pending, id)
	idle := p.leaving && len(p.pending) == 0
	known = c != nil || p.err != nil
	p.mu.Unlock()
	if idle {
		p.farewell()
	}
	return c, known
}

// learn takes what the worker said of an operation of this kind.
func (p *process) learn(op protocol.Op, slow bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(op) < len(p.slow) {
		p.slow[op] = slow
	}
}
