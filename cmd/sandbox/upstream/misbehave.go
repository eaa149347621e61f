package upstream

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// misbehave ends an exchange as the fault says. The answer is the one that would have been right.
func (x *exchange) misbehave(f Fault, answer reply) {
	switch f.Kind {
	case KindStatus, KindAnswerAfterEffect:
		x.send(x.p.render(x, f.Status, f.Code, "Fault on demand"))
	case KindBreakBeforeEffect, KindBreakAfterEffect:
		x.cut(f.RST)
	case KindHang:
		x.pause(f, 0)
	case KindThrottle:
		a := x.p.render(x, http.StatusTooManyRequests, "00", "Too Many Requests")
		if f.RetryAfterSeconds > 0 {
			a.header = map[string]string{"Retry-After": strconv.Itoa(f.RetryAfterSeconds)}
		}
		x.send(a)
	case KindRedirect:
		to := f.Location
		if to == "" {
			to = "https://" + x.r.Host + x.r.URL.RequestURI()
		}
		a := x.p.render(x, http.StatusTemporaryRedirect, "00", "Temporary Redirect")
		a.header = map[string]string{"Location": to}
		x.send(a)
	case KindGarbage:
		a := reply{status: http.StatusOK, body: []byte("<html><body>Sorry, we are under maintenance.</body></html>")}
		x.send(a)
	case KindWrongEcho:
		if answer.stranger != nil {
			answer.body = answer.stranger
		}
		x.send(answer)
	case KindTruncated:
		x.headers()
		x.w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
		x.note(func(e *Exchange) { e.Status, e.Code = answer.status, answer.code })
		x.w.WriteHeader(answer.status)
		_, _ = x.w.Write(answer.body[:len(answer.body)/2]) // net/http closes the connection because the rest is missing
	case KindHuge:
		x.flood(f, answer)
	default:
		panic("fault of an exchange without a behaviour: " + f.Kind) // so that a new kind cannot be forgotten here
	}
}

// cut closes the connection without an answer.
func (x *exchange) cut(rst bool) {
	if rst && x.conn != nil {
		x.conn.reset()
	}
	panic(http.ErrAbortHandler)
}

// pause waits for d, or for ever if d is 0. It reports whether somebody is still waiting for the answer, and cuts the connection if
// it waited for ever.
func (x *exchange) pause(f Fault, d time.Duration) bool {
	var due <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return true
	case <-x.r.Context().Done():
		x.note(func(e *Exchange) { e.Note = "the client left before an answer" })
		return false
	case <-f.released:
		if d > 0 {
			return true
		}
	case <-x.p.s.stopping:
	}
	x.cut(false)
	return false
}

// dawdle waits as a slow platform does that has taken a request: whether the client is still there makes no difference.
func (x *exchange) dawdle(f Fault) {
	timer := time.NewTimer(time.Duration(f.DelayMS) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.released:
	case <-x.p.s.stopping:
	}
}

// flood sends a body that begins like the right one and does not end before the client leaves.
func (x *exchange) flood(f Fault, answer reply) {
	x.headers()
	x.note(func(e *Exchange) { e.Status, e.Code = answer.status, answer.code })
	x.w.WriteHeader(answer.status)
	_, err := x.w.Write([]byte(`{"responseMessage":"`))
	chunk := bytes.Repeat([]byte("lorem ipsum "), 4096)
	for err == nil {
		select {
		case <-x.r.Context().Done():
			return
		case <-f.released:
			x.cut(false)
		case <-x.p.s.stopping:
			x.cut(false)
		default:
			_, err = x.w.Write(chunk)
		}
	}
}
