package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// builtProvider is a configured provider as far as it could be built.
type builtProvider struct {
	provider
	built  txn.Provider // nil where it could not be
	client *wire.Client // likewise
	why    string       // why not
}

// token looks at the token, each key, the journal, and at the providers that are
// built upon them.
func (p *preflight) token(ctx context.Context, set *settings) {
	log := slog.New(slog.DiscardHandler)
	ag := newAgent(set, log)
	keys, err := set.openKeystore(log)
	if err == nil {
		ag.keys = keys
		defer func() { _ = keys.Close() }()
		err = keys.Ready(ctx)
	}
	if err != nil {
		p.tokenFailed(err)
		p.journalWithout(ctx, set)
		all := make([]builtProvider, len(set.providers))
		for i, one := range set.providers {
			all[i] = builtProvider{provider: one, why: "the token does not work"}
			if _, l := one.link(); l.ClientKey == "" {
				all[i].client, err = wire.New(l.Options)
				p.settings(one, err)
			}
		}
		p.platforms(ctx, all)
		p.repository(ctx, set, nil)
		return
	}
	p.ok("token", "%s", set.Token.Token)
	list, err := keys.List(ctx)
	if err != nil {
		p.failed(exitToken, "keys", err)
	} else {
		p.ok("keys", "%d objects", len(list))
	}
	for _, r := range set.roles() {
		one := ag.proveRole(ctx, r)
		if one.Err != nil {
			p.failed(exitToken, "key "+r.name, &one)
			p.dead = append(p.dead, r.uri)
			continue
		}
		p.ok("key "+r.name, "%s by %s%s", set.whereKept(r), one.Mechanism, ag.compared(ctx, r))
	}
	p.journal(ctx, ag)
	all := make([]builtProvider, len(set.providers))
	for i, one := range set.providers {
		all[i] = p.build(ctx, ag, one)
	}
	p.platforms(ctx, all)
	p.repository(ctx, set, ag)
}

// compared is the check value of a secret that a provider hands out: it works here
// whatever it is, and nothing but a customer's call tells whether it is theirs.
func (ag *agent) compared(ctx context.Context, r role) string {
	const block, shown = 16, 3 // bytes
	var value []byte
	k, err := ag.keyOf(r)
	if err == nil && r.given {
		switch k := k.(type) {
		case *keystore.MAC:
			value, err = k.Sum(ctx, nil)
		case *keystore.Cipher:
			value, err = k.EncryptCBC(ctx, make([]byte, block), make([]byte, block))
		}
	}
	if err != nil || len(value) < shown {
		return ""
	}
	return fmt.Sprintf("; compare its check value %x with the provider's, since no call without a customer proves it", value[:shown])
}

// tokenFailed judges a token that does not answer. A release that judges itself is
// not to blame for one that is away: it may be what mends that.
func (p *preflight) tokenFailed(err error) {
	c := keystore.ClassOf(err)
	if p.self && (c == keystore.ClassDevice || c == keystore.ClassSession) {
		p.warn("token", err.Error(), "")
		return
	}
	p.failed(exitToken, "token", err)
}

// build makes a provider as the agent does and says which of its operations are on.
func (p *preflight) build(ctx context.Context, ag *agent, one provider) builtProvider {
	b := builtProvider{provider: one, why: "it cannot be built"}
	_, l := one.link()
	if _, err := wire.New(l.Options); !p.settings(one, err) {
		b.why = "its settings cannot be used"
		return b
	}
	if o, err := ag.options(ctx, one.name, l); err == nil { // its error is build's too
		b.client, _ = wire.New(o)
		if o.Certificate != nil {
			p.ownCertificate(one.name, one.name+".tls.client_cert", o.Certificate.Leaf)
		}
	}
	built, policies, err := one.build(ctx, ag)
	switch {
	case err == nil:
	case slices.ContainsFunc(one.roles(), func(r role) bool { return slices.Contains(p.dead, r.uri) }):
		p.skip("provider "+one.name, "a key of it does not work, as said above")
		return b
	default:
		code := exitFailed
		if keystore.ClassOf(err) != keystore.ClassNone {
			code = exitToken
		}
		p.failed(code, "provider "+one.name, err)
		return b
	}
	b.built = built
	for _, pol := range policies {
		what := "operation " + string(pol.Operation)
		if pol.Enabled {
			p.ok(what, "on")
			continue
		}
		p.warn(what, "off: "+pol.Why, "")
	}
	return b
}

// ownCertificate says how long the kiosk's own certificate lives. One that is over is
// build's error.
func (p *preflight) ownCertificate(name, setting string, leaf *x509.Certificate) {
	what, left := "client certificate "+name, keystore.DaysLeft(leaf, time.Now())
	text := fmt.Sprintf("%q is valid until %s, %d days left", leaf.Subject.CommonName, leaf.NotAfter.Format(time.DateOnly), left)
	if left < certificateDays {
		p.warn(what, text, "have it issued anew ('gardu keys csr') and put it in the place of "+setting)
		return
	}
	p.ok(what, "%s", text)
}

// settings says what is wrong with a provider's [….tls], and reports whether nothing is.
func (p *preflight) settings(one provider, err error) bool {
	if err != nil {
		p.fail(exitFailed, "provider "+one.name, err.Error(), "correct it in ["+one.name+".tls]")
	}
	return err == nil
}
