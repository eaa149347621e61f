package answers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"gardu/internal/ui"
)

// showing is what the page tells a customer at one moment.
type showing struct {
	Session  string            `json:"session"`
	State    ui.State          `json:"state"`
	Screen   string            `json:"screen"`
	Tone     ui.Tone           `json:"tone"`
	Title    string            `json:"title"`
	Lines    []string          `json:"lines"`
	Params   map[string]string `json:"params"` // what the page fills in for words in braces
	Commands []string          `json:"commands"`
	Busy     bool              `json:"busy"`
	Code     string            `json:"code"`
}

func (s *showing) can(command string) bool {
	for _, c := range s.Commands {
		if c == command {
			return true
		}
	}
	return false
}

// page is the customer's screen, driven by its protocol. It keeps every screen that
// the agent showed, however short.
type page struct {
	ws *websocket.Conn

	mu      sync.Mutex
	docs    map[string]json.RawMessage
	shown   []showing
	results map[string]string // command id: result code, "" for done
	ended   error
	changed chan struct{}
	bytes   []byte
}

var tokenInPage = regexp.MustCompile(`name="gardu-page" content="([A-Za-z0-9_-]{43})"`)

// openPage goes the way of a kiosk's browser: ticket, cookie, page, websocket.
func openPage(ctx context.Context, s *ui.Server) (*page, error) {
	base := "http://" + s.Addr()
	ticket, err := s.IssueTicket()
	if err != nil {
		return nil, err
	}
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.CloseIdleConnections()
	get := func(path, cookie string) (*http.Response, string, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return nil, "", err
		}
		if cookie != "" {
			q.Header.Set("Cookie", cookie)
		}
		res, err := c.Do(q)
		if err != nil {
			return nil, "", err
		}
		defer func() { _ = res.Body.Close() }()
		b, err := io.ReadAll(res.Body)
		return res, string(b), err
	}
	res, _, err := get("/?ticket="+ticket, "")
	if err != nil {
		return nil, err
	}
	cookie := strings.SplitN(res.Header.Get("Set-Cookie"), ";", 2)[0]
	_, body, err := get("/", cookie)
	if err != nil {
		return nil, err
	}
	token := tokenInPage.FindStringSubmatch(body)
	if token == nil {
		return nil, fmt.Errorf("the page has no token")
	}
	d := &websocket.Dialer{Subprotocols: []string{ui.Subprotocol}}
	ws, wres, err := d.DialContext(ctx, "ws://"+s.Addr()+"/ws", http.Header{"Origin": {base}, "Cookie": {cookie}})
	if err != nil {
		return nil, err
	}
	_ = wres.Body.Close()
	// The library gives a pong one second and then writes no more at all.
	ws.SetPingHandler(func(text string) error {
		return ws.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(patience))
	})
	p := &page{ws: ws, docs: map[string]json.RawMessage{}, results: map[string]string{}, changed: make(chan struct{}, 1)}
	if err := ws.WriteJSON(map[string]any{"type": "hello", "token": token[1], "lang": "id"}); err != nil {
		return nil, err
	}
	go p.read()
	return p, nil
}

func (p *page) read() {
	for {
		_, b, err := p.ws.ReadMessage()
		p.mu.Lock()
		var f struct {
			Type  string                     `json:"type"`
			State map[string]json.RawMessage `json:"state"`
			ID    string                     `json:"id"`
			Code  string                     `json:"code"`
		}
		if err == nil {
			p.bytes = append(p.bytes, b...)
			err = json.Unmarshal(b, &f)
		}
		if err != nil {
			p.ended = err
			p.mu.Unlock()
			p.poke()
			return
		}
		switch f.Type {
		case "snapshot", "delta":
			if f.Type == "snapshot" {
				p.docs = map[string]json.RawMessage{}
			}
			maps.Copy(p.docs, f.State)
			if raw, ok := f.State["session"]; ok {
				var s showing
				if json.Unmarshal(raw, &s) == nil {
					p.shown = append(p.shown, s)
				}
			}
		case "result":
			p.results[f.ID] = f.Code
		}
		p.mu.Unlock()
		p.poke()
	}
}

func (p *page) poke() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// until waits for a condition, which it is given the newest screen to judge by.
func (p *page) until(ctx context.Context, what string, ok func(*showing) bool) (*showing, error) {
	for {
		p.mu.Lock()
		var now *showing
		if n := len(p.shown); n > 0 {
			s := p.shown[n-1]
			now = &s
		}
		err := p.ended
		p.mu.Unlock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("wait for %s: %w", what, err)
		case now != nil && ok(now):
			return now, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w; the screen is %+v, after %s", what, context.Cause(ctx), now, p.lately())
		case <-p.changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *page) at(ctx context.Context, states ...ui.State) (*showing, error) {
	return p.until(ctx, fmt.Sprint(states), func(s *showing) bool {
		for _, st := range states {
			if s.State == st && !s.Busy {
				return true
			}
		}
		return false
	})
}

var commands atomic.Int64

// do gives a command on the screen that is shown and returns its result's code, ""
// for done.
func (p *page) do(ctx context.Context, name string, args map[string]string) (string, error) {
	s, err := p.until(ctx, "a screen with "+name, func(s *showing) bool { return !s.Busy && s.can(name) })
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("c%d", commands.Add(1))
	msg := map[string]any{"type": "command", "id": id, "session": s.Session, "screen": s.Screen, "name": name}
	if args != nil {
		msg["args"] = args
	}
	if err := p.ws.WriteJSON(msg); err != nil {
		return "", err
	}
	for {
		p.mu.Lock()
		code, there := p.results[id]
		ended := p.ended
		p.mu.Unlock()
		if there {
			return code, p.ws.WriteJSON(map[string]any{"type": "ack", "id": id})
		}
		if ended != nil {
			return "", ended
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("wait for the result of %s: %w, after %s", name, context.Cause(ctx), p.lately())
		case <-p.changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *page) must(ctx context.Context, name string, args map[string]string) error {
	code, err := p.do(ctx, name, args)
	if err == nil && code != "" {
		err = fmt.Errorf("%s was refused: %s", name, code)
	}
	return err
}

// mark is the place from which since looks.
func (p *page) mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.shown)
}

// since are the screens shown since a mark.
func (p *page) since(mark int) []showing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]showing(nil), p.shown[mark:]...)
}

// lately are the names of the last screens.
func (p *page) lately() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, s := range p.shown[max(0, len(p.shown)-12):] {
		all = append(all, string(s.State)+" "+s.Code)
	}
	return strings.Join(all, ", ")
}

// everything is every byte that the agent sent.
func (p *page) everything() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.bytes)
}
