package upstream

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// token is an issued access token, or a customer token if phone is set. Ended tokens are remembered, so that using one can be told
// from using a token that never was.
type token struct {
	client  string
	phone   string
	expires time.Time
	revoked bool
}

// tokenStore is guarded by the platform's mutex.
type tokenStore struct {
	access    *bounded[string, *token]
	refresh   *bounded[string, *token] // customer refresh tokens; used ones are revoked
	authCodes *bounded[string, *token] // from a completed binding; used ones are revoked
	active    map[string][]*token      // by client, those not known to be over
	issued    int
}

func newTokenStore(limit int) *tokenStore {
	return &tokenStore{
		access:    newBounded[string, *token](limit),
		refresh:   newBounded[string, *token](limit),
		authCodes: newBounded[string, *token](limit),
		active:    map[string][]*token{},
	}
}

func (t *tokenStore) issue(text string, tok *token, single bool, now time.Time) {
	if single {
		for _, old := range t.active[tok.client] {
			old.revoked = true
		}
	}
	t.active[tok.client] = slices.DeleteFunc(t.active[tok.client], func(old *token) bool {
		return old.revoked || !now.Before(old.expires)
	})
	t.active[tok.client] = append(t.active[tok.client], tok)
	t.access.put(text, tok)
	t.issued++
}

// revokeAll ends every access token, of customers too.
func (t *tokenStore) revokeAll() {
	t.access.each(func(_ string, tok *token) { tok.revoked = true })
	t.active = map[string][]*token{}
}

// revokeCustomers ends every access token of a customer, and none of a client.
func (t *tokenStore) revokeCustomers() {
	t.access.each(func(_ string, tok *token) { tok.revoked = tok.revoked || tok.phone != "" })
}

// issued is an access token as it stands at this moment: another exchange may end it in the next.
func (sp *snapPlatform) issued(text string) (token, bool) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	known, ok := sp.tokens.access.get(text)
	if !ok {
		return token{}, false
	}
	return *known, true
}

// opaque returns n random characters that need no escaping anywhere.
func opaque(n int) string {
	raw := make([]byte, (n*3+3)/4)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(raw)[:n]
}

type tokenAnswer struct {
	snapBody
	AccessToken            string `json:"accessToken"`
	TokenType              string `json:"tokenType"`
	ExpiresIn              any    `json:"expiresIn,omitempty"`
	AccessTokenExpiryTime  string `json:"accessTokenExpiryTime,omitempty"`
	RefreshToken           string `json:"refreshToken,omitempty"`
	RefreshTokenExpiryTime string `json:"refreshTokenExpiryTime,omitempty"`
}

// expiresIn gives the token's life in the JSON form agreed with the partner.
func (p *Partner) expiresIn(expires time.Time) any {
	switch p.ExpiresIn {
	case ExpiresInt:
		return p.TokenLifeSeconds
	case ExpiresDate:
		return expires.In(wib).Format(snapTime)
	}
	return strconv.Itoa(p.TokenLifeSeconds)
}

// tokenRequest checks a request for an access token: its headers, and the RSA signature over clientId|timestamp.
func (sp *snapPlatform) tokenRequest(x *exchange) (*partner, object, *reply) {
	if bad := contentType(x.r); bad != nil {
		return nil, object{}, sp.badField(x, bad)
	}
	timestamp, refusal := sp.timestamp(x)
	if refusal != nil {
		return nil, object{}, refusal
	}
	id, bad := header(x.r, "X-CLIENT-KEY", 1, 256, nil)
	if bad != nil {
		return nil, object{}, sp.badField(x, bad)
	}
	x.note(func(e *Exchange) { e.Client = clip(id) })
	given, bad := header(x.r, "X-SIGNATURE", 1, 4096, nil)
	if bad != nil {
		return nil, object{}, sp.badField(x, bad)
	}
	client := sp.clients[id]
	if client == nil {
		x.violate("X-CLIENT-KEY %s is not known", clip(id))
		return nil, object{}, sp.unauthorisedBecause(x, "Unknown Client")
	}
	if !verifyAsymmetric(client.key, id+"|"+timestamp, given, EncodingBase64) {
		x.violate("X-SIGNATURE (RSA, base64) is not the one of %s|%s", clip(id), timestamp)
		return nil, object{}, sp.unauthorisedBecause(x, "Signature")
	}
	body, err := parseObject(x.body)
	if err != nil {
		x.violate("the body cannot be read: %s", clip(err.Error()))
		return nil, object{}, sp.refuse(x, http.StatusBadRequest, "00", "Bad Request")
	}
	return client, body, nil
}

// checkToken is the access token of a client, service code 73.
func (sp *snapPlatform) checkToken(x *exchange) (carryOut, *reply) {
	client, body, refusal := sp.tokenRequest(x)
	if refusal != nil {
		return nil, refusal
	}
	if bad := body.only("grantType", "additionalInfo"); bad != nil {
		return nil, sp.badField(x, bad)
	}
	if _, bad := body.text("grantType", 1, 64, func(s string) bool { return s == "client_credentials" }); bad != nil {
		return nil, sp.badField(x, bad)
	}
	if _, there := body.values["additionalInfo"]; there {
		if _, bad := body.child("additionalInfo"); bad != nil {
			return nil, sp.badField(x, bad)
		}
	}
	return func() reply {
		now := sp.s.now()
		expires := now.Add(time.Duration(client.TokenLifeSeconds) * time.Second)
		text := opaque(sp.cfg.TokenLength)
		sp.mu.Lock()
		sp.tokens.issue(text, &token{client: client.ClientID, expires: expires}, sp.singleActive(client), now)
		sp.mu.Unlock()
		code := "200" + x.op.service + "00"
		return reply{status: http.StatusOK, code: code, done: true, body: mustJSON(tokenAnswer{
			snapBody:    snapBody{code, "Successful"},
			AccessToken: text,
			TokenType:   "Bearer",
			ExpiresIn:   client.expiresIn(expires),
		})}
	}, nil
}

func (sp *snapPlatform) singleActive(client *partner) bool {
	_, fault := sp.faults.find(KindSingleActiveToken)
	return client.SingleActiveToken || fault
}
