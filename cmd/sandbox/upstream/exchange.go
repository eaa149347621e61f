package upstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxRequest bounds a request body; no documented request comes near it.
const maxRequest = 1 << 20

// operation is one call of a platform.
type operation struct {
	name string
	// service is the SNAP service code in refusals; "" at the prepaid platform.
	service string
	// step tells the calls to one path apart; nil where there is one.
	step func(body []byte) int
	// check verifies the request and returns either what would carry it out or a refusal. With x.dry it records violations but changes
	// nothing.
	check func(x *exchange) (carryOut, *reply)
}

// carryOut does what was asked, or refuses it for a reason that lies in the platform's own state.
type carryOut func() reply

// reply is an answer that has not been sent yet.
type reply struct {
	status int
	code   string // for the ledger
	body   []byte
	// done says that the platform did what was asked.
	done bool
	// stranger is the same answer with another request's references; nil where nothing is echoed.
	stranger []byte
	header   map[string]string
}

// platform is what all three have in common.
type platform struct {
	s      *Server
	name   string
	faults *faultSet
	ops    map[string]*operation // by path
	pages  map[string]http.HandlerFunc
	end    *endpoint
	// render makes an answer that says nothing but a status, a code and a message.
	render func(x *exchange, status int, code, message string) reply
	snap   bool // answers carry X-TIMESTAMP
}

func (s *Server) newPlatform(name string) *platform {
	p := &platform{s: s, name: name, faults: newFaultSet(), ops: map[string]*operation{}, pages: map[string]http.HandlerFunc{}}
	p.end = &endpoint{p: p, hold: -1, handler: p, tls: s.tls, broken: s.tlsBroken, conns: map[*conn]struct{}{}}
	return p
}

// clock is what the platform believes the time is.
func (p *platform) clock() time.Time {
	now := p.s.cfg.Now()
	if f, ok := p.faults.find(KindClockSkew); ok {
		now = now.Add(time.Duration(f.SkewSeconds) * time.Second)
	}
	return now
}

// exchange is one request on its way through.
type exchange struct {
	p    *platform
	w    http.ResponseWriter
	r    *http.Request
	conn *conn
	rec  *Exchange
	op   *operation
	step int
	body []byte
	// dry means that a fault stands in the way: check, but change nothing.
	dry bool
	// card is the decrypted prepaid request, for answers that echo it.
	card *cardRequest
	// externalID is kept for the effect.
	externalID string
}

// ServeHTTP carries one exchange from its header to its answer.
func (p *platform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{p: p, w: w, r: r, op: p.ops[r.URL.Path]}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		x.conn = c
		c.served.Store(true)
		c.busy.Store(true)
		defer func() {
			c.busy.Store(false)
			c.fresh.Store(true)
		}()
	}
	if page := p.pages[r.URL.Path]; page != nil {
		page(w, r)
		return
	}
	rec := Exchange{Time: p.s.cfg.Now(), Provider: p.name, Method: r.Method, Path: clip(r.URL.Path), Stage: StageHeaders}
	if x.conn != nil {
		rec.Conn = x.conn.id
	}
	if x.op != nil {
		rec.Operation = x.op.name
	}
	x.rec = p.s.ledger.open(rec)
	if !x.readBody() {
		return
	}
	if x.op == nil {
		if r.Method != http.MethodHead || r.URL.Path != "/" { // which asks for the time alone
			x.violate("there is no call at the path %s", clip(r.URL.Path))
		}
		x.send(p.render(x, http.StatusNotFound, "00", "Not Found"))
		return
	}
	if x.op.step != nil {
		x.step = x.op.step(x.body)
		x.note(func(e *Exchange) { e.Step = x.step })
	}
	if r.Method != http.MethodPost {
		x.violate("the method is %s instead of POST", clip(r.Method))
		x.send(p.render(x, http.StatusMethodNotAllowed, "00", "Requested Function Is Not Supported"))
		return
	}
	x.run()
}

// run applies the faults around checking and carrying out.
func (x *exchange) run() {
	slow, isSlow := x.take(func(f Fault) bool { return f.Kind == KindSlow })
	late := isSlow && slow.Effect != nil && !*slow.Effect
	wait := func() bool { return !isSlow || late || x.pause(slow, time.Duration(slow.DelayMS)*time.Millisecond) }
	f, faulty := x.take(func(f Fault) bool {
		return !f.ofConnection() && f.Kind != KindSlow && f.Kind != KindBreakAtByte && !f.afterEffect()
	})
	x.dry = faulty
	act, refusal := x.op.check(x)
	if late {
		x.dawdle(slow)
	}
	if faulty {
		if wait() {
			x.misbehave(f, x.p.render(x, http.StatusOK, "00", "Successful"))
		}
		return
	}
	var answer reply
	if refusal != nil {
		answer = *refusal
	} else {
		answer = act()
	}
	if !answer.done {
		if wait() {
			x.send(answer)
		}
		return
	}
	x.note(func(e *Exchange) { e.Stage, e.Effect = StageEffect, true })
	f, faulty = x.take(func(f Fault) bool { return !f.ofConnection() && f.afterEffect() })
	if !wait() {
		return
	}
	if faulty {
		x.misbehave(f, answer)
		return
	}
	x.send(answer)
}

// take finds a fault for this exchange and writes its kind to the ledger.
func (x *exchange) take(match func(Fault) bool) (Fault, bool) {
	step := ""
	if x.step > 0 {
		step = strconv.Itoa(x.step)
	}
	f, ok := x.p.faults.take(func(f Fault) bool { return match(f) && f.hits(x.op.name, step) })
	if ok {
		x.note(func(e *Exchange) {
			if e.Fault != "" {
				e.Fault += "+"
			}
			e.Fault += string(f.Kind)
		})
	}
	return f, ok
}

// readBody reads the whole request; what is cut off on the way stays at StageHeaders and is not looked at.
func (x *exchange) readBody() bool {
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxRequest+1))
	switch {
	case err != nil:
		x.note(func(e *Exchange) { e.Note = fmt.Sprintf("the body broke off after %d bytes", len(body)) })
		panic(http.ErrAbortHandler) // nobody is left to answer
	case len(body) > maxRequest:
		x.violate("the body is larger than %d bytes", maxRequest)
		x.send(x.p.render(x, http.StatusRequestEntityTooLarge, "00", "Bad Request"))
		return false
	}
	x.body = body
	x.note(func(e *Exchange) { e.Stage = StageBody })
	return true
}

func (x *exchange) note(change func(*Exchange)) { x.p.s.ledger.update(x.rec, change) }

// violate records a broken rule. The sentence must hold no PIN, OTP, token or secret.
func (x *exchange) violate(format string, args ...any) {
	v := Violation{Time: x.p.s.cfg.Now(), Provider: x.p.name, Exchange: x.rec.Seq, Text: fmt.Sprintf(format, args...)}
	if x.op != nil {
		v.Operation = x.op.name
	}
	x.p.s.ledger.violation(v)
	x.p.s.cfg.Logger.Warn("violation", "provider", v.Provider, "operation", v.Operation, "text", v.Text)
}

// effect counts something that happened to a customer.
func (x *exchange) effect(e Effect) {
	e.Provider = x.p.name
	x.p.s.ledger.effect(e, x.p.s.cfg.Now(), x.externalID)
}

// send answers properly.
func (x *exchange) send(a reply) {
	x.headers()
	for name, value := range a.header {
		x.w.Header().Set(name, value)
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	x.note(func(e *Exchange) { e.Stage, e.Status, e.Code = StageAnswered, a.status, a.code })
	x.w.WriteHeader(a.status)
	_, _ = x.w.Write(a.body) // a client that has gone sees nothing, which is its own doing
}

// headers sets what every answer carries, by the platform's clock.
func (x *exchange) headers() {
	now := x.p.clock()
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	if x.p.snap {
		h.Set("X-TIMESTAMP", now.In(wib).Format(snapTime))
	}
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // only our own structs of strings and numbers come here
	}
	return data
}

// clip keeps what a client sent from growing the ledger.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
