package main

import (
	"context"
	"errors"
	"time"

	"gardu/internal/config"
	"gardu/internal/keystore"
	"gardu/internal/prepaid"
	"gardu/internal/txn"
)

type prepaidSettings struct {
	prepaid.Config
	TLS            linkSettings `toml:"tls"`
	EnvelopeKey    string       `toml:"envelope_key"`
	APIKeyFile     string       `toml:"api_key_file"`
	SecureCodeFile string       `toml:"secure_code_file"`
}

func newPrepaidSettings() providerTable { return &prepaidSettings{Config: prepaid.Default()} }

func (s *prepaidSettings) check(all *settings, bad problem) error {
	var one *prepaid.SettingError
	switch err := s.Validate(); {
	case err == nil:
	case errors.As(err, &one):
		return bad("prepaid."+one.Setting, one.Problem, one.Hint)
	default:
		return bad("prepaid", err.Error(), "correct it")
	}
	if err := checkKey(bad, "prepaid.envelope_key", s.EnvelopeKey, "prepaid-envelope"); err != nil {
		return err
	}
	if err := s.TLS.check(bad, "prepaid"); err != nil {
		return err
	}
	if s.Verification == prepaid.VerifyByStaff && all.Screen.Staff == "" {
		return bad("screen.staff_file", "is missing, and prepaid.verification is \"staff\"", "name the file with the staff codes")
	}
	return nil
}

func (s *prepaidSettings) roles() []role {
	return append([]role{{"prepaid-envelope", s.EnvelopeKey, keystore.KindAES192, true, ""}}, s.TLS.roles("prepaid")...)
}

func (s *prepaidSettings) link() (string, *linkSettings) { return s.BaseURL, &s.TLS }

func (*prepaidSettings) proof() string { return "" }

func (s *prepaidSettings) build(ctx context.Context, ag *agent) (txn.Provider, []txn.Policy, error) {
	p, err := s.open(ctx, ag)
	if err != nil {
		return nil, []txn.Policy{{Operation: txn.PrepaidResetPIN, Provider: prepaid.Name, Settle: 15 * time.Minute}}, err
	}
	return p, p.Policies(), nil
}

func (s *prepaidSettings) open(ctx context.Context, ag *agent) (*prepaid.Provider, error) {
	key, err := once(ag.ciphers, s.EnvelopeKey, func(u string) (*keystore.Cipher, error) { return ag.keys.Cipher(u, 192) })
	if err != nil {
		return nil, err
	}
	const block = 16
	if _, err := key.EncryptCBC(ctx, make([]byte, block), make([]byte, block)); err != nil {
		return nil, err
	}
	var sec prepaid.Secrets
	if sec.APIKey, err = config.SecretFile(s.APIKeyFile); err != nil {
		return nil, err
	}
	if sec.SecureCode, err = config.SecretFile(s.SecureCodeFile); err != nil {
		return nil, err
	}
	c, err := ag.client(ctx, "prepaid", &s.TLS)
	if err != nil {
		return nil, err
	}
	return prepaid.New(s.Config, sec, key, prepaid.ScreenEntry{}, c, ag.log)
}
