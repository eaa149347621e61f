package snap

import (
	"encoding/base64"
	"errors"
	"net/url"
	"sort"
	"strings"
	"time"

	"gardu/internal/txn"
)

const (
	maxLink     = 8 << 10
	maxLinkLife = time.Hour
)

// page is the customer's own page of a binding, as the answer to the first call
// gives it (Finpay, Account Binding).
type page struct {
	url    string // with the linkage token in it: a secret of the customer's
	domain string
	life   time.Duration
}

// parsePage reads redirectUrl, params and linkageToken. Its errors hold none of them.
func parsePage(o object, tokenParam string, fallback time.Duration) (page, error) {
	raw, ok := o.text("redirectUrl")
	if !ok {
		return page{}, errors.New("redirectUrl is missing")
	}
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return page{}, errors.New("redirectUrl is not an https address")
	}
	params, ok := o.object("params")
	if !ok {
		return page{}, errors.New("params is not an object")
	}
	q := u.Query()
	names := make([]string, 0, len(params))
	for name := range params {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		v, ok := params.text(name)
		if !ok {
			return page{}, errors.New("params holds something other than texts and numbers")
		}
		q.Set(name, v)
	}
	p := page{domain: u.Hostname(), life: fallback}
	if token, ok := o.text("linkageToken"); ok && token != "" {
		token = strings.Join(strings.Fields(token), "") // the sample is broken over lines
		q.Set(tokenParam, token)
		if life, ok := tokenSpan(token); ok {
			p.life = life
		}
	}
	u.RawQuery = q.Encode()
	p.url = u.String()
	if len(p.url) > maxLink {
		return page{}, errors.New("the address of the customer's page is too long")
	}
	return p, nil
}

// tokenSpan reads how long a JWT lives from its payload: exp less iat. The
// signature is the provider's own affair; this only sets a countdown.
func tokenSpan(jwt string) (time.Duration, bool) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return 0, false
	}
	o, err := parseObject(b)
	if err != nil {
		return 0, false
	}
	exp, ok1 := o.integer("exp")
	iat, ok2 := o.integer("iat")
	// Differences of unbounded numbers wrap around; real times are far below 2^40.
	const limit = 1 << 40
	if !ok1 || !ok2 || iat < 0 || exp > limit || exp <= iat {
		return 0, false
	}
	return time.Duration(min(exp-iat, int64(maxLinkLife/time.Second))) * time.Second, true
}

func (p page) data(d map[string]string) {
	d[txn.DataLinkURL] = p.url
	d[txn.DataLinkDomain] = p.domain
}
