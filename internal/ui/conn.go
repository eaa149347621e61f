package ui

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Subprotocol is the name and version of the protocol. A connection that does
// not ask for it is refused.
const Subprotocol = "gardu.v1"

// Close codes. 1009 (frame too large) is sent by the websocket library.
const (
	closeGoing   = websocket.CloseGoingAway       // 1001: the screen fell silent or reads too slowly
	closeBinary  = websocket.CloseUnsupportedData // 1003: a binary frame
	closeUTF8    = websocket.CloseInvalidFramePayloadData
	closeRestart = websocket.CloseServiceRestart // 1012
	closeToken   = 4001                          // no hello in time, or a token that opens nothing: load the page anew
	closeFrame   = 4002                          // a frame that is not of the protocol
	closeOther   = 4009                          // another screen is in charge
)

// conn is one websocket. Its reader runs in serve; its one writer in write.
type conn struct {
	s       *Server
	ws      *websocket.Conn
	n       uint64       // its place among all that came
	page    uint64       // of the page that opened it, once its hello was good
	quit    chan closing // the first one counts
	done    chan struct{}
	closing atomic.Bool // the closing frame was sent
}

type closing struct {
	code int
	text string
}

// serveSocket upgrades and serves one connection. Host, Origin and cookie have
// been checked.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{
		Subprotocols:     []string{Subprotocol},
		HandshakeTimeout: s.times.Write,
		ReadBufferSize:   4 << 10,
		WriteBufferSize:  4 << 10,
		CheckOrigin:      func(*http.Request) bool { return true }, // guard has compared it exactly
		Error: func(w http.ResponseWriter, _ *http.Request, status int, _ error) {
			http.Error(w, "this address speaks websocket with the subprotocol "+Subprotocol, status)
		},
	}
	if !asksFor(r, Subprotocol) {
		http.Error(w, "ask for the subprotocol "+Subprotocol, http.StatusBadRequest)
		return
	}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // answered by Upgrade
	}
	c := &conn{s: s, ws: ws, quit: make(chan closing, 1), done: make(chan struct{})}
	if !s.enter(c) {
		_ = ws.Close()
		return
	}
	defer s.leave(c)
	defer func() { _ = ws.Close() }()
	c.serve()
}

func asksFor(r *http.Request, protocol string) bool {
	for _, p := range websocket.Subprotocols(r) {
		if p == protocol {
			return true
		}
	}
	return false
}

// shut asks the writer to close with a code. It never waits.
func (c *conn) shut(code int, text string) {
	select {
	case c.quit <- closing{code, text}:
	default:
	}
}

// serve reads until the connection ends.
func (c *conn) serve() {
	var writer sync.WaitGroup
	defer writer.Wait()
	defer close(c.done)
	c.ws.SetReadLimit(readLimit)
	_ = c.ws.SetReadDeadline(time.Now().Add(c.s.times.Hello))
	h, refused := c.greet()
	if refused == nil && !c.s.takeCharge(c) {
		refused = &closing{closeOther, "another screen is in charge"}
	}
	if refused != nil {
		writer.Go(func() { c.write(nil, nil, cursor{}) })
		c.shut(refused.code, refused.text)
		c.drain()
		return
	}
	if !c.s.desk.do(func() { c.s.desk.attach(h.lang); c.s.desk.publish() }) {
		return
	}
	defer c.s.desk.do(c.s.desk.detach)
	wake, cancel := c.s.desk.board.subscribe()
	defer cancel()
	first, cur, err := c.s.desk.board.start(h.epoch, h.since)
	if err != nil {
		c.s.log.Error("first frame not written", "error", err)
		return
	}
	writer.Go(func() { c.write(wake, first, cur) })
	c.ws.SetPongHandler(c.alive)
	_ = c.alive("")
	c.s.log.Info("screen connected")
	defer c.s.log.Info("screen disconnected")
	c.listen()
}

// alive moves the read deadline: the other side answers pings, or it is gone.
func (c *conn) alive(string) error {
	if c.closing.Load() {
		return nil // a closing connection does not get more time
	}
	return c.ws.SetReadDeadline(time.Now().Add(c.s.times.Pong))
}

// greet waits for the hello and judges it.
func (c *conn) greet() (*hello, *closing) {
	buf := make([]byte, readLimit)
	f, refused := c.read(buf)
	switch {
	case refused != nil && refused.code == closeGoing:
		return nil, &closing{closeToken, "no hello in time"}
	case refused != nil:
		return nil, refused
	case f.command != nil:
		f.command.wipe()
		fallthrough
	case f.hello == nil:
		return nil, &closing{closeToken, "the first frame must be hello"}
	}
	page, is := c.s.door.enter(f.hello.token)
	switch is {
	case tokenGood:
		c.page = page
		return f.hello, nil
	case tokenStale:
		return nil, &closing{closeOther, "another screen is in charge"}
	case tokenBad:
	}
	return nil, &closing{closeToken, "this token opens nothing; load the page anew"}
}

// listen obeys frames until there are no more.
func (c *conn) listen() {
	buf := make([]byte, readLimit)
	for {
		f, refused := c.read(buf)
		if refused == nil {
			refused = c.obey(f)
		}
		if refused != nil {
			c.shut(refused.code, refused.text)
			c.drain()
			return
		}
	}
}

func (c *conn) obey(f frame) *closing {
	desk := c.s.desk
	switch {
	case f.hello != nil:
		return &closing{closeFrame, "hello may be said once"}
	case f.activity != "":
		desk.do(func() { desk.touch(f.activity) })
	case f.ack != "":
		desk.board.ack(f.ack)
	case f.command != nil:
		if !c.s.inCharge(c) {
			f.command.wipe()
			return &closing{closeOther, "another screen is in charge"}
		}
		fine := true
		if !desk.do(func() { fine = desk.command(f.command) }) {
			f.command.wipe()
			return &closing{closeRestart, "the agent restarts"}
		}
		if !fine {
			return &closing{closeFrame, "a command id may be used for one command only"}
		}
	}
	return nil
}

// read takes one frame into buf, parses it and clears buf: what was in it must
// not stay in memory, and nobody may ever see it in an error.
func (c *conn) read(buf []byte) (frame, *closing) {
	kind, r, err := c.ws.NextReader()
	if errors.Is(err, websocket.ErrReadLimit) { // a length that no frame can have
		return frame{}, &closing{websocket.CloseMessageTooBig, "the frame is too large"}
	}
	if err != nil {
		return frame{}, &closing{closeGoing, "silent for too long"}
	}
	n, err := io.ReadFull(r, buf)
	defer clear(buf[:n])
	switch {
	case err == nil: // the limit is the buffer's size, so at most nothing may follow
		if _, err = r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			return frame{}, &closing{websocket.CloseMessageTooBig, "the frame is too large"}
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
	default:
		return frame{}, &closing{closeGoing, "silent for too long"}
	}
	switch {
	case kind != websocket.TextMessage:
		return frame{}, &closing{closeBinary, "text frames only"}
	case !utf8.Valid(buf[:n]): // the library does not check
		return frame{}, &closing{closeUTF8, "not UTF-8"}
	}
	f, err := parseFrame(buf[:n])
	if err != nil {
		return frame{}, &closing{closeFrame, err.Error()}
	}
	return f, nil
}

// drain waits for the other side's closing frame, as long as the writer allows.
func (c *conn) drain() {
	for {
		if _, _, err := c.ws.NextReader(); err != nil {
			return
		}
	}
}

// write is the connection's one writer. It ends when the connection does, or
// after it has sent the closing frame.
func (c *conn) write(wake <-chan struct{}, first []byte, cur cursor) {
	if wake == nil {
		c.last()
		return
	}
	tick, ping := time.NewTicker(c.s.times.Tick), time.NewTicker(c.s.times.Ping)
	defer tick.Stop()
	defer ping.Stop()
	board, frames := c.s.desk.board, [][]byte{first}
	for {
		for _, f := range frames {
			_ = c.ws.SetWriteDeadline(time.Now().Add(c.s.times.Write))
			if err := c.ws.WriteMessage(websocket.TextMessage, f); err != nil {
				_ = c.ws.SetReadDeadline(time.Now()) // wakes the reader, which ends it
				return
			}
		}
		frames = nil
		var err error
		select {
		case <-c.done:
			c.last()
			return
		case q := <-c.quit:
			c.bye(q)
			return
		case <-wake:
			frames, cur, err = board.next(cur)
		case <-tick.C:
			var f []byte
			f, err = board.tick()
			frames = [][]byte{f}
		case <-ping.C:
			err = c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(c.s.times.Write))
		}
		if err != nil {
			c.s.log.Debug("screen frame not written", "error", err)
			_ = c.ws.SetReadDeadline(time.Now())
			return
		}
	}
}

// last waits for the reason to close or the end of the reader. Where both are
// there, the other side is still told the reason.
func (c *conn) last() {
	select {
	case q := <-c.quit:
		c.bye(q)
	case <-c.done:
		select {
		case q := <-c.quit:
			c.bye(q)
		default:
		}
	}
}

// bye sends the closing frame and gives the other side a moment to answer it.
func (c *conn) bye(q closing) {
	text := q.text
	if len(text) > 120 { // a control frame holds 123 bytes of text
		text = text[:120]
	}
	c.closing.Store(true)
	_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(q.code, text), time.Now().Add(c.s.times.Write))
	_ = c.ws.SetReadDeadline(time.Now().Add(c.s.times.Close))
}
