package update

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What can go wrong with a repository's files.
var (
	// ErrMissing: the repository has no such file.
	ErrMissing = errors.New("the repository has no such file")
	// ErrTooLong: a file is longer than it may be.
	ErrTooLong = errors.New("it is longer than it may be")
	// ErrNetwork: the repository could not be reached, or the way to it broke. Trying
	// again later may help.
	ErrNetwork = errors.New("the update repository cannot be reached")
	// ErrCertificate: the repository wants to know who asks, and this kiosk's client
	// certificate is missing, is refused, or its key does not work.
	ErrCertificate = errors.New("this kiosk cannot identify itself to the update repository")
	// ErrToken: an ErrCertificate that is the doing of the token; see OfToken.
	ErrToken = errors.New("the token")
)

const (
	dialTimeout    = 15 * time.Second
	answerTimeout  = 30 * time.Second
	metadataWhole  = 90 * time.Second // one metadata file
	stallTimeout   = 30 * time.Second // without a byte
	paceLeast      = 4 << 10          // bytes that must arrive in twice that time
	userAgent      = "gardu-update"
	missingDefault = http.StatusNotFound
)

// SourceOptions say how a repository is reached.
type SourceOptions struct {
	URL     string // https://host/path/, http:// to loopback only, or file:///folder
	CAFile  string // PEM; replaces the system's authorities
	Proxy   string // http://host:port
	Missing []int  // HTTP statuses that mean "no such file"; 404 always does
	// Certificate gives the certificate by which this kiosk identifies itself over
	// HTTPS; nil where it has none. It is asked once, before the first request. What it
	// fails with is an ErrToken where it says so by OfToken.
	Certificate func(context.Context) (*tls.Certificate, error)
	// Fetcher is the socket of one who goes to the network in our place, see
	// ServeFetches; empty: we go ourselves. The folder of a file:// URL is read here.
	Fetcher string
}

// Source is a repository: a folder of files behind HTTPS or on a stick.
type Source struct {
	base    *url.URL
	dir     string // of file://
	client  *http.Client
	missing []int
	stall   time.Duration
	fetcher string // its socket, where one is asked

	certificate func(context.Context) (*tls.Certificate, error)
	identity    sync.Mutex       // guards what follows
	mine        *tls.Certificate // once certificate has given it

	asked    atomic.Bool // the repository wanted a client certificate
	answered atomic.Bool // and has answered since
	requests atomic.Int64
	bytes    atomic.Int64
}

// NewSource checks the options. Nothing is opened yet.
func NewSource(o SourceOptions) (*Source, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("the repository's address %q: %w", o.URL, err)
	}
	s := &Source{base: u, missing: append([]int{missingDefault}, o.Missing...), stall: stallTimeout}
	switch {
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, errors.New("the repository's address holds more than a path; give https://host/path/")
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
		s.dir = filepath.Clean(u.Path)
		return s, nil
	case u.Scheme == "https" && u.Host != "":
	case u.Scheme == "http" && isLoopback(u.Hostname()):
	default:
		return nil, fmt.Errorf("the repository's address %q is not https://host/path/ or file:///folder", o.URL)
	}
	if o.Fetcher != "" {
		s.overFetcher(o.Fetcher)
		return s, nil
	}
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  answerTimeout,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true, // what is signed is counted as it is
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the repository's authorities: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate; give a PEM file", o.CAFile)
		}
	}
	if o.Proxy != "" {
		p, err := url.Parse(o.Proxy)
		if err != nil || p.Scheme != "http" || p.Host == "" || p.User != nil {
			return nil, errors.New("the proxy is not of the form http://host:port") // not repeated: it may hold a password
		}
		t.Proxy = http.ProxyURL(p)
	}
	if u.Scheme == "https" {
		s.certificate = o.Certificate
	}
	t.TLSClientConfig.GetClientCertificate = s.identify
	s.client = &http.Client{
		Transport: t,
		// A redirect is an answer: the files are where the configuration says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// identify implements tls.Config.GetClientCertificate.
func (s *Source) identify(want *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	s.asked.Store(true)
	s.identity.Lock()
	defer s.identity.Unlock()
	if s.mine != nil && want.SupportsCertificate(s.mine) == nil {
		return s.mine, nil
	}
	return new(tls.Certificate), nil // none; the host says what it makes of that
}

// takeCertificate takes the certificate before the first connection and not while one
// is being made, where a token that is slow would pass for a host that is.
func (s *Source) takeCertificate(ctx context.Context) error {
	s.identity.Lock()
	defer s.identity.Unlock()
	if s.certificate == nil || s.mine != nil {
		return nil
	}
	c, err := s.certificate(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	s.mine = c
	return nil
}

// refused reports what is to be said about a host that asked who we are and then ended
// the connection, or gave a status that may be about that; nil where it is not.
func (s *Source) refused(err error) error {
	if !s.asked.Load() || s.answered.Load() {
		return nil
	}
	// With TLS 1.3 the refusal comes after the handshake: as an alert, or as the end of
	// the connection where that was lost.
	var op *net.OpError
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) &&
		(!errors.As(err, &op) || op.Op != "remote error") {
		return nil
	}
	if s.certificate == nil {
		return fmt.Errorf("%w: it asks for a client certificate; set update.client_key and update.client_cert", ErrCertificate)
	}
	return fmt.Errorf("%w: it did not take the client certificate; see that its time is not over, and ask the publisher whether its authority is known there", ErrCertificate)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// Local reports whether the repository is a folder of this machine.
func (s *Source) Local() bool { return s.dir != "" }

// Count is how many requests were made and how many bytes of bodies came.
func (s *Source) Count() (requests, bytes int64) { return s.requests.Load(), s.bytes.Load() }

// Close lets idle connections go.
func (s *Source) Close() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
}

// Get reads a small file whole. Errors: ErrMissing, ErrTooLong, ErrNetwork.
func (s *Source) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, metadataWhole)
	defer cancel()
	r, from, size, err := s.Open(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if from != 0 || size > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes are offered, at most %d are read", name, ErrTooLong, size, limit)
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: at most %d bytes are read", name, ErrTooLong, limit)
	}
	return b, nil
}

// Open opens a file for reading from an offset. It says from where the bytes come,
// which is 0 where the host cannot resume, and how long the whole file is, -1
// where the host does not say. A read fails when nothing, or hardly anything,
// arrives for long.
func (s *Source) Open(ctx context.Context, name string, offset int64) (r io.ReadCloser, from, size int64, err error) {
	if s.dir != "" {
		return s.openFile(name, offset)
	}
	if err := s.takeCertificate(ctx); err != nil {
		return nil, 0, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	// Runs from here on, so that a host that takes the request and says nothing is let
	// go as soon as one that stops in the middle.
	timer := time.AfterFunc(s.stall, func() { cancel(errStalled) })
	defer func() {
		if err != nil {
			timer.Stop()
			cancel(nil)
		}
	}()
	u := s.base.JoinPath(strings.Split(name, "/")...)
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody) //nolint:gosec // G704: the host is the configured one, and the name stays below its folder
	if err != nil {
		return nil, 0, 0, err
	}
	q.Header.Set("User-Agent", userAgent)
	if offset > 0 {
		q.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	s.requests.Add(1)
	a, err := s.client.Do(q) //nolint:gosec // G704: likewise
	if err != nil {
		if s.fetcher != "" {
			return nil, 0, 0, fmt.Errorf("%w: the fetcher does not answer: %w; see 'systemctl status gardu-fetch.socket gardu-fetch.service'", ErrNetwork, err)
		}
		if why := s.refused(err); why != nil {
			return nil, 0, 0, fmt.Errorf("%w (%w: %w)", why, ErrNetwork, err)
		}
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	size = a.ContentLength
	switch {
	case s.fetcher != "" && a.StatusCode == http.StatusBadGateway:
		return nil, 0, 0, saidByFetcher(a)
	case a.StatusCode == http.StatusOK:
		s.answered.Store(true)
	case a.StatusCode == http.StatusPartialContent && offset > 0:
		from = offset
		if size, err = wholeSize(a.Header.Get("Content-Range"), offset); err != nil {
			_ = a.Body.Close()
			return nil, 0, 0, fmt.Errorf("%s: %w: %w", name, ErrNetwork, err)
		}
	case slices.Contains(s.missing, a.StatusCode):
		drain(a.Body)
		return nil, 0, 0, fmt.Errorf("%s: %w (HTTP status %d)", name, ErrMissing, a.StatusCode)
	case a.StatusCode >= 300 && a.StatusCode < 400:
		_ = a.Body.Close()
		return nil, 0, 0, fmt.Errorf("%s: %w: the host sends us elsewhere (HTTP status %d), which is not followed; give the final address", name, ErrNetwork, a.StatusCode)
	default:
		drain(a.Body)
		// What some hosts say instead of ending the connection.
		if a.StatusCode == http.StatusBadRequest || a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden {
			if why := s.refused(nil); why != nil {
				return nil, 0, 0, fmt.Errorf("%w (%w: HTTP status %d)", why, ErrNetwork, a.StatusCode)
			}
		}
		return nil, 0, 0, fmt.Errorf("%s: %w: HTTP status %d", name, ErrNetwork, a.StatusCode)
	}
	return &paced{body: a.Body, cancel: cancel, timer: timer, stall: s.stall, n: &s.bytes, window: time.Now()}, from, size, nil
}

// drain reads the little that an error page is, so that its connection can be used
// again.
func drain(r io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, r, 4<<10)
	_ = r.Close()
}

// wholeSize reads "bytes 100-199/200".
func wholeSize(h string, offset int64) (int64, error) {
	span, total, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "/")
	first, _, ok2 := strings.Cut(span, "-")
	if n, err := strconv.ParseInt(first, 10, 64); !ok || !ok2 || err != nil || n != offset {
		return 0, fmt.Errorf("the host answered another part (%q) than the one from %d on", h, offset)
	}
	if total == "*" {
		return -1, nil
	}
	n, err := strconv.ParseInt(total, 10, 64)
	if err != nil || n < offset {
		return 0, fmt.Errorf("the host's Content-Range %q makes no sense", h)
	}
	return n, nil
}

func (s *Source) openFile(name string, offset int64) (io.ReadCloser, int64, int64, error) {
	if !filepath.IsLocal(name) {
		return nil, 0, 0, fmt.Errorf("%s: %w", name, ErrMissing)
	}
	s.requests.Add(1)
	f, size, err := openRegular(filepath.Join(s.dir, filepath.FromSlash(name)))
	if absent(err) {
		if _, err := os.Stat(s.dir); err != nil {
			return nil, 0, 0, fmt.Errorf("%w: %w; is the stick plugged in and mounted?", ErrNetwork, err)
		}
		return nil, 0, 0, fmt.Errorf("%s: %w", name, ErrMissing)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	if offset > size {
		offset = 0
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	return &counted{f, &s.bytes}, offset, size, nil
}

type counted struct {
	io.ReadCloser

	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// paced ends a body that stands still or trickles.
type paced struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	n      *atomic.Int64
	window time.Time
	got    int64
}

var errStalled = errors.New("nothing came for too long")

func (p *paced) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	p.n.Add(int64(n))
	p.got += int64(n)
	if n > 0 {
		p.timer.Reset(p.stall)
	}
	if since := time.Since(p.window); since >= 2*p.stall {
		if p.got < paceLeast && err == nil {
			err = fmt.Errorf("%d bytes in %v is too slow", p.got, since.Round(time.Second))
		}
		p.window, p.got = time.Now(), 0
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	return n, err
}

func (p *paced) Close() error {
	p.timer.Stop()
	err := p.body.Close()
	p.cancel(nil)
	return err
}
