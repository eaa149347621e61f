package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/wire"
)

// linkSettings is a provider's [….tls] table: what package wire needs, and the key in
// the token by which this kiosk identifies itself, where the platform asks for that.
type linkSettings struct {
	wire.Options
	ClientKey       string             `toml:"client_key"`  // pkcs11: URI of an EC or RSA key
	ClientCert      string             `toml:"client_cert"` // PEM: its certificate and those above it
	ClientMechanism keystore.Mechanism `toml:"client_mechanism"`
}

// check says what cannot be used, without the token. name is the provider's.
func (l *linkSettings) check(bad problem, name string) error {
	switch {
	case l.ClientKey == "" && l.ClientCert == "" && l.ClientMechanism == "":
		return nil
	case l.ClientKey == "":
		return bad(name+".tls.client_key", "is missing beside the other client settings", "name the key in the token, or take the others out")
	case l.ClientCert == "":
		return bad(name+".tls.client_cert", "is missing beside client_key", "name the PEM file with the certificate for that key")
	}
	return firstError(checkKey(bad, name+".tls.client_key", l.ClientKey, name+"-tls"),
		checkMechanism(bad, name+".tls.client_mechanism", l.ClientMechanism, clientMechanisms))
}

// roles is the key of the client certificate, if there is one.
func (l *linkSettings) roles(name string) []role {
	if l.ClientKey == "" {
		return nil
	}
	return []role{{name + " tls-client", l.ClientKey, keystore.KindECP256, false, l.ClientMechanism}}
}

// options are those of the link with the client certificate. The token is asked
// whose key it is; an error about certificate or token says what to do.
func (ag *agent) options(ctx context.Context, name string, l *linkSettings) (wire.Options, error) {
	o := l.Options
	if l.ClientKey == "" {
		return o, nil
	}
	chain, err := os.ReadFile(l.ClientCert)
	if err != nil {
		return o, &keystore.Error{Op: "read", Object: name + ".tls.client_cert", Err: err, Hint: "put the certificate there, readable for the service's user"}
	}
	key, err := ag.signer(l.ClientKey, l.ClientMechanism)
	if err != nil {
		return o, err
	}
	now := time.Now()
	if o.Certificate, err = key.Certificate(ctx, chain, now); err != nil {
		return o, err
	}
	ag.mu.Lock()
	if f := fingerprint(o.Certificate.Leaf); !slices.Contains(ag.shown, f) {
		ag.shown = append(ag.shown, f)
	}
	ag.mu.Unlock()
	if days := keystore.DaysLeft(o.Certificate.Leaf, now); days < certificateDays {
		ag.log.Warn("client certificate ends soon", "provider", name, "until", o.Certificate.Leaf.NotAfter.Format(time.DateOnly), "days_left", days)
	} else {
		ag.log.Info("client certificate", "provider", name, "until", o.Certificate.Leaf.NotAfter.Format(time.DateOnly), "days_left", days)
	}
	return o, nil
}

// fingerprint is that of a certificate's key, as keys have it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// certified refuses to destroy a key whose certificate is the one that a provider is
// shown: its link would end.
func (s *settings) certified(k *keyRow) error {
	for _, p := range s.providers {
		_, l := p.link()
		u, err := keystore.ParseURI(l.ClientKey)
		if err != nil || keystore.ParseName(u.Object).Base != k.Base {
			continue
		}
		chain, err := os.ReadFile(l.ClientCert)
		if err != nil {
			continue // a link without a certificate does not stand
		}
		block, _ := pem.Decode(chain)
		if block == nil {
			continue
		}
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil && fingerprint(leaf) == k.Fingerprint {
			return fmt.Errorf("nothing was destroyed: %s holds the certificate of %s, by which %s knows this kiosk; put the certificate of another generation there, restart gardu, and try again",
				l.ClientCert, k.Name, p.name)
		}
	}
	return nil
}

// certificateDays is how long before its end a certificate is worth a warning.
const certificateDays = 30

// client makes the client of one provider's link.
func (ag *agent) client(ctx context.Context, name string, l *linkSettings) (*wire.Client, error) {
	o, err := ag.options(ctx, name, l)
	if err != nil {
		return nil, err
	}
	return wire.New(o)
}
