package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gardu/internal/keystore"
)

// The mechanisms that the configuration may choose from, by what a key is for. An
// empty setting leaves the choice to what the token lists.
var (
	signMechanisms   = []keystore.Mechanism{keystore.MechanismSHA256RSAPKCS, keystore.MechanismRSAPKCS}
	kekMechanisms    = []keystore.Mechanism{keystore.MechanismAESGCM, keystore.MechanismOAEPSHA256, keystore.MechanismOAEPSHA1}
	clientMechanisms = []keystore.Mechanism{keystore.MechanismECDSA, keystore.MechanismPSS, keystore.MechanismRSAPKCS}
)

// checkMechanism holds one mechanism against those of its role.
func checkMechanism(bad problem, key string, m keystore.Mechanism, known []keystore.Mechanism) error {
	if m == "" || slices.Contains(known, m) {
		return nil
	}
	return bad(key, fmt.Sprintf("%q is no mechanism for it", string(m)), "give one of "+mechanismList(known)+", or leave it out")
}

func mechanismList(all []keystore.Mechanism) string {
	words := make([]string, len(all))
	for i, m := range all {
		words[i] = string(m)
	}
	return strings.Join(words, ", ")
}

// allowed is a mechanism of the configuration as the keystore takes it.
func allowed(m keystore.Mechanism) []keystore.Mechanism {
	if m == "" {
		return nil
	}
	return []keystore.Mechanism{m}
}

// proof is what became of one role when its key was asked to do its work.
type proof struct {
	Role      string             `json:"role"`
	Key       string             `json:"key"`
	Token     string             `json:"token"`
	Mechanism keystore.Mechanism `json:"mechanism"` // used, or wanted where it failed; empty for any
	Err       error              `json:"-"`
}

// Error is one sentence that names everything a person needs, and ends in what to do.
func (p *proof) Error() string {
	by := "by any mechanism of its kind"
	if p.Mechanism != "" {
		by = "by " + string(p.Mechanism)
	}
	return fmt.Sprintf("the token cannot serve role %s, key %s, token %s, %s: %v", p.Role, p.Key, p.Token, by, p.Err)
}

// Unwrap returns the cause.
func (p *proof) Unwrap() error { return p.Err }

// proveRoles has the key of each configured role do its work once, in order, and
// ends early when ctx does or the token goes: the others would say the same.
func (ag *agent) proveRoles(ctx context.Context) []proof {
	var all []proof
	for _, r := range ag.set.roles() {
		p := ag.proveRole(ctx, r)
		all = append(all, p)
		if passing(ctx, p.Err) {
			break
		}
	}
	return all
}

func (ag *agent) proveRole(ctx context.Context, r role) proof {
	p := proof{Role: r.name, Key: r.uri, Token: ag.set.Token.Token, Mechanism: r.mechanism}
	k, err := ag.keyOf(r)
	if err == nil {
		var used keystore.Mechanism
		if used, err = k.Prove(ctx); used != "" {
			p.Mechanism = used
		}
	}
	p.Err = err
	return p
}

// prover is a key of any kind.
type prover interface {
	Prove(ctx context.Context) (keystore.Mechanism, error)
}

// keyOf takes a role's key from the token, or gives what was taken before.
func (ag *agent) keyOf(r role) (prover, error) {
	switch r.kind {
	case keystore.KindHMAC:
		return once(ag.macs, r.uri, func(u string) (*keystore.MAC, error) { return ag.keys.MAC(u, allowed(r.mechanism)...) })
	case keystore.KindAES192:
		return once(ag.ciphers, r.uri, func(u string) (*keystore.Cipher, error) { return ag.keys.Cipher(u, 192) })
	case keystore.KindAES256, keystore.KindRSA3072Unwrap:
		return ag.wrapper(r.uri, r.mechanism)
	default:
		return ag.signer(r.uri, r.mechanism)
	}
}

func (ag *agent) wrapper(uri string, m keystore.Mechanism) (*keystore.Wrapper, error) {
	return once(ag.wrappers, uri, func(u string) (*keystore.Wrapper, error) { return ag.keys.Wrapper(u, allowed(m)...) })
}

func (ag *agent) signer(uri string, m keystore.Mechanism) (*keystore.Signer, error) {
	return once(ag.signers, uri, func(u string) (*keystore.Signer, error) { return ag.keys.Signer(u, allowed(m)...) })
}

// reportRoles says at start which role the token can serve, and by what.
func (ag *agent) reportRoles(ctx context.Context) {
	for _, p := range ag.proveRoles(ctx) {
		if p.Err == nil {
			ag.log.Info("key works", "role", p.Role, "key", p.Key, "mechanism", string(p.Mechanism))
			continue
		}
		if ctx.Err() != nil {
			return
		}
		ag.log.Error("key does not work", "role", p.Role, "key", p.Key, "token", p.Token, "mechanism", string(p.Mechanism), "error", p.Err)
	}
}
