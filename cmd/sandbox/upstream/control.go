package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// controlHandler is the control interface: plain HTTP and JSON, on loopback, for tests and the demo. A request that comes from a web
// page (it has an Origin) is refused, since any page could send one; the customer's PIN page is the exception.
func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	api := func(pattern string, do func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Origin") != "" {
				writeJSON(w, http.StatusForbidden, map[string]string{"error": "requests from web pages are refused"})
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
			answer, err := do(r)
			if err != nil {
				writeJSON(w, controlStatus(err), map[string]string{"error": err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, answer)
		})
	}
	api("GET /ledger", s.getLedger)
	api("GET /effects", func(*http.Request) (any, error) {
		return map[string]any{"effects": s.Effects()}, nil
	})
	api("GET /violations", func(*http.Request) (any, error) {
		return map[string]any{"violations": s.Violations()}, nil
	})
	api("GET /state", func(*http.Request) (any, error) { return s.State(), nil })
	api("GET /otp", func(r *http.Request) (any, error) {
		otp, err := s.OTP(r.URL.Query().Get("phone"))
		return map[string]string{"otp": otp}, err
	})
	api("POST /fault", func(r *http.Request) (any, error) {
		var f Fault
		if err := readStrict(r, &f); err != nil {
			return nil, err
		}
		id, err := s.Inject(f)
		return map[string]int{"id": id}, err
	})
	api("POST /clear", func(r *http.Request) (any, error) {
		var which ClearFilter
		if err := readStrict(r, &which); err != nil {
			return nil, err
		}
		// A listener that comes back must outlive the request that asked for it.
		return done, s.Clear(context.WithoutCancel(r.Context()), which)
	})
	api("POST /link", func(r *http.Request) (any, error) {
		var body struct {
			Phone string `json:"phone"`
		}
		if err := readStrict(r, &body); err != nil {
			return nil, err
		}
		return s.Link(body.Phone)
	})
	api("POST /customer", func(r *http.Request) (any, error) {
		var body Customer
		if err := readStrict(r, &body); err != nil {
			return nil, err
		}
		return done, s.SetCustomer(body.Phone, body.Linked)
	})
	api("POST /dedupe", func(r *http.Request) (any, error) {
		var body struct {
			Provider string `json:"provider"`
			On       bool   `json:"on"`
		}
		if err := readStrict(r, &body); err != nil {
			return nil, err
		}
		return done, s.SetDedupe(body.Provider, body.On)
	})
	api("POST /advance", func(r *http.Request) (any, error) {
		var body struct {
			Seconds int `json:"seconds"`
		}
		if err := readStrict(r, &body); err != nil {
			return nil, err
		}
		s.Advance(time.Duration(body.Seconds) * time.Second)
		return done, nil
	})
	api("POST /reset", func(r *http.Request) (any, error) {
		return done, s.Reset(context.WithoutCancel(r.Context()))
	})
	if s.finpay != nil {
		mux.HandleFunc(pagePath, s.finpay.servePage)
	}
	return mux
}

var done = map[string]bool{"ok": true}

func (s *Server) getLedger(r *http.Request) (any, error) {
	q := r.URL.Query()
	which := LedgerFilter{Provider: q.Get("provider"), Operation: q.Get("operation")}
	if text := q.Get("since"); text != "" {
		since, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("since: %q is not a sequence number", clip(text))
		}
		which.Since = since
	}
	return map[string]any{"exchanges": s.Ledger(which)}, nil
}

// controlStatus is 404 for what does not exist, 400 for the rest: every other error is in the request.
func controlStatus(err error) int {
	switch {
	case errors.Is(err, ErrNoLink), errors.Is(err, ErrNoOTP), errors.Is(err, ErrNotPlayed):
		return http.StatusNotFound
	case errors.Is(err, ErrLinkExpired):
		return http.StatusGone
	}
	return http.StatusBadRequest
}

// readStrict reads one JSON object with known, unrepeated keys; no body at all is an empty object.
func readStrict(r *http.Request, into any) error {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(data) == 0 {
		data = []byte("{}")
	}
	if err := decodeStrict(data, into); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error here is the reader's connection
}
