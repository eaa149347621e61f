package ui

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

// The addresses of the server.
const (
	pathPage   = "/"
	pathSocket = "/ws"
	pathHealth = "/healthz"
	pathCode   = "/code"
)

// serveHTTP is the guard in front of everything. What does not come from the
// screen's own page is turned away before anything else looks at it.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	s.headers(w.Header())
	if r.Host != s.host {
		http.Error(w, "this server is http://"+s.host+" and nothing else", http.StatusMisdirectedRequest)
		return
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !s.sameOrigin(r, !reads || r.URL.Path == pathSocket) {
		http.Error(w, "only the screen's own page may ask for this", http.StatusForbidden)
		return
	}
	asset, known := s.assets.files[r.URL.Path]
	switch {
	case r.URL.Path == pathCode:
		s.serveCode(w, r)
	case !known && r.URL.Path != pathPage && r.URL.Path != pathSocket && r.URL.Path != pathHealth:
		http.Error(w, "there is nothing at this address", http.StatusNotFound)
	case !reads, r.URL.Path == pathSocket && r.Method != http.MethodGet:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this address can only be read", http.StatusMethodNotAllowed)
	case r.URL.Path == pathSocket:
		if !s.cookieOf(r) {
			http.Error(w, noTicket, http.StatusForbidden)
			return
		}
		s.serveSocket(w, r)
	case r.URL.Path == pathHealth:
		s.serveHealth(w)
	case r.URL.Path == pathPage:
		s.servePage(w, r)
	default:
		asset.serve(w, r)
	}
}

// serve answers with the file, compressed for who takes it.
func (a asset) serve(w http.ResponseWriter, r *http.Request) {
	body := a.body
	w.Header().Set("Content-Type", a.kind)
	if a.gzip != nil {
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			body = a.gzip
		}
	}
	_, _ = w.Write(body)
}

// sameOrigin holds Origin and Sec-Fetch-Site against our own. A missing Origin is
// refused where one must be there; a foreign one is refused everywhere.
func (s *Server) sameOrigin(r *http.Request, must bool) bool {
	switch got := r.Header.Values("Origin"); {
	case len(got) == 0 && must, len(got) > 1, len(got) == 1 && got[0] != s.origin:
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return true
	}
	return false
}

// headers are the same on every answer.
func (s *Server) headers(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "+
		"connect-src 'self' ws://"+s.host+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "+
		"require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Embedder-Policy", "require-corp")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Permissions-Policy", permissionsOff)
	h.Set("Cache-Control", "no-store")
}

// permissionsOff switches off what a browser could lend a page.
var permissionsOff = strings.Join([]string{
	"accelerometer=()", "autoplay=()", "browsing-topics=()", "camera=()", "clipboard-read=()", "clipboard-write=()",
	"compute-pressure=()", "display-capture=()", "encrypted-media=()", "fullscreen=()", "gamepad=()", "geolocation=()", "gyroscope=()",
	"hid=()", "identity-credentials-get=()", "idle-detection=()", "keyboard-map=()", "local-fonts=()", "magnetometer=()",
	"microphone=()", "midi=()", "payment=()", "picture-in-picture=()", "publickey-credentials-create=()",
	"publickey-credentials-get=()", "screen-wake-lock=()", "serial=()", "storage-access=()", "usb=()",
	"window-management=()", "xr-spatial-tracking=()",
}, ", ")

const noTicket = "this screen needs a ticket: open the address that `gardu ui ticket` prints, within 30 seconds and only once"

// servePage redeems a ticket, which is the one GET with an effect, or gives the
// page to who has the cookie. Each page load carries a new token.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if t := r.URL.Query().Get("ticket"); t != "" {
		if r.Method != http.MethodGet {
			http.Error(w, noTicket, http.StatusForbidden)
			return
		}
		cookie, ok := s.door.redeem(t, time.Now())
		if !ok {
			s.log.Warn("screen ticket refused")
			http.Error(w, noTicket, http.StatusForbidden)
			return
		}
		s.log.Info("screen ticket redeemed")
		// Without Secure: browsers differ on it for http on the loopback interface.
		http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}) //nolint:gosec // G124: loopback has no TLS
		w.Header().Set("Location", pathPage)                                                                                           // keeps the ticket out of the history
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	if !s.cookieOf(r) {
		http.Error(w, noTicket, http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	token, err := s.door.page()
	if err != nil {
		s.log.Error("page token not made", "error", err)
		http.Error(w, "the page cannot be made; look at the agent's log", http.StatusInternalServerError)
		return
	}
	if _, err := io.WriteString(w, s.assets.fill(s.desk.brand, token)); err != nil {
		s.log.Debug("page not written", "error", err)
	}
}

// cookieOf reports whether the request carries the screen's cookie, once.
func (s *Server) cookieOf(r *http.Request) bool {
	got := r.CookiesNamed(cookieName)
	return len(got) == 1 && s.door.admits(got[0].Value)
}

// healthAnswer is what /healthz says.
type healthAnswer struct {
	Status string `json:"status"` // ok or out_of_service
	Reason string `json:"reason,omitempty"`
	Hint   string `json:"hint,omitempty"` // what to do, as the screen tells staff
	Screen bool   `json:"screen"`         // a page is connected
}

func (s *Server) serveHealth(w http.ResponseWriter) {
	a := healthAnswer{Status: "ok"}
	s.desk.do(func() {
		a.Reason, a.Screen = s.desk.trouble(), s.desk.screens > 0
		if !s.desk.health.OK {
			a.Hint = s.desk.health.Hint
		}
	})
	status := http.StatusOK
	if a.Reason != "" {
		a.Status, status = "out_of_service", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a)
}
