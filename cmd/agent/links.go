package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/wire"
)

// linkSettings is a provider's [….tls] table: what package wire needs, and how this
// kiosk identifies itself, where the platform asks for that.
type linkSettings struct {
	wire.Options
	clientSettings
}

// clientSettings are the key in the token by which this kiosk identifies itself to
// another machine, and its certificate.
type clientSettings struct {
	ClientKey       string             `toml:"client_key"`  // pkcs11: URI of an EC or RSA key
	ClientCert      string             `toml:"client_cert"` // PEM: its certificate and those above it
	ClientMechanism keystore.Mechanism `toml:"client_mechanism"`
}

// check says what cannot be used, without the token. table is where the settings
// stand, such as "finpay.tls"; example is a name for the key.
func (c *clientSettings) check(bad problem, table, example string) error {
	switch {
	case c.ClientKey == "" && c.ClientCert == "" && c.ClientMechanism == "":
		return nil
	case c.ClientKey == "":
		return bad(table+".client_key", "is missing beside the other client settings", "name the key in the token, or take the others out")
	case c.ClientCert == "":
		return bad(table+".client_cert", "is missing beside client_key", "name the PEM file with the certificate for that key")
	}
	return firstError(checkKey(bad, table+".client_key", c.ClientKey, example),
		checkMechanism(bad, table+".client_mechanism", c.ClientMechanism, clientMechanisms))
}

// check says what cannot be used, without the token. name is the provider's.
func (l *linkSettings) check(bad problem, name string) error {
	return l.clientSettings.check(bad, name+".tls", name+"-tls")
}

// roles is the key of the client certificate, if there is one.
func (c *clientSettings) roles(name string) []role {
	if c.ClientKey == "" {
		return nil
	}
	return []role{{name + " tls-client", c.ClientKey, keystore.KindECP256, false, c.ClientMechanism}}
}

// options are those of the link with the client certificate. The token is asked
// whose key it is; an error about certificate or token says what to do.
func (ag *agent) options(ctx context.Context, name string, l *linkSettings) (wire.Options, error) {
	o := l.Options
	if l.ClientKey == "" {
		return o, nil
	}
	live, err := ag.certificate(ctx, name, name+".tls", &l.clientSettings)
	if err != nil {
		return o, err
	}
	o.Certificate, o.Renewed = live.now, live.current
	return o, nil
}

// renewalPause is how long a certificate's file that cannot be used, or is not valid
// yet, is left alone before it is read again.
const renewalPause = time.Minute

// liveCertificate is a client certificate as its file has it: a renewed one is used
// from the next connection on.
type liveCertificate struct {
	ag         *agent
	name, file string
	key        *keystore.Signer

	mu    sync.Mutex // guards what follows
	now   *tls.Certificate
	seen  fileStamp // the file that now came from
	tried fileStamp // one that could not be used,
	again time.Time // and when it is looked at again
}

// fileStamp tells one state of a file from another.
type fileStamp struct {
	changed time.Time
	size    int64
	inode   uint64
}

func stampOf(file string) (fileStamp, error) {
	st, err := os.Stat(file)
	if err != nil {
		return fileStamp{}, err
	}
	s := fileStamp{changed: st.ModTime(), size: st.Size()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s, nil
}

// certificate reads the client certificate of a link. table is where its settings
// stand.
func (ag *agent) certificate(ctx context.Context, name, table string, c *clientSettings) (*liveCertificate, error) {
	stamp, err := stampOf(c.ClientCert)
	if err != nil {
		return nil, &keystore.Error{Op: "read", Object: table + ".client_cert", Err: err, Hint: "put the certificate there, readable for the service's user"}
	}
	key, err := ag.signer(c.ClientKey, c.ClientMechanism)
	if err != nil {
		return nil, err
	}
	l := &liveCertificate{ag: ag, name: name, file: c.ClientCert, key: key}
	return l, l.read(ctx, stamp)
}

// current is the certificate of the file as it is now. Where that one cannot be used,
// the one before goes on: it may be good for days yet. It is a wire.Options.Renewed.
func (l *liveCertificate) current(ctx context.Context) *tls.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	stamp, err := stampOf(l.file)
	if err != nil || stamp == l.seen || stamp == l.tried && time.Now().Before(l.again) {
		return l.now // a file that is away is about to be put in its place
	}
	if err := l.read(ctx, stamp); err != nil && ctx.Err() == nil {
		if stamp != l.tried {
			l.ag.log.Error("the renewed client certificate cannot be used; the one before goes on", "provider", l.name, "file", l.file, "error", err)
		}
		l.tried, l.again = stamp, time.Now().Add(renewalPause)
	}
	return l.now
}

// read takes the certificate from the file. The caller holds mu, where somebody else
// may be there.
func (l *liveCertificate) read(ctx context.Context, stamp fileStamp) error {
	chain, err := os.ReadFile(l.file)
	if err != nil {
		return &keystore.Error{Op: "read", Object: l.file, Err: err, Hint: "make it readable for the service's user"}
	}
	now := time.Now()
	c, err := l.key.Certificate(ctx, chain, now)
	if errors.Is(err, keystore.ErrCertificate) {
		// The generation that it was issued for may be newer than what is known of the key.
		if _, e := l.ag.keys.Refresh(ctx); e == nil {
			c, err = l.key.Certificate(ctx, chain, now)
		}
	}
	if err != nil {
		return err
	}
	l.now, l.seen = c, stamp
	l.ag.mu.Lock()
	l.ag.shown[l.name] = fingerprint(c.Leaf)
	l.ag.mu.Unlock()
	if days := keystore.DaysLeft(c.Leaf, now); days < certificateDays {
		l.ag.log.Warn("client certificate ends soon", "provider", l.name, "until", c.Leaf.NotAfter.Format(time.DateOnly), "days_left", days)
	} else {
		l.ag.log.Info("client certificate", "provider", l.name, "until", c.Leaf.NotAfter.Format(time.DateOnly), "days_left", days)
	}
	return nil
}

// fingerprint is that of a certificate's key, as keys have it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// certified refuses to destroy a key whose certificate is the one that somebody is
// shown: the link would end.
func (s *settings) certified(k *keyRow) error {
	shown := map[string]*clientSettings{"the update repository": &s.Update.clientSettings}
	for _, p := range s.providers {
		_, l := p.link()
		shown[p.name] = &l.clientSettings
	}
	for name, l := range shown {
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
			return fmt.Errorf("nothing was destroyed: %s holds the certificate of %s, by which %s knows this kiosk; put the certificate of another generation there and try again",
				l.ClientCert, k.Name, name)
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
