package main

import (
	"context"
	"errors"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/snap"
	"gardu/internal/txn"
)

type finpaySettings struct {
	snap.FinpayConfig
	TLS linkSettings `toml:"tls"`
	snapKeySettings
}

func newFinpaySettings() providerTable { return &finpaySettings{FinpayConfig: snap.FinpayDefaults()} }

func (s *finpaySettings) check(_ *settings, bad problem) error {
	return firstError(snapProblem(bad, "finpay", s.Validate()), s.checkKeys(bad, "finpay", s.Mode), s.TLS.check(bad, "finpay"))
}

func (s *finpaySettings) roles() []role {
	return append(s.keyRoles("finpay", s.Mode, false), s.TLS.roles("finpay")...)
}

func (s *finpaySettings) link() (string, *linkSettings) { return s.BaseURL, &s.TLS }

func (*finpaySettings) proof() string { return "access token" }

func (s *finpaySettings) build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error) {
	p, err := func() (txn.Provider, error) {
		keys, err := ag.snapKeys(ctx, s.Mode, &s.snapKeySettings)
		if err != nil {
			return nil, err
		}
		keys.Vault = &ag.vault
		c, err := ag.client(ctx, "finpay", &s.TLS)
		if err != nil {
			return nil, err
		}
		return snap.NewFinpay(s.FinpayConfig, keys, c, ag.log, time.Now)
	}()
	return p, snap.FinpayPolicies(), err
}

type netzmeSettings struct {
	snap.NetzmeConfig
	TLS linkSettings `toml:"tls"`
	snapKeySettings
}

func newNetzmeSettings() providerTable { return &netzmeSettings{NetzmeConfig: snap.NetzmeDefaults()} }

func (s *netzmeSettings) check(_ *settings, bad problem) error {
	return firstError(snapProblem(bad, "netzme", s.Validate()), s.checkKeys(bad, "netzme", s.Mode), s.TLS.check(bad, "netzme"))
}

// Netzme hands the signing key out too.
func (s *netzmeSettings) roles() []role {
	return append(s.keyRoles("netzme", s.Mode, true), s.TLS.roles("netzme")...)
}

func (s *netzmeSettings) link() (string, *linkSettings) { return s.BaseURL, &s.TLS }

func (*netzmeSettings) proof() string { return "access token" }

func (s *netzmeSettings) build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error) {
	p, err := func() (txn.Provider, error) {
		keys, err := ag.snapKeys(ctx, s.Mode, &s.snapKeySettings)
		if err != nil {
			return nil, err
		}
		c, err := ag.client(ctx, "netzme", &s.TLS)
		if err != nil {
			return nil, err
		}
		return snap.NewNetzme(s.NetzmeConfig, keys, c, ag.log, time.Now)
	}()
	return p, snap.NetzmePolicies(), err
}

func snapProblem(bad problem, name string, err error) error {
	var one *snap.SettingError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &one):
		return bad(name+"."+one.Setting, one.Problem, "then run gardu check")
	}
	return bad(name, err.Error(), "correct it")
}

// snapKeySettings are the keys of a SNAP provider.
type snapKeySettings struct {
	SignKey       string             `toml:"sign_key"` // access token, asymmetric transactions
	SignMechanism keystore.Mechanism `toml:"sign_mechanism"`
	SecretKey     string             `toml:"secret_key"` // symmetric transactions
}

func (s *snapKeySettings) checkKeys(bad problem, name, mode string) error {
	err := firstError(checkKey(bad, name+".sign_key", s.SignKey, name+"-sign"),
		checkMechanism(bad, name+".sign_mechanism", s.SignMechanism, signMechanisms))
	if err == nil && mode == snap.Symmetric {
		err = checkKey(bad, name+".secret_key", s.SecretKey, name+"-secret")
	}
	return err
}

func (s *snapKeySettings) keyRoles(name, mode string, signGiven bool) []role {
	all := []role{{name + " snap-sign", s.SignKey, keystore.KindRSA2048, signGiven, s.SignMechanism}}
	if mode == snap.Symmetric {
		all = append(all, role{name + " snap-secret", s.SecretKey, keystore.KindHMAC, true, ""})
	}
	return all
}

// snapKeys takes a SNAP provider's keys from the token and asks for each once, so
// that a missing key is found now and not by the first customer.
func (ag *agent) snapKeys(ctx context.Context, mode string, set *snapKeySettings) (snap.Keys, error) {
	var k snap.Keys
	s, err := ag.signer(set.SignKey, set.SignMechanism)
	if err != nil {
		return k, err
	}
	if _, err := s.PublicKey(ctx); err != nil {
		return k, err
	}
	k.Token = s
	if mode == snap.Asymmetric {
		k.Transaction = s
		return k, nil
	}
	m, err := once(ag.macs, set.SecretKey, func(u string) (*keystore.MAC, error) { return ag.keys.MAC(u) })
	if err != nil {
		return k, err
	}
	if _, err := m.Sum(ctx, nil); err != nil {
		return k, err
	}
	k.Secret = m
	return k, nil
}
