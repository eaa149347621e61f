package ui

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// door decides who may show the screen: tickets give cookies, cookies give
// pages, and a page's token opens a connection.
type door struct {
	life time.Duration
	key  []byte // authenticates cookies

	mu      sync.Mutex // guards what follows
	tickets []ticket
	newest  int64 // issue time of the newest cookie seen; older ones are void
	pages   []pageToken
	pageN   uint64
	inside  uint64 // the newest page that has opened a connection
}

type ticket struct {
	hash    [sha256.Size]byte
	expires time.Time
}

type pageToken struct {
	hash [sha256.Size]byte
	n    uint64
}

const (
	maxTickets = 16 // outstanding; the oldest goes first
	maxPages   = 8  // loaded pages whose token still works
	tokenBytes = 32
	cookieName = "gardu_screen"
)

// ErrCookieKey says that the key for the screen's cookie is too short.
var ErrCookieKey = errors.New("the cookie key needs at least 32 bytes")

func newDoor(life time.Duration, key []byte) (*door, error) {
	if key == nil {
		key = make([]byte, tokenBytes)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
	}
	if len(key) < tokenBytes {
		return nil, ErrCookieKey
	}
	return &door{life: life, key: key}, nil
}

func newToken() (string, error) {
	b := make([]byte, tokenBytes)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// issue makes a ticket that works once, within the ticket's life.
func (d *door) issue(now time.Time) (string, error) {
	t, err := newToken()
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.tickets) == maxTickets {
		d.tickets = append(d.tickets[:0:0], d.tickets[1:]...)
	}
	d.tickets = append(d.tickets, ticket{sha256.Sum256([]byte(t)), now.Add(d.life)})
	return t, nil
}

// redeem takes a ticket and returns a cookie. The comparison is of hashes and in
// constant time, so that timing tells nothing about a ticket.
func (d *door) redeem(t string, now time.Time) (cookie string, ok bool) {
	hash := sha256.Sum256([]byte(t))
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := d.tickets[:0:0]
	for _, have := range d.tickets {
		same := subtle.ConstantTimeCompare(have.hash[:], hash[:]) == 1
		fresh := now.Before(have.expires)
		ok = ok || same && fresh
		if fresh && !same {
			keep = append(keep, have)
		}
	}
	d.tickets = keep
	if !ok {
		return "", false
	}
	// Later than any cookie seen, also where the clock was set back.
	d.newest = max(d.newest+1, now.UnixMicro())
	return d.seal(d.newest), true
}

// seal makes a cookie of its issue time. It needs no list of cookies, so that one
// given before the agent was restarted works after it, where the key is the same.
func (d *door) seal(issued int64) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 8+sha256.Size), uint64(issued)) //nolint:gosec // G115: a time after 1970
	mac := hmac.New(sha256.New, d.key)
	mac.Write(b)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(b))
}

// admits reports whether a cookie is genuine and the newest one seen.
func (d *door) admits(cookie string) bool {
	b, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || len(b) != 8+sha256.Size {
		return false
	}
	mac := hmac.New(sha256.New, d.key)
	mac.Write(b[:8])
	if !hmac.Equal(mac.Sum(nil), b[8:]) {
		return false
	}
	issued := int64(binary.BigEndian.Uint64(b[:8])) //nolint:gosec // G115: authentic, so one we made
	d.mu.Lock()
	defer d.mu.Unlock()
	if issued < d.newest {
		return false
	}
	d.newest = issued
	return true
}

// page makes the token of one page load.
func (d *door) page() (string, error) {
	t, err := newToken()
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pageN++
	if len(d.pages) == maxPages {
		d.pages = append(d.pages[:0:0], d.pages[1:]...)
	}
	d.pages = append(d.pages, pageToken{sha256.Sum256([]byte(t)), d.pageN})
	return t, nil
}

// verdict on a page token.
type verdict int

const (
	tokenBad   verdict = iota // not one of ours
	tokenStale                // a newer page is in charge
	tokenGood
)

// charge reports whether a page token is that of the page in charge of the screen.
func (d *door) charge(token string) bool {
	hash := sha256.Sum256([]byte(token))
	d.mu.Lock()
	defer d.mu.Unlock()
	var n uint64
	for _, p := range d.pages {
		if subtle.ConstantTimeCompare(p.hash[:], hash[:]) == 1 {
			n = p.n
		}
	}
	return n != 0 && n == d.inside
}

// enter holds a page token against those given out. The newest page that came in
// is in charge; older ones stay out from then on. n is the number of a page that may.
func (d *door) enter(token string) (n uint64, is verdict) {
	hash := sha256.Sum256([]byte(token))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pages {
		if subtle.ConstantTimeCompare(p.hash[:], hash[:]) == 1 {
			n = p.n
		}
	}
	switch {
	case n == 0:
		return 0, tokenBad
	case n < d.inside:
		return 0, tokenStale
	}
	d.inside = n
	return n, tokenGood
}
