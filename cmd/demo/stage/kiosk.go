package stage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Kiosk is the customer's screen as a page would be: it follows the documents and
// sends commands (docs/protocol-ui.md). One goroutine drives it.
type Kiosk struct {
	s    *Stage
	http *http.Client

	ws   *websocket.Conn
	done chan struct{}

	mu      sync.Mutex // guards what follows
	docs    map[string]json.RawMessage
	results map[string]Result
	seen    []byte // every frame that came, to look for secrets in
	moved   chan struct{}
	lost    error
}

// Result is the answer to a command.
type Result struct {
	OK    bool   `json:"ok"`
	Code  string `json:"code"`
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

// Session is the part of the session document that drivers look at.
type Session struct {
	Session   string   `json:"session"`
	State     string   `json:"state"`
	Screen    string   `json:"screen"`
	Lang      string   `json:"lang"`
	Title     string   `json:"title"`
	Lines     []string `json:"lines"`
	Notice    string   `json:"notice"`
	Commands  []string `json:"commands"`
	Code      string   `json:"code"`
	Reference string   `json:"reference"`
}

// Kiosk opens the screen with a ticket.
func (s *Stage) Kiosk(ctx context.Context) (*Kiosk, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("make a cookie jar: %w", err)
	}
	k := &Kiosk{s: s, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	url, err := s.Ticket(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := k.get(ctx, url); err != nil {
		return nil, fmt.Errorf("open the screen with a ticket: %w", err)
	}
	return k, nil
}

func (k *Kiosk) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	r, err := k.http.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if r.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", r.Status, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

var pageToken = regexp.MustCompile(`name="gardu-page" content="([^"]+)"`)

// Load loads the page anew and connects, as a browser does at the start and after
// each wipe.
func (k *Kiosk) Load(ctx context.Context, lang string) error {
	k.Leave()
	page, err := k.get(ctx, "http://"+k.s.Screen+"/")
	if err != nil {
		return fmt.Errorf("load the page: %w", err)
	}
	m := pageToken.FindStringSubmatch(page)
	if m == nil {
		return errors.New("the page has no token")
	}
	d := websocket.Dialer{Subprotocols: []string{"gardu.v1"}, Jar: k.http.Jar, HandshakeTimeout: 5 * time.Second}
	ws, resp, err := d.DialContext(ctx, "ws://"+k.s.Screen+"/ws", http.Header{"Origin": {"http://" + k.s.Screen}})
	if err != nil {
		return fmt.Errorf("connect the websocket: %w", err)
	}
	_ = resp.Body.Close()
	k.mu.Lock()
	k.ws, k.done, k.lost = ws, make(chan struct{}), nil
	k.docs, k.results = map[string]json.RawMessage{}, map[string]Result{}
	k.moved = make(chan struct{}, 1)
	k.mu.Unlock()
	go k.read(ws, k.done)
	if err := ws.WriteJSON(map[string]string{"type": "hello", "token": m[1], "lang": lang}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	return nil
}

// Leave closes the connection, as a browser that is closed.
func (k *Kiosk) Leave() {
	if k.ws == nil {
		return
	}
	_ = k.ws.Close()
	<-k.done
	k.ws = nil
}

func (k *Kiosk) read(ws *websocket.Conn, done chan struct{}) {
	defer close(done)
	for {
		_, b, err := ws.ReadMessage()
		k.mu.Lock()
		if err != nil {
			k.lost = err
			k.mu.Unlock()
			k.poke()
			return
		}
		k.seen = append(append(k.seen, b...), '\n')
		var f struct {
			Type  string                     `json:"type"`
			ID    string                     `json:"id"`
			State map[string]json.RawMessage `json:"state"`
			Result
		}
		if err := json.Unmarshal(b, &f); err == nil {
			switch f.Type {
			case "snapshot", "delta":
				for t, d := range f.State {
					k.docs[t] = d
				}
			case "result":
				k.results[f.ID] = f.Result
			}
		}
		k.mu.Unlock()
		k.poke()
	}
}

func (k *Kiosk) poke() {
	select {
	case k.moved <- struct{}{}:
	default:
	}
}

// Session is the newest session document.
func (k *Kiosk) Session() (s Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, ok := k.docs["session"]; ok {
		_ = json.Unmarshal(d, &s)
	}
	return s
}

// Request is the part of the request document that drivers look at.
type Request struct {
	Operation string `json:"operation"`
	State     string `json:"state"`
	Reason    string `json:"reason"`
	Reference string `json:"reference"` // the end of the request's id, in two groups
}

// Request is the request that is shown; its Reference is empty where there is none.
func (k *Kiosk) Request() (r Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, ok := k.docs["request"]; ok {
		_ = json.Unmarshal(d, &r)
	}
	return r
}

// Until waits until ok is content with the documents.
func (k *Kiosk) Until(ctx context.Context, limit time.Duration, what string, ok func(Session) bool) (Session, error) {
	stop := time.After(limit)
	for {
		s := k.Session()
		if s.Screen != "" && ok(s) {
			return s, nil
		}
		k.mu.Lock()
		lost, moved := k.lost, k.moved
		k.mu.Unlock()
		if lost != nil {
			return s, fmt.Errorf("the screen was lost while waiting for %s: %w", what, lost)
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-moved:
		case <-stop:
			return s, fmt.Errorf("the screen does not show %s after %s, but %s %s", what, limit, s.State, s.Code)
		}
	}
}

// WaitFor waits for one of the named screens.
func (k *Kiosk) WaitFor(ctx context.Context, names ...string) (Session, error) {
	return k.Until(ctx, 25*time.Second, strings.Join(names, " or "), func(s Session) bool {
		for _, n := range names {
			if s.State == n {
				return true
			}
		}
		return false
	})
}

// Do sends one command on the present screen and waits for its result.
func (k *Kiosk) Do(ctx context.Context, name string, args map[string]string) (Result, error) {
	s := k.Session()
	id := rand.Text()
	frame := map[string]any{"type": "command", "id": id, "session": s.Session, "screen": s.Screen, "name": name}
	if args != nil {
		frame["args"] = args
	}
	if err := k.ws.WriteJSON(frame); err != nil {
		return Result{}, fmt.Errorf("send %s: %w", name, err)
	}
	var r Result
	_, err := k.Until(ctx, 25*time.Second, "the result of "+name, func(Session) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		var ok bool
		r, ok = k.results[id]
		return ok
	})
	if err != nil {
		return r, err
	}
	return r, k.ws.WriteJSON(map[string]string{"type": "ack", "id": id})
}

// Must is Do for a command that has to be obeyed.
func (k *Kiosk) Must(ctx context.Context, name string, args map[string]string) error {
	r, err := k.Do(ctx, name, args)
	if err == nil && !r.OK {
		err = fmt.Errorf("command %s was refused: %s %s %s", name, r.Code, r.Field, r.Rule)
	}
	return err
}

// Frames returns every byte the agent sent to the screen.
func (k *Kiosk) Frames() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]byte(nil), k.seen...)
}
