package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// When a certificate's end and a clock's difference are worth a word.
const (
	certificateSoon = 30 * 24 * time.Hour
	clockApart      = 30 * time.Second
	clockRefused    = 2 * time.Minute // no platform refuses a time stamp for less
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
	begin, young := x.Begins()
	left := time.Until(end)
	text := fmt.Sprintf("%q is valid until %s", which, end.Format(time.DateOnly))
	do := "ask " + whose + " when it is renewed; from its end on nothing is sent"
	switch {
	case time.Until(begin) > 0: // most likely a machine without a battery for its clock
		p.fail(exitFailed, what, fmt.Sprintf("%q begins on %s, which is still to come by this machine's date", young, begin.Format(time.DateOnly)),
			"set this machine's date and time")
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
	pctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	proof := one.proof()
	if proof == "" {
		p.skip("access "+one.name, "this platform has no call that is without effect; the first customer's is the first")
		theirs, told := p.timeOf(pctx, one)
		p.clock(one.name, theirs, told, "what it is sent carries this machine's time as it is", false)
		return
	}
	what := proof + " " + one.name
	prober, ok := one.built.(txn.Prober)
	if !ok {
		p.skip(what, one.why)
		return
	}
	began := time.Now()
	err := prober.Probe(pctx)
	corrected := probeReason(err) == txn.ReasonClockCorrected
	if corrected { // and tried once more, as the agent does
		err = prober.Probe(pctx)
	}
	if err != nil {
		p.fail(exitNetwork, what, "not given: "+err.Error(), accessAdvice(probeReason(err), one.name))
	} else {
		p.ok(what, "given in %d ms, by a real signature", time.Since(began).Milliseconds())
	}
	if keeper, ok := one.built.(txn.Timekeeper); ok {
		theirs, told := keeper.Time()
		p.clock(one.name, theirs, told, "the agent corrects what it signs, and other programs do not", !corrected && probeReason(err) == txn.ReasonAuthRefused)
	}
}

// timeOf asks a platform without a call that is without effect for nothing but the
// time: a HEAD for its address, without a word on who asks.
func (p *preflight) timeOf(ctx context.Context, one builtProvider) (time.Time, bool) {
	address, _ := one.link()
	r, err := one.client.Do(ctx, wire.Request{Method: http.MethodHead, URL: address})
	if err != nil {
		return time.Time{}, false
	}
	t, err := http.ParseTime(r.Header.Get("Date"))
	return t, err == nil
}

// clock compares a provider's clock with ours. known says what a difference means.
// refused: it did not take our signature, and the agent did not correct the time by its
// answer.
func (p *preflight) clock(name string, theirs time.Time, told bool, known string, refused bool) {
	what := "clock " + name
	if !told {
		p.skip(what, "it did not tell its time")
		return
	}
	apart := time.Until(theirs).Round(time.Second)
	text := fmt.Sprintf("this machine and %s are %s apart", name, apart.Abs())
	switch {
	case apart.Abs() > clockRefused && refused:
		p.fail(exitFailed, what, text+", which the agent does not correct by itself (clock_tolerance, clock_bound)", "set this machine's date and time, then let a time service keep them")
	case apart.Abs() > clockApart:
		p.warn(what, text, "set this machine's clock by a time service; "+known)
	default:
		p.ok(what, "%s apart", apart.Abs())
	}
}

// probeReason is why a probe failed.
func probeReason(err error) txn.Reason {
	var pe *txn.ProbeError
	if errors.As(err, &pe) {
		return pe.Reason
	}
	return ""
}

// accessAdvice is what to do about an access that is not given.
func accessAdvice(why txn.Reason, name string) string {
	switch {
	case why == txn.ReasonThrottled:
		return "it wants to be asked less often: wait some minutes and check again"
	case why == txn.ReasonKeystore:
		return "see what the lines above say of the token and its keys"
	case why == txn.ReasonLinkDown:
		return "that is no word on our signature: ask " + name + " whether its token service works, see that base_url and token_path are theirs, and that nothing else answers in its place"
	}
	return "compare client id, keys, clock and token_path with " + name + "; 'gardu keys show' prints what they must know of the signing key"
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
		return err.Error() + "; see whether a firewall or a proxy on the way takes TLS apart, and ask " + whose + " what its side logged"
	}
	return fmt.Sprintf("%v; check the branch's line, name server and firewall, then %s in the configuration", err, setting)
}
