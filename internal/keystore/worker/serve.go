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

// An operation that is faster than slow is carried out by the goroutine that
// reads, in turn, and the answers of what had arrived together are written
// together. A slower one comes on a lane of its own; before one that comes on the
// common socket all the same that goroutine starts another to go on reading, so
// that the next operation runs beside it: the operation itself never waits for a
// thread to wake up, which would cost as much as a whole HMAC.
const slow = 300 * time.Microsecond

type server struct {
	line
	tok *token

	seat protocol.Seat // of the goroutine that reads

	using sync.RWMutex // held for reading by who uses tok beside the goroutine that reads
	done  chan error   // gets the end of each reading

	mu   sync.Mutex                    // guards the fields below
	took map[protocol.Op]time.Duration // by the quicker of the last two operations of the kind
	last map[protocol.Op]time.Duration // by the last one
}

func newServer(fd int) *server {
	return &server{
		line: newLine(fd), done: make(chan error, 1+protocol.MaxLanes),
		took: map[protocol.Op]time.Duration{
			protocol.OpDescribe: slow, protocol.OpList: slow, protocol.OpGenerate: slow,
			protocol.OpImport: slow, protocol.OpDestroy: slow, protocol.OpNames: slow, protocol.OpRename: slow,
			protocol.OpUnwrap: slow, protocol.OpVerify: slow,
		},
		last: make(map[protocol.Op]time.Duration),
	}
}

// loop reads and answers until the socket ends, and then tells done why, or
// until it has handed the reading on.
func (s *server) loop() {
	for {
		handed, err := s.serveReady()
		if handed {
			return
		}
		if err == nil {
			err = s.read()
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			s.done <- err
			return
		}
	}
}

// serveReady carries out the requests that have arrived whole. handed means that
// another goroutine has taken over the reading.
func (s *server) serveReady() (handed bool, err error) {
	var out []byte
	began := time.Now()
	for {
		f, ok, err := s.next()
		if err != nil {
			return false, err
		}
		if !ok {
			return false, s.flush(out)
		}
		cpu, err := f.TakeProcessor()
		if err != nil {
			return false, err
		}
		aside := s.goesAside(f.Code)
		if aside {
			cpu = protocol.Anywhere
		}
		s.seat.Take(cpu)
		if len(out) > 0 && (aside || time.Since(began) > slow) {
			if err := s.flush(out); err != nil {
				return false, err
			}
			out = out[:0]
		}
		if aside {
			s.aside(f)
			return true, nil
		}
		if out, err = s.answer(out, f); err != nil {
			return false, err
		}
	}
}

// aside hands the reading on and carries out a slow request. A malformed one
// ends the connection like everywhere else, by shutting the socket.
func (s *server) aside(f protocol.Frame) {
	f.Body = slices.Clone(f.Body)
	defer clear(f.Body)
	s.using.RLock()
	defer s.using.RUnlock()
	go s.loop()
	out, err := s.answer(nil, f)
	if err == nil {
		err = s.flush(out)
	}
	if err != nil {
		_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	}
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
	if s.measured(f.Code, time.Since(began)) {
		out[body-1] |= protocol.Slow
	}
	if protocol.Finish(out, at) != nil {
		clear(out[body:])
		out[body-1] = out[body-1]&protocol.Slow | protocol.StatusFailed
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
	case protocol.OpUnwrap:
		var m protocol.Unwrap
		if err := m.Parse(f.Body); err != nil {
			return nil, err
		}
		return s.tok.unwrap(out, &m)
	case protocol.OpRename:
		var m protocol.Rename
		if err := m.Parse(f.Body); err != nil {
			return nil, err
		}
		return s.tok.rename(out, &m)
	}
	var m protocol.Use
	if err := m.Parse(f.Body); err != nil {
		return nil, err
	}
	if ofKey(f.Code) {
		return s.tok.operate(out, f.Code, &m)
	}
	switch f.Code {
	case protocol.OpDescribe:
		return s.tok.describe(out, &m)
	case protocol.OpDestroy:
		return s.tok.destroy(out, &m)
	case protocol.OpNames:
		return s.tok.names(out, &m)
	case protocol.OpVerify:
		return s.tok.verify(out, &m)
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
	lanes, err := s.lanes(int(m.Lanes))
	if err != nil {
		return nil, err
	}
	tok, err := load(&m)
	if err != nil {
		return nil, err
	}
	s.tok = tok
	for i := range lanes {
		go s.serveLane(&lanes[i])
	}
	return tok.info.Append(out), nil
}

func (s *server) goesAside(op protocol.Op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.took[op] >= slow
}

// measured learns from how long an operation took, and says whether its kind is one
// for a lane. A single one says nothing: it has looked the key up too, or another
// had the processor.
func (s *server) measured(op protocol.Op, took time.Duration) (forLane bool) {
	if !ofKey(op) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took[op] = min(took, s.last[op])
	s.last[op] = took
	return s.took[op] >= slow
}

// ofKey says whether op is one operation with a key, which may be repeated.
func ofKey(op protocol.Op) bool {
	switch op {
	case protocol.OpSign, protocol.OpMAC, protocol.OpEncrypt, protocol.OpDecrypt:
		return true
	}
	return false
}
