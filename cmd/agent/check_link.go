package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// When a certificate's end and a clock's difference are worth a word.
const (
	certificateSoon = 30 * 24 * time.Hour
	clockApart      = 30 * time.Second
	probeTime       = 30 * time.Second
)

// platforms looks at the way to each provider, phase by phase: what comes after one
// that does not work is skipped.
func (p *preflight) platforms(ctx context.Context, all []builtProvider) {
	if p.self {
		return
	}
	for _, one := range all {
		address, _ := one.link()
		if p.way(ctx, route{one.name, one.name, address, one.name + ".base_url", one.client, one.why}) {
			p.access(ctx, one)
			continue
		}
		if one.proof() != "" {
			p.skip(one.proof()+" "+one.name, "the way there does not work")
		}
	}
}

// repository looks at the way to the update repository, where there is one.
func (p *preflight) repository(ctx context.Context, set *settings, ag *agent) {
	u := set.Update
	if p.self || !strings.HasPrefix(u.Repository, "https://") {
		return
	}
	r := route{name: "update", whose: "the publisher of updates", address: u.Repository, setting: "update.repository"}
	o := wire.Options{CAFile: u.CAFile, Proxy: u.Proxy, MinTLS: "1.2"}
	var err error
	switch {
	case u.ClientKey == "":
	case ag == nil:
		r.why = "the token does not work"
	default:
		c, err := ag.certificate(ctx, r.name, "update", &u.clientSettings)
		if err != nil {
			p.failed(exitToken, "client certificate "+r.name, err)
			r.why = "there is no client certificate"
			break
		}
		o.Certificate = c.now
		p.ownCertificate(r.name, "update.client_cert", c.now.Leaf)
	}
	if r.why == "" {
		if r.client, err = wire.New(o); err != nil {
			p.fail(exitFailed, "link "+r.name, err.Error(), "correct it in [update]")
			return
		}
	}
	p.way(ctx, r)
}

// route is the way to another machine.
type route struct {
	name    string // of its lines
	whose   string // who can tell more
	address string
	setting string // that names the address
	client  *wire.Client
	why     string // there is none
}

// way looks at name, port, TLS and certificates, and reports whether a request
// would get there.
func (p *preflight) way(ctx context.Context, one route) bool {
	phases := []string{"name " + one.name, "link " + one.name, "tls " + one.name, "certificate " + one.name}
	if one.client == nil {
		for _, what := range phases {
			p.skip(what, one.why)
		}
		return false
	}
	defer one.client.Close()
	x := one.client.Examine(ctx, one.address)
	at := map[string]int{wire.OpRequest: 0, wire.OpResolve: 0, wire.OpConnect: 1, wire.OpProxy: 1, wire.OpTLS: 2}
	broken, failed := at[x.Failed]
	var we *wire.Error
	untrusted := errors.As(x.Err, &we) && we.Untrusted
	for i, what := range phases {
		switch {
		case failed && i == broken:
			p.fail(exitNetwork, what, linkError(one.whose, one.setting, x.Err), "")
		case failed && i > broken && i == 3 && untrusted && len(x.Chain) > 0:
			p.certificate(what, one.whose, x) // its dates may be the reason
		case failed && i > broken:
			p.skip(what, "not reached")
		case i == 0:
			p.ok(what, "%s is %s, in %d ms", hostOf(x), strings.Join(x.Addresses, " "), x.Resolving.Milliseconds())
		case i == 1:
			p.ok(what, "%s answers in %d ms%s", x.Remote, x.Dialing.Milliseconds(), through(x))
		case i == 2:
			p.ok(what, "%s, %s, in %d ms", x.TLS, x.Suite, x.Handshake.Milliseconds())
		default:
			p.certificate(what, one.whose, x)
		}
	}
	return x.Err == nil
}

func hostOf(x *wire.Examination) string {
	if x.Proxy != "" {
		return "the proxy of " + x.Host
	}
	return x.Host
}

func through(x *wire.Examination) string {
	if x.Proxy != "" {
		return ", the proxy to " + x.Host
	}
	return ""
}

// certificate says how long the other side's certificates live.
func (p *preflight) certificate(what, whose string, x *wire.Examination) {
	end, which := x.Expires()
	left := time.Until(end)
	text := fmt.Sprintf("%q is valid until %s", which, end.Format(time.DateOnly))
	do := "ask " + whose + " when it is renewed; from its end on nothing is sent"
	switch {
	case left <= 0:
		p.fail(exitNetwork, what, fmt.Sprintf("%q ended on %s", which, end.Format(time.DateOnly)), "check this machine's date, then ask "+whose+" for the new certificate")
	case left < certificateSoon:
		p.warn(what, fmt.Sprintf("%s, %d days left", text, int(left.Hours()/24)), do)
	default:
		p.ok(what, "%s, %d days left", text, int(left.Hours()/24))
	}
}

// access has the provider prove itself without an effect on a customer, and compares
// its clock with ours.
func (p *preflight) access(ctx context.Context, one builtProvider) {
	proof := one.proof()
	if proof == "" {
		p.skip("access "+one.name, "this platform has no call that is without effect; the first customer's is the first")
		return
	}
	what := proof + " " + one.name
	prober, ok := one.built.(txn.Prober)
	if !ok {
		p.skip(what, one.why)
		return
	}
	pctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	began := time.Now()
	if err := prober.Probe(pctx); err != nil {
		p.fail(exitNetwork, what, "not given: "+err.Error(), "compare client id, keys and clock with "+one.name+"; 'gardu keys show' prints what they must know of the signing key")
	} else {
		p.ok(what, "given in %d ms, by a real signature", time.Since(began).Milliseconds())
	}
	keeper, ok := one.built.(txn.Timekeeper)
	if !ok {
		return
	}
	theirs, known := keeper.Time()
	if !known {
		p.skip("clock "+one.name, "it did not tell its time")
		return
	}
	apart := time.Until(theirs).Round(time.Second)
	if apart.Abs() > clockApart {
		p.warn("clock "+one.name, fmt.Sprintf("this machine and %s are %s apart", one.name, apart.Abs()),
			"set this machine's clock by a time service; the agent corrects what it signs, and other programs do not")
		return
	}
	p.ok("clock "+one.name, "%s apart", apart.Abs())
}

// linkError says what to do about a link that does not work, in one sentence. Advice
// about lines and firewalls is for a link that is not there, and not for a
// certificate.
func linkError(whose, setting string, err error) string {
	var w *wire.Error
	switch {
	case errors.As(err, &w) && w.Hint != "" && strings.Contains(err.Error(), w.Hint):
		return err.Error()
	case errors.As(err, &w) && w.Hint != "":
		return err.Error() + "; " + w.Hint
	case errors.As(err, &w) && w.Op == wire.OpRequest:
		return err.Error() + "; correct " + setting
	case errors.As(err, &w) && w.Op == wire.OpTLS:
		return err.Error() + "; ask " + whose + " what its side logged"
	}
	return fmt.Sprintf("%v; check the branch's line, name server and firewall, then %s in the configuration", err, setting)
}
