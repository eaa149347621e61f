package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"
)

// Duration is a time.Duration that a configuration file writes as "30s".
type Duration time.Duration

// UnmarshalText reads Go's notation: "500ms", "30s", "15m".
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration; write for example \"30s\" or \"5m\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Options say how to reach one platform. Zero fields take the defaults.
type Options struct {
	CAFile  string   `toml:"ca_file"`  // PEM; replaces the system's authorities
	MinTLS  string   `toml:"min_tls"`  // "1.3" (default) or "1.2", the latter with AEAD suites only
	PinSPKI []string `toml:"pin_spki"` // base64 SHA-256 of a public key; one of the verified chain's keys must match
	Proxy   string   `toml:"proxy"`    // "http://host:port"; "" is none
	MaxBody int64    `toml:"max_body"` // bytes of an answer's body; default 1 MiB

	DialTimeout   Duration `toml:"dial_timeout"`   // name resolution and connect; default 10 s
	TLSTimeout    Duration `toml:"tls_timeout"`    // handshake; default 10 s
	HeaderTimeout Duration `toml:"header_timeout"` // from sending to the end of the answer's head; default 20 s
	Timeout       Duration `toml:"timeout"`        // the whole exchange; default 30 s
	IdleTimeout   Duration `toml:"idle_timeout"`   // an unused connection is reused only this long; default 15 s

	// Certificate identifies this kiosk to the platform, where it asks for that.
	// Its PrivateKey may be any crypto.Signer; for TLS 1.3 an RSA key must be able
	// to make PSS signatures.
	Certificate *tls.Certificate `toml:"-"`
	// Renewed, where set, is asked at each handshake in which the platform wants a
	// certificate; what it returns takes Certificate's place, so that one that was
	// renewed is shown from the next connection on. nil stays with Certificate. It may
	// take as long as TLSTimeout allows and is called by several goroutines.
	Renewed func(context.Context) *tls.Certificate `toml:"-"`
}

const (
	defaultMaxBody = 1 << 20
	maxHead        = 64 << 10
	// As many as calls may be under way at a time ([limits] in_flight): with fewer, each
	// burst after an outage would shake hands again and again.
	maxIdlePerHost = 64
)

func (o Options) withDefaults() Options {
	def := func(d *Duration, v time.Duration) {
		if *d == 0 {
			*d = Duration(v)
		}
	}
	def(&o.DialTimeout, 10*time.Second)
	def(&o.TLSTimeout, 10*time.Second)
	def(&o.HeaderTimeout, 20*time.Second)
	def(&o.Timeout, 30*time.Second)
	def(&o.IdleTimeout, 15*time.Second)
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.MinTLS == "" {
		o.MinTLS = "1.3"
	}
	return o
}

// check names the setting that cannot be used.
func (o Options) check() error {
	for _, d := range []struct {
		name string
		v    Duration
	}{
		{"dial_timeout", o.DialTimeout}, {"tls_timeout", o.TLSTimeout},
		{"header_timeout", o.HeaderTimeout}, {"timeout", o.Timeout}, {"idle_timeout", o.IdleTimeout},
	} {
		if d.v < 0 {
			return fmt.Errorf("%s is negative; give a duration such as \"10s\"", d.name)
		}
	}
	if o.MaxBody < 0 {
		return errors.New("max_body is negative; give a number of bytes")
	}
	return nil
}

// proxyAddress reads the proxy setting into host:port; "" is none.
func (o Options) proxyAddress() (string, error) {
	if o.Proxy == "" {
		return "", nil
	}
	u, err := url.Parse(o.Proxy)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" ||
		u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		// The value is not repeated: it may hold a password.
		return "", errors.New("proxy is not of the form \"http://host:port\"; give exactly that, without a user name")
	}
	return u.Host, nil
}

func (o Options) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
	}
	switch o.MinTLS {
	case "1.3":
	case "1.2":
		c.MinVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}
	default:
		return nil, fmt.Errorf("min_tls %q is not known; use \"1.3\" or \"1.2\"", o.MinTLS)
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file cannot be read: %w; put the authority's PEM file there, readable for the service's user, or leave ca_file out for the system's authorities", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file %s holds no certificate; give a PEM file", o.CAFile)
		}
	}
	pins := make([][]byte, 0, len(o.PinSPKI))
	for _, p := range o.PinSPKI {
		b, err := base64.StdEncoding.DecodeString(p)
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("pin_spki %q is not the base64 of a SHA-256 digest (44 characters)", p)
		}
		pins = append(pins, b)
	}
	if len(pins) > 0 {
		c.VerifyConnection = func(s tls.ConnectionState) error { return checkPins(s, pins) }
	}
	return c, nil
}

// errPin: the chain is valid but holds none of the pinned keys.
var errPin = errors.New("no key of the certificate chain is pinned")

// pinOf is what pin_spki holds of a certificate's key.
func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func checkPins(s tls.ConnectionState, pins [][]byte) error {
	for _, chain := range s.VerifiedChains {
		for _, cert := range chain {
			sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			for _, p := range pins {
				if subtle.ConstantTimeCompare(sum[:], p) == 1 {
					return nil
				}
			}
		}
	}
	if len(s.PeerCertificates) == 0 {
		return errPin
	}
	return fmt.Errorf("%w; the platform's own is %s", errPin, pinOf(s.PeerCertificates[0]))
}

// clearBytes empties a buffer that held a request: its body may have been a secret.
func clearBytes(b *bytes.Buffer) {
	all := b.Bytes()
	clear(all[:cap(all)])
	b.Reset()
}
