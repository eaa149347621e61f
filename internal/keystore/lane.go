package keystore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// An operation that takes the token long goes over a lane: a socket of its own,
// that its caller has for itself until the answer is there, and on whose other end
// one thread of the worker waits. On the way there and back so one thread wakes
// one other, and these two stay on their processors. On the common socket the
// worker hands the reading on before such an operation and the agent the leading
// after it, and with as many callers as processors the threads that this wakes
// queue behind one that computes while another processor has nothing to do: a
// quarter of the signatures in a second.
//
// The worker says with each answer whether its kind is one for a lane. When no lane
// is free, the request goes over the common socket.

type lane struct {
	fd  int
	buf []byte // first what is written, then what is read
}

func newLane(fd int) *lane { return &lane{fd: fd, buf: make([]byte, 0, roomOut)} }

// laneFor takes a free lane for an operation that is one for it, if there is one.
// The caller holds mu.
func (p *process) laneFor(op protocol.Op) *lane {
	n := len(p.free)
	if int(op) >= len(p.slow) || !p.slow[op] || n == 0 {
		return nil
	}
	l := p.free[n-1]
	p.free = p.free[:n-1]
	return l
}

// leaveLane gives back what laneFor took.
func (p *process) leaveLane(l *lane) {
	clear(l.buf) // a plaintext may be in it
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		_ = unix.Close(l.fd)
	} else {
		p.free = append(p.free, l)
	}
}

// closeLanes closes those that nobody uses. The others end at once, and who uses
// one closes it.
func (p *process) closeLanes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for _, l := range p.lanes {
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR)
	}
	for _, l := range p.free {
		_ = unix.Close(l.fd)
	}
	p.free = nil
}

// ride sends the request on l and waits for its answer there. l is free again when
// the answer has come, also when the caller has left before.
func (p *process) ride(ctx context.Context, l *lane, head protocol.Head, c *call, body func([]byte) []byte) ([]byte, error) {
	l.buf = body(protocol.Begin(l.buf[:0], head))
	if err := protocol.Finish(l.buf, 0); err != nil {
		p.settle(head.ID)
		p.leaveLane(l)
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	err := writeAll(l.fd, l.buf)
	clear(l.buf)
	l.buf = l.buf[:0]
	if err != nil {
		err = errEnded
	} else {
		err = l.read(ctx, c)
	}
	if errors.Is(err, errLeft) {
		go func() { p.arrive(l, head.ID, l.read(context.WithoutCancel(ctx), c)) }()
		return nil, ctx.Err()
	}
	p.arrive(l, head.ID, err)
	select {
	case r := <-c.reply:
		return p.open(r)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errLeft is a caller that has left before its answer was there.
var errLeft = errors.New("the caller has left")

// read reads until the answer is there whole. It returns errLeft when ctx ended
// before, and errEnded also for a call that was answered otherwise.
func (l *lane) read(ctx context.Context, c *call) error {
	for {
		f, ok, err := protocol.Next(l.buf)
		switch {
		case err != nil || ok:
			return err
		case len(c.reply) > 0:
			return errEnded
		case ctx.Err() != nil:
			return errLeft
		case f.Size > cap(l.buf):
			larger := append(make([]byte, 0, f.Size), l.buf...)
			clear(l.buf)
			l.buf = larger
		}
		n, err := unix.Read(l.fd, l.buf[len(l.buf):cap(l.buf)])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		case n == 0, errors.Is(err, unix.ECONNRESET):
			return errEnded
		case err != nil:
			return fmt.Errorf("read: %w", err)
		default:
			l.buf = l.buf[:len(l.buf)+n]
		}
	}
}

// arrive delivers the answer that was read, or ends the process because of err or
// of what was read, and frees l.
func (p *process) arrive(l *lane, id uint32, err error) {
	if err == nil {
		err = p.take(l, id)
	}
	if err != nil {
		_ = unix.Shutdown(l.fd, unix.SHUT_RDWR) // nobody takes up what is still to come
		p.expel(err)
	}
	p.leaveLane(l)
}

// take delivers the frame that was read, which must be the answer and all of what
// was read: the next request is not sent yet.
func (p *process) take(l *lane, id uint32) error {
	f, _, err := protocol.Next(l.buf)
	switch {
	case err != nil:
		return err
	case f.ID != id:
		return fmt.Errorf("%w: an answer to request %d on the lane of %d", protocol.ErrFrame, f.ID, id)
	case f.Size != len(l.buf):
		return fmt.Errorf("%w: more than one answer on a lane", protocol.ErrFrame)
	}
	return p.deliver(f)
}
