package main

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

// kiosk is the customer's screen as a page would be: it follows the documents and
// sends commands (docs/protocol-ui.md).
type kiosk struct {
	s    *setup
	http *http.Client

	ws   *websocket.Conn
	done chan struct{}

	mu      sync.Mutex // guards what follows
	docs    map[string]json.RawMessage
	results map[string]result
	seen    []byte // every frame that came, to look for secrets in
	moved   chan struct{}
	lost    error
}

type result struct {
	OK    bool   `json:"ok"`
	Code  string `json:"code"`
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

// session is the part of the session document that the check looks at.
type session struct {
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

func newKiosk(ctx context.Context, s *setup) (*kiosk, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("make a cookie jar: %w", err)
	}
	k := &kiosk{s: s, http: &http.Client{Jar: jar, Timeout: 10 * time.Second}}
	url, err := s.ticket(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := k.get(ctx, url); err != nil {
		return nil, fmt.Errorf("open the screen with a ticket: %w", err)
	}
	return k, nil
}

func (k *kiosk) get(ctx context.Context, url string) (string, error) {
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

// load loads the page anew and connects, as a browser does at the start and after
// each wipe.
func (k *kiosk) load(ctx context.Context, lang string) error {
	k.leave()
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
	k.docs, k.results = map[string]json.RawMessage{}, map[string]result{}
	k.moved = make(chan struct{}, 1)
	k.mu.Unlock()
	go k.read(ws, k.done)
	if err := ws.WriteJSON(map[string]string{"type": "hello", "token": m[1], "lang": lang}); err != nil {
		return fmt.Errorf("say hello: %w", err)
	}
	return nil
}

func (k *kiosk) leave() {
	if k.ws == nil {
		return
	}
	_ = k.ws.Close()
	<-k.done
	k.ws = nil
}

func (k *kiosk) read(ws *websocket.Conn, done chan struct{}) {
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
			result
		}
		if err := json.Unmarshal(b, &f); err == nil {
			switch f.Type {
			case "snapshot", "delta":
				for t, d := range f.State {
					k.docs[t] = d
				}
			case "result":
				k.results[f.ID] = f.result
			}
		}
		k.mu.Unlock()
		k.poke()
	}
}

func (k *kiosk) poke() {
	select {
	case k.moved <- struct{}{}:
	default:
	}
}

func (k *kiosk) session() (s session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d, ok := k.docs["session"]; ok {
		_ = json.Unmarshal(d, &s)
	}
	return s
}

// until waits until ok is content with the documents.
func (k *kiosk) until(ctx context.Context, limit time.Duration, what string, ok func(session) bool) (session, error) {
	stop := time.After(limit)
	for {
		s := k.session()
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

// screen waits for one of the named screens.
func (k *kiosk) screen(ctx context.Context, names ...string) (session, error) {
	return k.until(ctx, 25*time.Second, strings.Join(names, " or "), func(s session) bool {
		for _, n := range names {
			if s.State == n {
				return true
			}
		}
		return false
	})
}

// do sends one command on the present screen and waits for its result.
func (k *kiosk) do(ctx context.Context, name string, args map[string]string) (result, error) {
	s := k.session()
	id := rand.Text()
	frame := map[string]any{"type": "command", "id": id, "session": s.Session, "screen": s.Screen, "name": name}
	if args != nil {
		frame["args"] = args
	}
	if err := k.ws.WriteJSON(frame); err != nil {
		return result{}, fmt.Errorf("send %s: %w", name, err)
	}
	var r result
	_, err := k.until(ctx, 25*time.Second, "the result of "+name, func(session) bool {
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

// must is do for a command that has to be obeyed.
func (k *kiosk) must(ctx context.Context, name string, args map[string]string) error {
	r, err := k.do(ctx, name, args)
	if err == nil && !r.OK {
		err = fmt.Errorf("command %s was refused: %s %s %s", name, r.Code, r.Field, r.Rule)
	}
	return err
}

// frames returns every byte the agent sent to the screen.
func (k *kiosk) frames() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]byte(nil), k.seen...)
}
