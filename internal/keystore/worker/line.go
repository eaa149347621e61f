package worker

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// line is one socket to the keystore. One goroutine at a time reads it.
type line struct {
	fd   int
	in   []byte
	used int // of in, by complete frames

	write sync.Mutex // guards writes: an answer is one piece
}

func newLine(fd int) line { return line{fd: fd, in: make([]byte, 0, 16<<10)} }

// next takes the next frame of what was read; ok is false when there is no whole
// one. Its body is good until the next read.
func (l *line) next() (f protocol.Frame, ok bool, err error) {
	if f, ok, err = protocol.Next(l.in[l.used:]); ok {
		l.used += f.Size
	}
	return f, ok, err
}

// read drops what was used and makes one read, with room for the whole of the
// frame that has begun to arrive.
func (l *line) read() error {
	rest := copy(l.in, l.in[l.used:])
	clear(l.in[rest:]) // a PIN or a plaintext may have been in it
	l.in, l.used = l.in[:rest], 0
	f, _, err := protocol.Next(l.in)
	if err != nil {
		return err
	}
	if f.Size > cap(l.in) {
		larger := append(make([]byte, 0, f.Size), l.in...)
		clear(l.in)
		l.in = larger
	}
	for {
		n, err := unix.Read(l.fd, l.in[rest:cap(l.in)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read request: %w", err)
		case n == 0:
			return io.EOF
		}
		l.in = l.in[:rest+n]
		return nil
	}
}

// flush writes all of out and clears it.
func (l *line) flush(out []byte) error {
	defer clear(out)
	l.write.Lock()
	defer l.write.Unlock()
	for b := out; len(b) > 0; {
		n, err := unix.Write(l.fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// lanes are the first n of the sockets that follow the common one.
func (s *server) lanes(n int) ([]line, error) {
	if n < 0 || n > protocol.MaxLanes {
		return nil, fmt.Errorf("%w: a greeting with %d lanes", protocol.ErrFrame, n)
	}
	lanes := make([]line, n)
	for i := range lanes {
		lanes[i] = newLine(s.fd + 1 + i)
		if !isSocket(lanes[i].fd) {
			return nil, fmt.Errorf("%w: a greeting with %d lanes, of which there are %d", protocol.ErrFrame, n, i)
		}
	}
	return lanes, nil
}

// serveLane carries out what comes on a lane until that ends, in a thread of its
// own: between the keystore's caller and the token there is one thread to wake,
// and it is always the same. What is no operation with a key ends everything, like
// any foreign byte.
func (s *server) serveLane(l *line) {
	runtime.LockOSThread()
	for {
		f, ok, err := l.next()
		switch {
		case err != nil:
		case ok:
			err = s.serveOne(l, f)
		default:
			err = l.read()
		}
		if errors.Is(err, io.EOF) { // the common socket says what that means
			return
		}
		if err != nil {
			s.done <- err
			return
		}
	}
}

func (s *server) serveOne(l *line, f protocol.Frame) error {
	if !ofKey(f.Code) {
		return fmt.Errorf("%w: operation %d on a lane", protocol.ErrFrame, f.Code)
	}
	s.using.RLock()
	defer s.using.RUnlock()
	out, err := s.answer(nil, f)
	if err != nil {
		return err
	}
	return l.flush(out)
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}
