package main

import (
	"context"
	"errors"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

type finpaySettings struct {
	snap.FinpayConfig
	TLS       wire.Options `toml:"tls"`
	SignKey   string       `toml:"sign_key"`   // access token, asymmetric transactions
	SecretKey string       `toml:"secret_key"` // symmetric transactions
}

func newFinpaySettings() providerTable { return &finpaySettings{FinpayConfig: snap.FinpayDefaults()} }

func (s *finpaySettings) check(_ *settings, bad problem) error {
	return firstError(snapProblem(bad, "finpay", s.Validate()), checkSnapKeys(bad, "finpay", s.Mode, s.SignKey, s.SecretKey))
}

func (s *finpaySettings) roles() []role {
	return snapRoles("finpay", s.Mode, s.SignKey, s.SecretKey, false)
}

func (s *finpaySettings) link() (string, wire.Options) { return s.BaseURL, s.TLS }

func (s *finpaySettings) build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error) {
	p, err := func() (txn.Provider, error) {
		keys, err := ag.snapKeys(ctx, s.Mode, s.SignKey, s.SecretKey)
		if err != nil {
			return nil, err
		}
		keys.Vault = &ag.vault
		c, err := wire.New(s.TLS)
		if err != nil {
			return nil, err
		}
		return snap.NewFinpay(s.FinpayConfig, keys, c, ag.log, time.Now)
	}()
	return p, snap.FinpayPolicies(), err
}

type netzmeSettings struct {
	snap.NetzmeConfig
	TLS       wire.Options `toml:"tls"`
	SignKey   string       `toml:"sign_key"`
	SecretKey string       `toml:"secret_key"`
}

func newNetzmeSettings() providerTable { return &netzmeSettings{NetzmeConfig: snap.NetzmeDefaults()} }

func (s *netzmeSettings) check(_ *settings, bad problem) error {
	return firstError(snapProblem(bad, "netzme", s.Validate()), checkSnapKeys(bad, "netzme", s.Mode, s.SignKey, s.SecretKey))
}

// Netzme hands the signing key out too.
func (s *netzmeSettings) roles() []role {
	return snapRoles("netzme", s.Mode, s.SignKey, s.SecretKey, true)
}

func (s *netzmeSettings) link() (string, wire.Options) { return s.BaseURL, s.TLS }

func (s *netzmeSettings) build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error) {
	p, err := func() (txn.Provider, error) {
		keys, err := ag.snapKeys(ctx, s.Mode, s.SignKey, s.SecretKey)
		if err != nil {
			return nil, err
		}
		c, err := wire.New(s.TLS)
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

func checkSnapKeys(bad problem, name, mode, sign, secret string) error {
	err := checkKey(bad, name+".sign_key", sign, name+"-sign")
	if err == nil && mode == snap.Symmetric {
		err = checkKey(bad, name+".secret_key", secret, name+"-secret")
	}
	return err
}

func snapRoles(name, mode, sign, secret string, signGiven bool) []role {
	all := []role{{name + " snap-sign", sign, keystore.KindRSA2048, signGiven}}
	if mode == snap.Symmetric {
		all = append(all, role{name + " snap-secret", secret, keystore.KindHMAC, true})
	}
	return all
}

// snapKeys takes a SNAP provider's keys from the token and asks for each once, so
// that a missing key is found now and not by the first customer.
func (ag *agent) snapKeys(ctx context.Context, mode, sign, secretURI string) (snap.Keys, error) {
	var k snap.Keys
	s, err := once(ag.signers, sign, func(u string) (*keystore.Signer, error) { return ag.keys.Signer(u) })
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
	m, err := once(ag.macs, secretURI, func(u string) (*keystore.MAC, error) { return ag.keys.MAC(u) })
	if err != nil {
		return k, err
	}
	if _, err := m.Sum(ctx, nil); err != nil {
		return k, err
	}
	k.Secret = m
	return k, nil
}
