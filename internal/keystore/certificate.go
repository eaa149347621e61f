package keystore

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrCertificate says that certificate and key do not belong together, or that it
// is not for TLS clients, or that its time is not now.
var ErrCertificate = errors.New("client certificate cannot be used")

// Certificate returns a TLS certificate whose private key is this one. chain is PEM:
// the client's own certificate, then those between it and the root, if any. The
// certificate must be for this key (of several generations for any one, with which it
// then stays), for TLS clients, and valid now; Leaf is set. Its errors wrap
// ErrCertificate, or are those of the token, which is asked once.
func (g *Signer) Certificate(ctx context.Context, chain []byte, now time.Time) (*tls.Certificate, error) {
	const verb = "identify with"
	fail := func(hint, format string, args ...any) error {
		return &Error{Op: verb, Object: g.k.name, Err: fmt.Errorf("%w: %s", ErrCertificate, fmt.Sprintf(format, args...)), Hint: hint}
	}
	c := &tls.Certificate{}
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fail("put nothing but certificates into the file; the key stays in the token", "the file holds a %q", block.Type)
		}
		c.Certificate = append(c.Certificate, block.Bytes)
	}
	if len(c.Certificate) == 0 {
		return nil, fail("name a PEM file with the client certificate and those above it", "the file holds no certificate")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, fail("ask its issuer for the certificate again", "it cannot be read")
	}
	c.Leaf = leaf
	own, r, err := g.ofPublic(ctx, leaf.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	again := "have one issued for this key: `gardu keys csr`"
	switch {
	case own == nil:
		return nil, fail(again+"; or name the key it was issued for", "the first certificate of the file, %q, is for another key", leaf.Subject)
	case now.After(leaf.NotAfter):
		return nil, fail(again+"; and look at this machine's clock if that date is not over", "it expired on %s", leaf.NotAfter.Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return nil, fail("set this machine's clock, or wait", "it is not valid before %s", leaf.NotBefore.Format(time.DateTime))
	case len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return nil, fail("have one issued with the extended key usage clientAuth", "it is not for TLS clients")
	}
	c.PrivateKey = own
	c.SupportedSignatureAlgorithms, err = own.schemes(r)
	return c, err
}

// schemes are what TLS may ask this key for, the best first.
func (g *Signer) schemes(r *resolved) (all []tls.SignatureScheme, err error) {
	switch pub := r.public.(type) {
	case *rsa.PublicKey:
		if g.canPSS(r) {
			all = append(all, tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512)
		}
		if g.canPKCS1(r) {
			all = append(all, tls.PKCS1WithSHA256) // of TLS 1.2 only
		}
	case *ecdsa.PublicKey:
		if g.k.may(MechanismECDSA) && has(r.token, ckmECDSA, ckfSign) {
			all = append(all, map[int]tls.SignatureScheme{256: tls.ECDSAWithP256AndSHA256, 384: tls.ECDSAWithP384AndSHA384}[pub.Params().BitSize])
		}
	}
	if len(all) == 0 {
		return nil, explain("identify with", g.k.name, fmt.Errorf("%w: the token has no allowed mechanism for TLS, CKM_RSA_PKCS_PSS or CKM_RSA_PKCS or CKM_ECDSA", ErrUnsupported))
	}
	return all, nil
}

// DaysLeft is how many whole days a certificate is still valid, negative when it is
// not any more.
func DaysLeft(c *x509.Certificate, now time.Time) int {
	left := c.NotAfter.Sub(now)
	if left < 0 {
		return -1
	}
	return int(left / (24 * time.Hour))
}
