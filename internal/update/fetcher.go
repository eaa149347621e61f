package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Root, who installs, does not speak to the network, and the token's key and PIN are
// none of its business. A fetcher does both as the agent's user: it answers at a
// socket that only root can open, with the files of the one repository that the
// configuration names. What it brings is believed as little as what the network brings.

// FetcherSocket is where the fetcher of an installed kiosk answers.
const FetcherSocket = "/run/gardu-fetch.sock"

const (
	// fetcherPatience is longer than a fetcher takes to open a token, to connect and to
	// find a host silent.
	fetcherPatience = 3 * time.Minute
	// reasonHeader says what went wrong where the fetcher has no file: a name of reasons,
	// or nothing for the network.
	reasonHeader = "Gardu-Reason"
	reasonLimit  = 2 << 10 // bytes of the sentence about it
)

// reasons are the errors that a fetcher tells from those of the network alone. The
// first that is all of what the error is counts.
var reasons = []struct {
	name string
	is   []error
}{
	{"token", []error{ErrCertificate, ErrToken}},
	{"refused", []error{ErrCertificate, ErrNetwork}}, // by the host
	{"certificate", []error{ErrCertificate}},
}

// marked is an error that is more than its text says.
type marked struct {
	text string
	is   []error
}

func (m *marked) Error() string   { return m.text }
func (m *marked) Unwrap() []error { return m.is }

// OfToken makes err an ErrToken; its text stays.
func OfToken(err error) error { return &marked{err.Error(), []error{err, ErrToken}} }

// ServeFetches answers with the files of a repository until nobody has asked for a
// while, or ctx ends. Errors: those of the listener.
func ServeFetches(ctx context.Context, l net.Listener, src *Source, idle time.Duration) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	q := &quiet{idle: idle, timer: time.AfterFunc(idle, stop)}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer q.busy()()
			fetch(w, r, src)
		}),
		ReadHeaderTimeout: dialTimeout, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		ended <- s.Shutdown(down)
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// quiet notices that nobody asks any more.
type quiet struct {
	idle time.Duration

	mu    sync.Mutex // guards what follows
	timer *time.Timer
	n     int // requests under way
}

// busy is called when a request begins, and what it returns when it ends.
func (q *quiet) busy() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.n++
	q.timer.Stop()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.n--; q.n == 0 {
			q.timer.Reset(q.idle)
		}
	}
}

func fetch(w http.ResponseWriter, r *http.Request, src *Source) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	offset := int64(0)
	if h := r.Header.Get("Range"); h != "" {
		span, ok := strings.CutPrefix(h, "bytes=")
		n, err := strconv.ParseInt(strings.TrimSuffix(span, "-"), 10, 64)
		if !ok || err != nil || n < 0 {
			http.Error(w, "a range from an offset on is served, and no other", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		offset = n
	}
	if r.Method != http.MethodGet || !filepath.IsLocal(name) || path.Clean(name) != name {
		http.Error(w, "files of the repository are served", http.StatusBadRequest)
		return
	}
	f, from, size, err := src.Open(r.Context(), name, offset)
	switch {
	case errors.Is(err, ErrMissing):
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	case err != nil:
		w.Header().Set(reasonHeader, reasonName(err))
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer f.Close()
	if size >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(size-from, 10))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if from > 0 {
		last, whole := from, "*"
		if size >= 0 {
			last, whole = size-1, strconv.FormatInt(size, 10)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", from, last, whole))
		w.WriteHeader(http.StatusPartialContent)
	}
	if _, err := io.Copy(w, f); err != nil {
		_ = http.NewResponseController(w).Flush() // all that came counts, and is not fetched again
		panic(http.ErrAbortHandler)               // the connection ends where the repository's did
	}
}

// overFetcher has a Source ask a fetcher instead of the network.
func (s *Source) overFetcher(socket string) {
	s.fetcher, s.stall, s.missing = socket, fetcherPatience, []int{missingDefault}
	s.base.Scheme, s.base.Host, s.base.Path, s.base.RawPath = "http", "gardu-fetch", "/", ""
	s.client = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
			},
			ResponseHeaderTimeout: fetcherPatience, MaxResponseHeaderBytes: 16 << 10, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// reasonName is the name of the reason that fits err; empty for the network.
func reasonName(err error) string {
	for _, r := range reasons {
		if !slices.ContainsFunc(r.is, func(is error) bool { return !errors.Is(err, is) }) {
			return r.name
		}
	}
	return ""
}

// saidByFetcher is the error that a fetcher reports.
func saidByFetcher(a *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(a.Body, reasonLimit))
	_ = a.Body.Close()
	text := strings.ToValidUTF8(strings.Join(strings.Fields(string(b)), " "), "")
	is := []error{ErrNetwork}
	for _, r := range reasons {
		if r.name == a.Header.Get(reasonHeader) {
			is = r.is
		}
	}
	first := is[0].Error() + ": "
	return &marked{first + strings.TrimPrefix(text, first), is}
}
