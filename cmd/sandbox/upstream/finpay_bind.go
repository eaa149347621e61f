package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pagePath is where a customer confirms a binding with the wallet's PIN; the path is the one of the document's sample.
const pagePath = "/partner/binding/pin-verification"

// link is an opened binding that waits for the customer.
type link struct {
	id       string
	phone    string
	token    string
	params   linkParams
	expires  time.Time
	done     bool
	authCode string
}

type linkParams struct {
	RedirectToDeeplink string `json:"redirectToDeeplink"`
}

type bindAnswer struct {
	snapBody
	RedirectURL  string     `json:"redirectUrl"`
	LinkageToken string     `json:"linkageToken"`
	Params       linkParams `json:"params"`
	LinkID       string     `json:"linkId"`
	ReferenceNo  string     `json:"referenceNo"`
}

// checkBind follows "Finpay, Account Binding". Its table says referenceNo and its sample refrenceNo; either is taken, not both.
func (f *finpay) checkBind(x *exchange) (carryOut, *reply) {
	return f.transaction(x, func(body object) (carryOut, *reply) {
		merchant, bad := body.text("merchantId", 1, 64, nil)
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		phone, bad := body.text("phoneNo", 1, 16, anyDigits)
		if bad != nil {
			return nil, f.badField(x, bad)
		}
		x.note(func(e *Exchange) { e.Subject = phone })
		reference := ""
		for _, name := range []string{"referenceNo", "refrenceNo"} {
			if _, there := body.values[name]; !there {
				continue
			}
			if reference != "" {
				return nil, f.badField(x, &fieldError{name, false, "the reference is given twice"})
			}
			if reference, bad = body.text(name, 1, 64, nil); bad != nil {
				return nil, f.badField(x, bad)
			}
			x.note(func(e *Exchange) { e.Reference = reference })
		}
		if bad := body.only("merchantId", "phoneNo", "referenceNo", "refrenceNo"); bad != nil {
			return nil, f.badField(x, bad)
		}
		return func() reply { return f.bind(x, merchant, phone, reference) }, nil
	})
}

// bind opens the customer's PIN page. It changes no account.
func (f *finpay) bind(x *exchange, merchant, phone, reference string) reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	if merchant != f.conf.MerchantID {
		x.violate("merchantId %s is not the configured one", clip(merchant))
		return *f.refuse(x, http.StatusNotFound, "08", "Invalid merchant")
	}
	if _, ok := f.customer(phone); !ok {
		return f.unknownCustomer(x)
	}
	if reference == "" {
		reference = f.number(137)
	}
	expires := f.s.now().Add(f.linkLife())
	l := &link{
		id:      f.number(621),
		phone:   phone,
		token:   linkageToken(phone, f.s.now(), expires),
		params:  linkParams{"https://snapstag.finnet.co.id/health"},
		expires: expires,
	}
	f.links.put(l.token, l)
	f.latest.put(phone, l)
	x.effect(Effect{Operation: "finpay.bind", Identity: x.externalID, Subject: phone})
	answer := bindAnswer{
		snapBody:     snapBody{"2000700", processed},
		RedirectURL:  f.pageURL(),
		LinkageToken: l.token,
		Params:       l.params,
		LinkID:       l.id,
		ReferenceNo:  reference,
	}
	right := mustJSON(answer)
	answer.LinkID, answer.ReferenceNo = f.number(621), f.number(137)
	return reply{status: http.StatusOK, code: answer.ResponseCode, done: true, body: right, stranger: mustJSON(answer)}
}

func (f *finpay) pageURL() string {
	if f.conf.Page == "tls" {
		return "https://" + f.end.address() + pagePath
	}
	return "http://" + f.s.Addr(Control) + pagePath
}

// linkageToken looks like the document's sample: a JWT that says RS256 and lives as long as the link. Nobody holds a key to verify it,
// so its signature is random.
func linkageToken(phone string, now, expires time.Time) string {
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"RS256"}`))
	claims := mustJSON(struct {
		IssuedAt  int64  `json:"iat"`
		NotBefore int64  `json:"nbf"`
		Expires   int64  `json:"exp"`
		ID        string `json:"jti"`
		Subject   string `json:"sub"`
		Audience  string `json:"aud"`
	}{now.Unix(), now.Unix(), expires.Unix(), opaque(16), "+62" + strings.TrimPrefix(phone, "0"), "140"})
	return head + "." + base64.RawURLEncoding.EncodeToString(claims) + "." + opaque(683)
}

// Reasons why [Server.Link] has nothing to complete.
var (
	ErrNoLink      = errors.New("no open binding for this phone")
	ErrLinkExpired = errors.New("the binding's page has expired")
)

// LinkResult is what the customer's phone ends with.
type LinkResult struct {
	LinkID string `json:"link_id"`
	// AuthCode can be exchanged once for a customer token.
	AuthCode string `json:"auth_code"`
	// RedirectURL is where the customer's browser is sent.
	RedirectURL string `json:"redirect_url"`
}

// complete is what the page does after the right wallet PIN. The lock is held.
func (f *finpay) complete(l *link) (LinkResult, error) {
	if l.done {
		return LinkResult{}, ErrNoLink
	}
	if !f.s.now().Before(l.expires) {
		return LinkResult{}, ErrLinkExpired
	}
	c, ok := f.customer(l.phone)
	if !ok {
		return LinkResult{}, ErrNoLink
	}
	l.done, c.linked = true, true
	l.authCode = opaque(48)
	f.tokens.authCodes.put(l.authCode, &token{phone: l.phone, expires: f.s.now().Add(f.linkLife())})
	f.s.ledger.effect(Effect{Provider: Finpay, Operation: "finpay.link", Identity: l.id, Subject: l.phone}, f.s.cfg.Now(), "")
	back := l.params.RedirectToDeeplink + "?" + url.Values{"authCode": {l.authCode}}.Encode()
	return LinkResult{LinkID: l.id, AuthCode: l.authCode, RedirectURL: back}, nil
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="id"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sandbox wallet</title>
<h1>Sandbox wallet</h1>
{{if .Token}}<form method="post"><input type="hidden" name="{{.Param}}" value="{{.Token}}">
<label>PIN <input name="pin" type="password" inputmode="numeric" pattern="[0-9]{6}" autocomplete="off" required></label>
<button>Link</button></form>{{else}}<p>{{.Text}}</p>{{end}}
</html>`))

// servePage is the customer's phone: GET shows the PIN form, POST with any six digits completes the binding.
func (f *finpay) servePage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	text := r.FormValue(f.conf.PageTokenParam)
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.links.get(text)
	show := func(status int, token, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		// An error here is the reader's connection.
		_ = pageTemplate.Execute(w, struct{ Param, Token, Text string }{f.conf.PageTokenParam, token, text})
	}
	switch {
	case !ok:
		show(http.StatusForbidden, "", "This link is not known.")
	case l.done:
		show(http.StatusGone, "", "This link has been used.")
	case !f.s.now().Before(l.expires):
		show(http.StatusGone, "", "This link has expired.")
	case r.Method == http.MethodGet:
		show(http.StatusOK, l.token, "")
	case r.Method != http.MethodPost:
		show(http.StatusMethodNotAllowed, "", "Use the form.")
	case !digits(r.FormValue("pin"), 6, 6):
		show(http.StatusBadRequest, l.token, "")
	default:
		done, err := f.complete(l)
		if err != nil {
			show(http.StatusGone, "", "This link has expired.")
			return
		}
		// What the bank's landing page does with the redirect's authCode.
		show(http.StatusOK, "", "Your account is linked. If the kiosk asks for a code, it is "+done.AuthCode)
	}
}

// link completes the newest binding of a phone.
func (f *finpay) link(phone string) (LinkResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, ok := f.latest.get(phone)
	if !ok {
		return LinkResult{}, fmt.Errorf("link %s: %w", phone, ErrNoLink)
	}
	done, err := f.complete(l)
	if err != nil {
		return LinkResult{}, fmt.Errorf("link %s: %w", phone, err)
	}
	return done, nil
}
