package ui_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
	"gardu/internal/ui/uitest"
)

// The values that must never be seen anywhere but in the engine.
const (
	canaryPIN  = "481516"
	canaryOTP  = "23421998"
	staffCode  = "77314159"
	wrongStaff = "99999999"

	operatorID   = "70010042"
	operatorCode = "626262"
)

// rig is a server with everything around it.
type rig struct {
	t        testing.TB
	server   *ui.Server
	engine   *uitest.Engine
	operator *uitest.Operator
	addr     string
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	http     *http.Client
	log      *logBuffer
	stop     func()
	served   chan error
	// patience is how long a page waits for what should come; in a bubble, where
	// time is free, longer than any limit of a screen.
	patience time.Duration
	atEnd    func() // lets an engine go that hangs
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRig serves on a real socket. No limit of the server's own is reached there, however
// busy the machine is: what time does is tested in a bubble, where time stands still
// while anybody has something to do.
func newRig(t testing.TB, change func(*ui.Options)) *rig {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	return rigOn(t, ln, new(net.Dialer).DialContext, func(o *ui.Options) {
		o.Timeouts = ui.Timeouts{
			Screens: map[ui.State]time.Duration{}, Cap: time.Hour, ScreenLost: time.Hour, Call: time.Minute,
			Hello: time.Minute, Pong: 3 * time.Minute, Write: time.Minute, Close: 10 * time.Second,
		}
		for _, row := range ui.Screens() {
			o.Timeouts.Screens[row.State] = time.Hour
		}
		if change != nil {
			change(o)
		}
	})
}

// brief lets screens pass that only time ends. They may be over before anybody looks.
func brief(states ...ui.State) func(*ui.Options) {
	return func(o *ui.Options) {
		for _, st := range states {
			o.Timeouts.Screens[st] = 200 * time.Millisecond
		}
	}
}

// newBubbleRig serves over pipes in memory, which testing/synctest can wait for.
func newBubbleRig(t testing.TB, change func(*ui.Options)) *rig {
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	r := rigOn(t, ln, ln.dial, change)
	r.patience = 24 * time.Hour
	return r
}

func rigOn(t testing.TB, ln net.Listener, dial func(context.Context, string, string) (net.Conn, error), change func(*ui.Options)) *rig {
	logs := &logBuffer{}
	engine := uitest.New()
	operator := uitest.NewOperator(operatorID, operatorCode)
	o := ui.Options{
		Listener: ln, Engine: engine, Staff: uitest.Staff{Code: staffCode, ID: "staff-7"}, Operator: operator, Brand: "Bank Uji", PxPerMM: 4,
		Log: slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	server, err := ui.New(o)
	require.NoError(t, err)
	engine.Tell(server.RequestChanged, server.LinkChanged)
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{t: t, server: server, engine: engine, operator: operator, addr: ln.Addr().String(), dial: dial, log: logs, served: make(chan error, 1), patience: time.Minute}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	r.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var once sync.Once
	go func() { r.served <- server.Serve(ctx) }()
	r.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-r.served)
		})
	}
	t.Cleanup(r.stop)
	return r
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// get asks for a path as a browser would that has these cookies.
func (r *rig) get(path, cookie string, change func(*http.Request)) (*http.Response, string) {
	return r.ask(http.MethodGet, path, cookie, change)
}

func (r *rig) ask(method, path, cookie string, change func(*http.Request)) (*http.Response, string) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.addr+path, nil)
	require.NoError(r.t, err)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	if change != nil {
		change(req)
	}
	res, err := r.http.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(r.t, err)
	return res, string(body)
}

// cookie goes through a ticket.
func (r *rig) cookie() string {
	ticket, err := r.server.IssueTicket()
	require.NoError(r.t, err)
	res, body := r.get("/?ticket="+ticket, "", nil)
	require.Equal(r.t, http.StatusSeeOther, res.StatusCode, body)
	require.Equal(r.t, "/", res.Header.Get("Location"))
	return strings.SplitN(res.Header.Get("Set-Cookie"), ";", 2)[0]
}

var tokenInPage = regexp.MustCompile(`name="gardu-page" content="([A-Za-z0-9_-]{43})"`)

// token loads the page.
func (r *rig) token(cookie string) string {
	res, body := r.get("/", cookie, nil)
	require.Equal(r.t, http.StatusOK, res.StatusCode, body)
	m := tokenInPage.FindStringSubmatch(body)
	require.NotNil(r.t, m, body)
	return m[1]
}

// socket opens a websocket as the page does.
func (r *rig) socket(cookie string, change func(*websocket.Dialer, http.Header)) (*websocket.Conn, *http.Response, error) {
	d := &websocket.Dialer{NetDialContext: r.dial, Subprotocols: []string{ui.Subprotocol}}
	h := http.Header{"Origin": {"http://" + r.addr}, "Cookie": {cookie}}
	if change != nil {
		change(d, h)
	}
	ws, res, err := d.DialContext(context.Background(), "ws://"+r.addr+"/ws", h)
	if res != nil {
		_ = res.Body.Close()
	}
	return ws, res, err
}

// frame is any frame of the agent.
type frame struct {
	Type  string                     `json:"type"`
	Epoch string                     `json:"epoch"`
	From  uint64                     `json:"from"`
	Seq   uint64                     `json:"seq"`
	Now   int64                      `json:"now"`
	State map[string]json.RawMessage `json:"state"`
	ID    string                     `json:"id"`
	OK    bool                       `json:"ok"`
	Code  string                     `json:"code"`
	Field string                     `json:"field"`
	Rule  string                     `json:"rule"`
}

// sessionDoc and requestDoc are what the tests read of the documents.
type sessionDoc struct {
	Session   string            `json:"session"`
	State     ui.State          `json:"state"`
	Screen    string            `json:"screen"`
	Lang      ui.Lang           `json:"lang"`
	Tone      ui.Tone           `json:"tone"`
	Title     string            `json:"title"`
	Lines     []string          `json:"lines"`
	Notice    string            `json:"notice"`
	Params    map[string]string `json:"params"`
	Commands  []string          `json:"commands"`
	Busy      bool              `json:"busy"`
	Overlay   *struct{ State string }
	Code      string `json:"code"`
	Reference string `json:"reference"`
	Menu      []struct {
		Operation string `json:"operation"`
		Link      string `json:"link"`
	} `json:"menu"`
	Fields []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"fields"`
	Entry *struct {
		Name     string
		Min, Max int
	}
	Steps *struct{ At, Of int }
	Wrong *struct {
		Field string `json:"field"`
		Rule  string `json:"rule"`
	} `json:"wrong"`
	Receipt *struct {
		QR *struct {
			Size int    `json:"size"`
			Path string `json:"path"`
		} `json:"qr"`
	} `json:"receipt"`
}

// page is a client that behaves like the page: it follows the documents,
// acknowledges results and names the screen it means.
type page struct {
	t        testing.TB
	ws       *websocket.Conn
	patience time.Duration
	mu       sync.Mutex
	cond     *sync.Cond

	docs    map[string]json.RawMessage
	epoch   string
	seq     uint64
	results map[string]frame
	frames  int
	ended   error
	seen    bytes.Buffer // every byte the agent sent
}

var commandN atomic.Int64 // command ids are used once, whatever page sends them

// open goes all the way from a ticket to a connected page.
func (r *rig) open() *page {
	c := r.cookie()
	return r.openWith(c, r.token(c), "", 0)
}

func (r *rig) openWith(cookie, token, epoch string, since uint64) *page {
	ws, _, err := r.socket(cookie, nil)
	require.NoError(r.t, err)
	p := &page{t: r.t, ws: ws, patience: r.patience, docs: map[string]json.RawMessage{}, results: map[string]frame{}}
	p.cond = sync.NewCond(&p.mu)
	hello := map[string]any{"type": "hello", "token": token, "lang": "id"}
	if epoch != "" {
		hello["epoch"], hello["since"] = epoch, since
	}
	require.NoError(r.t, ws.WriteJSON(hello))
	go p.read()
	r.t.Cleanup(func() { _ = ws.Close() })
	return p
}

func (p *page) read() {
	for {
		kind, b, err := p.ws.ReadMessage()
		p.mu.Lock()
		if err == nil && kind != websocket.TextMessage {
			err = fmt.Errorf("frame of kind %d", kind)
		}
		var f frame
		if err == nil {
			p.seen.Write(b)
			p.frames++
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			p.ended = err
			p.cond.Broadcast()
			p.mu.Unlock()
			return
		}
		switch f.Type {
		case "snapshot":
			p.docs = f.State
			p.epoch, p.seq = f.Epoch, f.Seq
		case "delta":
			if f.From != p.seq && p.epoch != "" {
				p.ended = fmt.Errorf("gap: have %d, got a delta from %d", p.seq, f.From)
			}
			maps.Copy(p.docs, f.State)
			p.epoch, p.seq = f.Epoch, f.Seq
		case "result":
			p.results[f.ID] = f
			_ = p.ws.WriteJSON(map[string]string{"type": "ack", "id": f.ID})
		}
		p.cond.Broadcast()
		p.mu.Unlock()
	}
}

// until waits for a condition on what the page knows. The caller's test times out
// by itself; a bubble deadlocks loudly.
func (p *page) until(what string, cond func() bool) {
	p.t.Helper()
	timer := time.AfterFunc(p.patience, func() {
		p.mu.Lock()
		if p.ended == nil {
			p.ended = fmt.Errorf("waited too long for: %s", what)
		}
		p.cond.Broadcast()
		p.mu.Unlock()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !cond() {
		if p.ended != nil {
			p.t.Fatalf("%s: %v\nsession: %s", what, p.ended, p.docs["session"])
		}
		p.cond.Wait()
	}
}

// closed waits for the end and returns its close code.
func (p *page) closed() int {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.ended == nil {
		p.cond.Wait()
	}
	var ce *websocket.CloseError
	require.ErrorAs(p.t, p.ended, &ce)
	return ce.Code
}

// session is the session document; the caller holds no lock.
func (p *page) session() sessionDoc {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessionLocked()
}

func (p *page) sessionLocked() sessionDoc {
	var s sessionDoc
	if js := p.docs["session"]; js != nil {
		require.NoError(p.t, json.Unmarshal(js, &s))
	}
	return s
}

// js is a document as it came.
func (p *page) js(topic string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.docs[topic])
}

// upTo is where the page is in the agent's stream.
func (p *page) upTo() (epoch string, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch, p.seq
}

func (p *page) doc(topic string) map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	var m map[string]any
	require.NoError(p.t, json.Unmarshal(p.docs[topic], &m))
	return m
}

// at waits for a screen.
func (p *page) at(want ui.State) sessionDoc {
	p.t.Helper()
	var s sessionDoc
	p.until("screen "+string(want), func() bool {
		s = p.sessionLocked()
		return s.State == want
	})
	return s
}

// send sends a command for the present screen and returns its id.
func (p *page) send(name string, args map[string]string) string {
	p.t.Helper()
	s := p.session()
	id := fmt.Sprintf("c-%d", commandN.Add(1))
	p.sendAs(id, s.Session, s.Screen, name, args)
	return id
}

func (p *page) sendAs(id, session, screen, name string, args map[string]string) {
	p.t.Helper()
	c := map[string]any{"type": "command", "id": id, "session": session, "screen": screen, "name": name}
	if args != nil {
		c["args"] = args
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(p.t, p.ws.WriteJSON(c))
}

func (p *page) raw(kind int, b []byte) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(p.t, p.ws.WriteMessage(kind, b))
}

func (p *page) result(id string) frame {
	p.t.Helper()
	var f frame
	p.until("result of "+id, func() (ok bool) {
		f, ok = p.results[id]
		return ok
	})
	return f
}

// do sends a command and wants it obeyed.
func (p *page) do(name string, args ...string) {
	p.t.Helper()
	f := p.try(name, args...)
	require.True(p.t, f.OK, "%s: %+v", name, f)
}

// try sends a command and returns its result.
func (p *page) try(name string, args ...string) frame {
	p.t.Helper()
	var m map[string]string
	for i := 0; i+1 < len(args); i += 2 {
		if m == nil {
			m = map[string]string{}
		}
		m[args[i]] = args[i+1]
	}
	return p.result(p.send(name, m))
}

// everything the agent ever sent to this page.
func (p *page) everything() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}
