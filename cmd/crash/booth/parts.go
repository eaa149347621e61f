package booth

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gardu/internal/audit"
	"gardu/internal/prepaid"
	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/snap"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// kek wraps keys with AES-256-GCM.
type kek struct {
	id   string
	aead cipher.AEAD
}

func newKEK(id string, key []byte) (*kek, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", id, err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", id, err)
	}
	return &kek{id, a}, nil
}

// ID implements queue.KEK.
func (k *kek) ID() string { return k.id }

// Wrap implements queue.KEK.
func (k *kek) Wrap(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	return k.aead.Seal(nil, nil, plaintext, aad), nil //nolint:gosec // G407: the AEAD makes its own random nonce
}

// Unwrap implements queue.KEK.
func (k *kek) Unwrap(_ context.Context, wrapped, aad []byte) ([]byte, error) {
	b, err := k.aead.Open(nil, nil, wrapped, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", queue.ErrKeyMismatch, err)
	}
	return b, nil
}

// mac is HMAC-SHA512 under a partner's secret.
type mac string

// Sum implements snap.MAC.
func (m mac) Sum(_ context.Context, data []byte) ([]byte, error) {
	h := hmac.New(sha512.New, []byte(m))
	h.Write(data)
	return h.Sum(nil), nil
}

// cbc is AES-CBC under the prepaid platform's key.
type cbc struct{ block cipher.Block }

// EncryptCBC implements prepaid.Cipher.
func (c cbc) EncryptCBC(_ context.Context, iv, plaintext []byte) ([]byte, error) {
	out := make([]byte, len(plaintext))
	cipher.NewCBCEncrypter(c.block, iv).CryptBlocks(out, plaintext)
	return out, nil
}

// DecryptCBC implements prepaid.Cipher.
func (c cbc) DecryptCBC(_ context.Context, iv, ciphertext []byte) ([]byte, error) {
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(c.block, iv).CryptBlocks(out, ciphertext)
	return out, nil
}

// offers builds the three providers as the agent does, with other keys.
func (cfg *Config) offers(log *slog.Logger) ([]txn.Offer, error) {
	key, err := x509.ParsePKCS8PrivateKey(cfg.Sign)
	if err != nil {
		return nil, fmt.Errorf("read the signing key: %w", err)
	}
	sign, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the signing key cannot sign")
	}
	client := func() (*wire.Client, error) {
		return wire.New(wire.Options{CAFile: cfg.CAFile, Timeout: wire.Duration(cfg.Call)})
	}
	var all []txn.Offer
	add := func(policies []txn.Policy, p txn.Provider) {
		for _, pol := range policies {
			if pol.Readback {
				pol.Quiet, pol.ReadbackEvery = cfg.Quiet, time.Second
			} else {
				pol.Settle = cfg.Settle
			}
			all = append(all, txn.Offer{Policy: pol, Provider: p})
		}
	}

	fin := snap.FinpayDefaults()
	fin.BaseURL, fin.ClientID, fin.ChannelID, fin.Origin, fin.MerchantID = "https://"+cfg.Finpay, cfg.ClientID, cfg.ChannelID, cfg.Origin, cfg.MerchantID
	h, err := client()
	if err != nil {
		return nil, err
	}
	f, err := snap.NewFinpay(fin, snap.Keys{Token: sign, Secret: mac(cfg.FinpaySecret)}, h, log, time.Now)
	if err != nil {
		return nil, err
	}
	add(snap.FinpayPolicies(), f)

	net := snap.NetzmeDefaults()
	net.BaseURL, net.ClientID, net.ChannelID = "https://"+cfg.Netzme, cfg.ClientID, cfg.ChannelID
	if h, err = client(); err != nil {
		return nil, err
	}
	n, err := snap.NewNetzme(net, snap.Keys{Token: sign, Secret: mac(cfg.NetzmeSecret)}, h, log, time.Now)
	if err != nil {
		return nil, err
	}
	add(snap.NetzmePolicies(), n)

	pre := prepaid.Default()
	pre.BaseURL, pre.ClientID, pre.BankID, pre.PINMax = "https://"+cfg.Prepaid, cfg.PrepaidClient, cfg.BankID, cfg.PINMax
	pre.Verification, pre.Offline, pre.OfflineApproval = prepaid.VerifyByStaff, prepaid.OfflineHold, "the campaign's own issuer"
	block, err := aes.NewCipher(cfg.EnvelopeKey)
	if err != nil {
		return nil, fmt.Errorf("read the envelope key: %w", err)
	}
	if h, err = client(); err != nil {
		return nil, err
	}
	p, err := prepaid.New(pre, prepaid.Secrets{
		APIKey: secret.Clone([]byte(cfg.APIKey)), SecureCode: secret.Clone([]byte(cfg.SecureCode)),
	}, cbc{block}, prepaid.ScreenEntry{}, h, log)
	if err != nil {
		return nil, err
	}
	add(p.Policies(), p)
	return all, nil
}

// recorder writes the engine's acts into the audit record, without a sync of its
// own as in the agent.
type recorder struct{ trail *audit.Trail }

// Record implements txn.Recorder.
func (r recorder) Record(ctx context.Context, act string, q *txn.Request, at *txn.Attempt, _ string) error {
	attrs := map[string]string{"operation": string(q.Operation), "state": string(q.State)}
	if at != nil {
		attrs["external_id"], attrs["outcome"] = at.ExternalID, at.Outcome.String()
	}
	_, err := r.trail.Append(ctx, audit.Entry{Act: act, Object: q.ID, Who: "agent", Attrs: attrs})
	return err
}

var (
	_ queue.KEK      = (*kek)(nil)
	_ snap.MAC       = mac("")
	_ prepaid.Cipher = cbc{}
	_ txn.Recorder   = recorder{}
)

// NewKey makes random bytes for a Config.
func NewKey(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return b
}
