package ui

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"

	"gardu/internal/secret"
)

// headerPage carries the token of the page in charge, as hello does.
const headerPage = "X-Gardu-Page"

// maxPost bounds the body of a POST.
const maxPost = 2 << 10

// serveCode takes the code that a customer's own page ended with, from the kiosk's
// own page: where the bank's landing page hands it over, nobody has to type it. It
// is the one POST of this server. Host and Origin have been checked; the cookie, the
// token of the page in charge, the session and the screen are checked as a command's
// are, and the command is submit_code.
func (s *Server) serveCode(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		http.Error(w, "this address takes a POST", http.StatusMethodNotAllowed)
		return
	case !s.cookieOf(r):
		http.Error(w, noTicket, http.StatusForbidden)
		return
	case len(r.Header.Values(headerPage)) != 1 || !s.door.charge(r.Header.Get(headerPage)):
		http.Error(w, "only the page in charge of the screen may ask for this", http.StatusForbidden)
		return
	case err != nil || media != "application/json":
		http.Error(w, "send application/json", http.StatusUnsupportedMediaType)
		return
	}
	buf := make([]byte, maxPost+1)
	defer clear(buf)
	n, err := io.ReadFull(r.Body, buf)
	if err == nil {
		http.Error(w, "the body is too large", http.StatusRequestEntityTooLarge)
		return
	}
	c, err := parsePost(buf[:n])
	if err != nil {
		http.Error(w, "the body is not {session, screen, code}", http.StatusBadRequest)
		return
	}
	defer c.wipe()
	result := make(chan Result, 1)
	if !s.desk.do(func() { s.desk.posts(c, result) }) {
		http.Error(w, "the agent restarts", http.StatusServiceUnavailable)
		return
	}
	select {
	case answer := <-result:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(postAnswer{answer.OK, answer.Code})
	case <-r.Context().Done():
	case <-s.desk.stopped:
		http.Error(w, "the agent restarts", http.StatusServiceUnavailable)
	}
}

// postAnswer is what a POST led to. The screen that follows says the rest.
type postAnswer struct {
	OK   bool   `json:"ok"`
	Code string `json:"code,omitempty"`
}

// parsePost reads the body into the command it stands for. Its errors hold none of it.
func parsePost(b []byte) (*command, error) {
	if !utf8.Valid(b) {
		return nil, errString
	}
	c := &command{id: "post-" + rand.Text(), name: cmdCode.Name}
	sc := scanner{b: b}
	err := sc.whole(func(key string) (err error) {
		switch key {
		case "session":
			c.session, err = sc.text(maxValue)
		case "screen":
			c.screen, err = sc.text(maxValue)
		case "code":
			var code []byte
			if code, err = sc.bytes(maxCode); err == nil {
				c.secret = secret.New(code)
			}
		default:
			err = errUnknownField
		}
		return err
	})
	switch {
	case err != nil:
	case c.secret == nil, !plain(c.session, maxID), !plain(c.screen, maxShown):
		err = errMissing
	}
	if err != nil {
		c.wipe()
		return nil, err
	}
	return c, nil
}
