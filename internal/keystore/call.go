package keystore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gardu/internal/keystore/protocol"
)

// breaker answers calls with the last failure for a growing pause, and then lets
// one call at a time find out whether that is over. A Store has one for starting
// a worker, which all calls need, and one for each key that fails while the
// worker starts: a key that crashes its token must not take the others along.
// The Store's mutex guards them.
type breaker struct {
	least, most time.Duration

	fails   int
	gen     uint64 // the start that the last failure belongs to
	until   time.Time
	last    error
	probing bool
}

func newBreaker(o *Options) breaker { return breaker{least: o.BackoffMin, most: o.BackoffMax} }

// failed counts one failure per worker: those who were waiting for the same one
// saw the same failure.
func (b *breaker) failed(gen uint64, err error, now time.Time) {
	b.last = err
	if b.fails > 0 && gen <= b.gen {
		return
	}
	b.gen = gen
	b.fails++
	if b.forgiving() {
		return
	}
	b.until = now.Add(min(b.least<<min(b.fails-1, 20), b.most))
}

// forgiving is the first missed deadline: the worker was killed, and a new one
// may well do.
func (b *breaker) forgiving() bool {
	return b.fails == 1 && (errors.Is(b.last, ErrTimeout) || errors.Is(b.last, ErrWorkerLost))
}

// admit refuses, or says whether the call is the one that finds out.
func (b *breaker) admit(now time.Time) (probe bool, err error) {
	if b.fails == 0 || b.forgiving() {
		return false, nil
	}
	if b.probing || now.Before(b.until) {
		return false, b.last
	}
	b.probing = true
	return true, nil
}

// recheck limits how often a missing key is looked for with a new worker: some
// modules answer every search with nothing after their token was away.
type recheck struct {
	least, most time.Duration
	pause       time.Duration
	next        time.Time
}

func (r *recheck) due(p *process, now time.Time) bool {
	if now.Sub(p.started) < r.least || now.Before(r.next) {
		return false
	}
	r.pause = min(max(r.least, 2*r.pause), r.most)
	r.next = now.Add(r.pause)
	return true
}

// request is one key-level operation.
type request struct {
	op       protocol.Op
	verb     string // for errors: "sign with"
	object   string // the key's URI
	deadline time.Duration
	body     func([]byte) []byte
	// check judges the answer; an error means that the token answered nonsense.
	check func(body []byte) error
	// once: it changes the token and is never sent twice.
	once bool
	// token is the one that answered, set with the answer.
	token *protocol.Token
}

// maxUnsent is how often a request moves on to the next worker because the one
// it was meant for ended before it was sent.
const maxUnsent = 8

// do carries a request out: with the worker at hand, and once more with a new
// one when that worker or the token behind it failed.
func (s *Store) do(ctx context.Context, r *request) ([]byte, error) {
	body, err := s.attempt(ctx, r)
	if err != nil {
		return nil, explain(r.verb, r.object, err)
	}
	return body, nil
}

func (s *Store) attempt(ctx context.Context, r *request) (body []byte, err error) {
	pass, err := s.admit(r.object)
	if err != nil {
		return nil, err
	}
	worked := false
	defer func() { s.release(pass, worked) }()
	unsent := 0
	for again := true; ; again = false {
		p, err := s.worker(ctx)
		if err != nil {
			return nil, err
		}
		body, err := s.ask(ctx, p, r)
		for ; errors.Is(err, errUnsent) && unsent < maxUnsent; unsent++ {
			if p, err = s.worker(ctx); err != nil {
				return nil, err
			}
			body, err = s.ask(ctx, p, r)
		}
		if err == nil {
			worked = true
			return body, nil
		}
		if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
			return nil, err
		}
		switch {
		case errors.Is(err, ErrTimeout):
			s.failed(r, p, err)
			return nil, r.doubtful(err)
		case errors.Is(err, ErrWorkerLost):
		case errors.Is(err, ErrDevice):
			s.replace(p)
		case errors.Is(err, ErrKeyNotFound) && again && s.dueRecheck(p):
			s.replace(p)
			continue
		default: // the token works, it just does not do this
			worked = true
			return nil, err
		}
		if r.once {
			s.failed(r, p, err)
			return nil, r.doubtful(err)
		}
		if !again {
			s.failed(r, p, err)
			return nil, err
		}
	}
}

// doubtful says of what is never sent twice that nobody knows what came of it.
func (r *request) doubtful(err error) error {
	if r.once {
		return fmt.Errorf("%w; whether it was done is not known", err)
	}
	return err
}

func (s *Store) ask(ctx context.Context, p *process, r *request) ([]byte, error) {
	body, err := p.roundTrip(ctx, r.op, r.deadline, r.body)
	if f, ok := errors.AsType[*protocol.Failure](err); ok {
		return nil, fromWorker(f)
	}
	if err == nil && r.check != nil {
		if err := r.check(body); err != nil {
			return nil, fmt.Errorf("%w: it answered OK, but %w", ErrDevice, err)
		}
	}
	r.token = &p.token
	return body, err
}

// pass is the leave to make one call.
type pass struct {
	object     string
	start, own bool // it is the one that finds out
}

func (s *Store) admit(object string) (pass, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := pass{object: object}
	if s.closed {
		return p, ErrClosed
	}
	now := time.Now()
	var err error
	if b := s.sick[object]; b != nil {
		if p.own, err = b.admit(now); err != nil {
			return p, err
		}
	}
	if p.start, err = s.breaker.admit(now); err != nil && p.own {
		s.sick[object].probing = false
	}
	return p, err
}

// release ends what admit began. What worked closes the breaker.
func (s *Store) release(p pass, worked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.start {
		s.breaker.probing = false
	}
	if worked {
		delete(s.sick, p.object)
	} else if b := s.sick[p.object]; p.own && b != nil {
		b.probing = false
	}
}

func (s *Store) failed(r *request, p *process, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.sick[r.object]
	if b == nil {
		fresh := newBreaker(&s.opts)
		b = &fresh
		s.sick[r.object] = b
	}
	b.failed(p.gen, err, time.Now())
}

func (s *Store) dueRecheck(p *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recheck.due(p, time.Now())
}

// replace lets p finish what is under way and makes the next call start another.
func (s *Store) replace(p *process) {
	s.mu.Lock()
	if s.proc == p {
		s.proc = nil
	}
	s.mu.Unlock()
	p.leave()
}
