package upstream

import (
	"net/http"
	"strings"
	"time"
)

const refreshLife = 30 * 24 * time.Hour

// revokeCustomer ends everything that a customer's bindings gave. The lock is held.
func (t *tokenStore) revokeCustomer(phone string) {
	for _, store := range []*bounded[string, *token]{t.access, t.refresh, t.authCodes} {
		store.each(func(_ string, tok *token) { tok.revoked = tok.revoked || tok.phone == phone })
	}
}

// checkCustomerToken is the customer token, service code 74: for an authorisation code of a completed binding, or a refresh token.
func (sp *snapPlatform) checkCustomerToken(x *exchange) (carryOut, *reply) {
	client, body, refusal := sp.tokenRequest(x)
	if refusal != nil {
		return nil, refusal
	}
	if bad := body.only("grantType", "authCode", "refreshToken", "additionalInfo"); bad != nil {
		return nil, sp.badField(x, bad)
	}
	grant, bad := body.text("grantType", 1, 64, func(s string) bool { return s == "authorization_code" || s == "refresh_token" })
	if bad != nil {
		return nil, sp.badField(x, bad)
	}
	field, most, from := "authCode", 256, sp.tokens.authCodes
	if grant == "refresh_token" {
		field, most, from = "refreshToken", 512, sp.tokens.refresh
	}
	ticket, bad := body.text(field, 1, most, nil)
	if bad != nil {
		return nil, sp.badField(x, bad)
	}
	if bad := body.only("grantType", field, "additionalInfo"); bad != nil {
		return nil, sp.badField(x, bad)
	}
	if _, there := body.values["additionalInfo"]; there {
		if _, bad := body.child("additionalInfo"); bad != nil {
			return nil, sp.badField(x, bad)
		}
	}
	return func() reply {
		now := sp.s.now()
		sp.mu.Lock()
		defer sp.mu.Unlock()
		old, ok := from.get(ticket)
		if ok && old.client != "" && old.client != client.ClientID {
			x.violate("the %s was given to another client", field)
			ok = false
		}
		if !ok || old.revoked || !now.Before(old.expires) {
			return *sp.refuse(x, http.StatusUnauthorized, "02", "Invalid Customer Token")
		}
		old.revoked = true
		life := time.Duration(client.TokenLifeSeconds) * time.Second
		text, refresh := opaque(sp.cfg.TokenLength), opaque(64)
		sp.tokens.access.put(text, &token{client: client.ClientID, phone: old.phone, expires: now.Add(life)})
		sp.tokens.refresh.put(refresh, &token{client: client.ClientID, phone: old.phone, expires: now.Add(refreshLife)})
		code := "200" + x.op.service + "00"
		return reply{status: http.StatusOK, code: code, done: true, body: mustJSON(tokenAnswer{
			snapBody:               snapBody{code, "Successful"},
			AccessToken:            text,
			TokenType:              "Bearer",
			ExpiresIn:              client.expiresIn(now.Add(life)),
			AccessTokenExpiryTime:  now.Add(life).In(wib).Format(snapTime),
			RefreshToken:           refresh,
			RefreshTokenExpiryTime: now.Add(refreshLife).In(wib).Format(snapTime),
		})}
	}, nil
}

// customerToken checks Authorization-Customer and X-DEVICE-ID where the operation is configured to need them.
//
// It returns whose token it is, "" where the operation needs none.
func (sp *snapPlatform) customerToken(x *exchange, client *partner) (phone string, _ *reply) {
	if !sp.customerOps[x.op.name] {
		if x.r.Header.Get("Authorization-Customer") != "" {
			x.violate("Authorization-Customer is sent to an operation that does not take it")
		}
		return "", nil
	}
	if _, bad := header(x.r, "X-DEVICE-ID", 1, 400, nil); bad != nil {
		return "", sp.badField(x, bad)
	}
	value, bad := header(x.r, "Authorization-Customer", 1, 8192, func(s string) bool { return strings.HasPrefix(s, "Bearer ") && len(s) > 7 })
	if bad != nil {
		return "", sp.badField(x, bad)
	}
	known, ok := sp.issued(strings.TrimPrefix(value, "Bearer "))
	switch {
	case !ok || known.phone == "":
		x.violate("the customer token was never issued")
		return "", sp.refuse(x, http.StatusUnauthorized, "04", "Customer Token Not Found")
	case known.client != client.ClientID:
		x.violate("the customer token was issued to another client")
		return "", sp.refuse(x, http.StatusUnauthorized, "02", "Invalid Customer Token")
	case known.revoked || !sp.s.now().Before(known.expires):
		return "", sp.refuse(x, http.StatusUnauthorized, "02", "Invalid Customer Token")
	}
	return known.phone, nil
}

// ownToken refuses a customer token that is not of the customer whom the request is about.
func (sp *snapPlatform) ownToken(x *exchange, owner string) *reply {
	var subject string
	x.note(func(e *Exchange) { subject = e.Subject })
	if subject == owner {
		return nil
	}
	x.violate("the customer token is of another customer than the request")
	return sp.refuse(x, http.StatusUnauthorized, "02", "Invalid Customer Token")
}
