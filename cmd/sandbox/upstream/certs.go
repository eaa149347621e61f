package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certLife = 2 * 365 * 24 * time.Hour

// pemSet is a server certificate, its key, and the authority that signed it. The authority's own key is thrown away.
type pemSet struct{ ca, cert, key []byte }

func makePEMs(now time.Time) (pemSet, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pemSet{}, fmt.Errorf("make certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pemSet{}, fmt.Errorf("make certificates: %w", err)
	}
	caTemplate, err := certTemplate("Gardu sandbox authority", now)
	if err != nil {
		return pemSet{}, err
	}
	caTemplate.IsCA, caTemplate.BasicConstraintsValid, caTemplate.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &caKey.PublicKey, caKey)
	if err != nil {
		return pemSet{}, fmt.Errorf("make certificates: %w", err)
	}
	leaf, err := certTemplate("Gardu sandbox", now)
	if err != nil {
		return pemSet{}, err
	}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	leaf.DNSNames = []string{"localhost"}
	leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	der, err := x509.CreateCertificate(rand.Reader, leaf, caTemplate, &key.PublicKey, caKey)
	if err != nil {
		return pemSet{}, fmt.Errorf("make certificates: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pemSet{}, fmt.Errorf("make certificates: %w", err)
	}
	return pemSet{
		ca:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

func certTemplate(name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLife),
	}, nil
}

// MakeCerts writes ca.pem, server.pem (for 127.0.0.1, ::1 and localhost) and server.key (mode 0600) into dir, which it creates. If all
// three are there it leaves them alone; if only some are, it says so instead of mixing old and new.
func MakeCerts(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // certificates are public; the key has a mode of its own
		return fmt.Errorf("make certificates: %w", err)
	}
	names := []string{"ca.pem", "server.pem", "server.key"}
	present := 0
	for _, name := range names {
		_, err := os.Stat(filepath.Join(dir, name))
		switch {
		case err == nil:
			present++
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("make certificates: %w", err)
		}
	}
	switch present {
	case len(names):
		return nil
	case 0:
	default:
		return fmt.Errorf("make certificates: %s holds only some of ca.pem, server.pem, server.key: remove them to have new ones", dir)
	}
	set, err := makePEMs(time.Now())
	if err != nil {
		return err
	}
	for i, content := range [][]byte{set.ca, set.cert, set.key} {
		mode := os.FileMode(0o644)
		if names[i] == "server.key" {
			mode = 0o600
		}
		if err := os.WriteFile(filepath.Join(dir, names[i]), content, mode); err != nil {
			return fmt.Errorf("make certificates: %w", err)
		}
	}
	return nil
}

// tlsConfigs returns the configuration that is right, the one for tls_broken, and the authority in PEM if it was made here.
func tlsConfigs(cfg TLSConfig, now time.Time) (good, broken *tls.Config, ca []byte, err error) {
	var pair tls.Certificate
	if cfg.CertFile == "" {
		set, err := makePEMs(now)
		if err != nil {
			return nil, nil, nil, err
		}
		ca = set.ca
		if pair, err = tls.X509KeyPair(set.cert, set.key); err != nil {
			return nil, nil, nil, fmt.Errorf("load certificate: %w", err)
		}
	} else if pair, err = tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile); err != nil {
		return nil, nil, nil, fmt.Errorf("load certificate: %w", err)
	}
	stranger, err := makePEMs(now)
	if err != nil {
		return nil, nil, nil, err
	}
	strangerPair, err := tls.X509KeyPair(stranger.cert, stranger.key)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("load certificate: %w", err)
	}
	good = &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{"http/1.1"},
	}
	if cfg.MinVersion == "1.2" {
		good.MinVersion = tls.VersionTLS12
	}
	if cfg.ClientCAFile != "" {
		data, err := os.ReadFile(cfg.ClientCAFile)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("read client CA: %w", err)
		}
		good.ClientCAs = x509.NewCertPool()
		if !good.ClientCAs.AppendCertsFromPEM(data) {
			return nil, nil, nil, fmt.Errorf("read client CA: %s holds no PEM certificate", cfg.ClientCAFile)
		}
		good.ClientAuth = tls.RequireAndVerifyClientCert
	}
	// A resumed session shows no certificate at all, so the broken configuration neither gives nor takes tickets.
	broken = good.Clone()
	broken.Certificates = []tls.Certificate{strangerPair}
	broken.SessionTicketsDisabled = true
	return good, broken, ca, nil
}
