package worker

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// An operation is answered by the reading thread itself while it is faster than
// this; a slower one gets a goroutine of its own, so that it holds nobody up.
// Handing over costs some microseconds, as much as a whole HMAC.
const (
	slowAfter = 300 * time.Microsecond
	fastBelow = 100 * time.Microsecond
)

type server struct {
	fd  int
	tok *token

	write      sync.Mutex // guards writes to fd: an answer is one piece
	background sync.WaitGroup

	mu   sync.Mutex // guards slow
	slow map[protocol.Op]bool
}

// loop reads what is there, carries out the quick requests in turn and writes
// their answers in one piece.
func (s *server) loop() error {
	buf := make([]byte, 0, 16<<10)
	var out []byte
	for {
		n, err := readMore(s.fd, &buf)
		if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		if n == 0 {
			return nil
		}
		began := time.Now()
		used := 0
		for {
			f, ok, err := protocol.Next(buf[used:])
			if err != nil {
				return err
			}
			if !ok {
				if more := f.Size - (len(buf) - used); more > cap(buf)-len(buf) {
					old := buf
					buf = append(make([]byte, 0, len(buf)+more), buf...)
					clear(old)
				}
				break
			}
			used += f.Size
			if s.isSlow(f.Code) {
				s.start(f)
				continue
			}
			if len(out) > 0 && time.Since(began) > slowAfter {
				if err := s.flush(&out); err != nil {
					return err
				}
			}
			if out, err = s.answer(out, f); err != nil {
				return err
			}
		}
		if err := s.flush(&out); err != nil {
			return err
		}
		rest := copy(buf, buf[used:])
		clear(buf[rest:]) // a PIN or a plaintext may have been in it
		buf = buf[:rest]
	}
}

// start carries out a slow request in a goroutine. A malformed one ends the
// connection like everywhere else, by shutting the socket.
func (s *server) start(f protocol.Frame) {
	f.Body = slices.Clone(f.Body)
	s.background.Go(func() {
		defer clear(f.Body)
		out, err := s.answer(nil, f)
		if err == nil {
			err = s.flush(&out)
		}
		if err != nil {
			_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
		}
	})
}

// answer appends the answer to one request. An error means that the peer does
// not speak the protocol.
func (s *server) answer(out []byte, f protocol.Frame) ([]byte, error) {
	began := time.Now()
	at := len(out)
	out = protocol.Begin(out, protocol.Head{ID: f.ID, Code: protocol.StatusOK})
	body := len(out)
	if done, err := s.carryOut(out, f); err == nil {
		out = done
	} else if failure, ok := errors.AsType[*protocol.Failure](err); ok {
		out[body-1] = protocol.StatusFailed
		out = failure.Append(out)
	} else {
		return nil, err
	}
	s.measured(f.Code, time.Since(began))
	if protocol.Finish(out, at) != nil {
		clear(out[body:])
		out[body-1] = protocol.StatusFailed
		out = fail(protocol.ReasonUnsupported, "the answer would be larger than a frame").Append(out[:body])
	}
	return out, protocol.Finish(out, at)
}

func (s *server) carryOut(out []byte, f protocol.Frame) ([]byte, error) {
	switch f.Code {
	case protocol.OpHello:
		return s.hello(out, f.Body)
	case protocol.OpLogin:
		if s.tok == nil {
			return nil, errNoGreeting
		}
		return s.tok.login(out, f.Body)
	}
	if s.tok == nil {
		return nil, errNoGreeting
	}
	switch f.Code {
	case protocol.OpList:
		if len(f.Body) != 0 {
			return nil, fmt.Errorf("%w: a list request has no body", protocol.ErrFrame)
		}
		return s.tok.list(out)
	case protocol.OpGenerate, protocol.OpImport:
		var m protocol.Create
		if err := m.Parse(f.Body); err != nil {
			return nil, err
		}
		return s.tok.create(out, f.Code, &m)
	}
	var m protocol.Use
	if err := m.Parse(f.Body); err != nil {
		return nil, err
	}
	switch f.Code {
	case protocol.OpDescribe:
		return s.tok.describe(out, &m)
	case protocol.OpSign, protocol.OpMAC, protocol.OpEncrypt, protocol.OpDecrypt:
		return s.tok.operate(out, f.Code, &m)
	case protocol.OpDestroy:
		return s.tok.destroy(out, &m)
	}
	return nil, fmt.Errorf("%w: no operation %d", protocol.ErrFrame, f.Code)
}

var errNoGreeting = fmt.Errorf("%w: a request before the greeting", protocol.ErrFrame)

func (s *server) hello(out []byte, body []byte) ([]byte, error) {
	var m protocol.Hello
	if err := m.Parse(body); err != nil {
		return nil, err
	}
	if s.tok != nil {
		return nil, fmt.Errorf("%w: a second greeting", protocol.ErrFrame)
	}
	tok, err := load(&m)
	if err != nil {
		return nil, err
	}
	s.tok = tok
	return tok.info.Append(out), nil
}

func (s *server) isSlow(op protocol.Op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow[op]
}

// measured learns from how long an operation took. A first call also looks the
// key up and may count as slow; the next ones put that right.
func (s *server) measured(op protocol.Op, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch op {
	case protocol.OpSign, protocol.OpMAC, protocol.OpEncrypt, protocol.OpDecrypt:
		if took > slowAfter {
			s.slow[op] = true
		} else if took < fastBelow {
			delete(s.slow, op)
		}
	}
}

// flush writes all of *out, clears it and leaves it empty.
func (s *server) flush(out *[]byte) error {
	defer func() {
		clear(*out)
		*out = (*out)[:0]
	}()
	s.write.Lock()
	defer s.write.Unlock()
	for b := *out; len(b) > 0; {
		n, err := unix.Write(s.fd, b)
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

// readMore appends what one read returns to *buf; 0 is the end.
func readMore(fd int, buf *[]byte) (int, error) {
	b := *buf
	if len(b) == cap(b) {
		return 0, io.ErrShortBuffer
	}
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		*buf = b[:len(b)+n]
		return n, nil
	}
}
