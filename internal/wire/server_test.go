package wire

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is far above anything that comes to its end.
const patience = Duration(2 * time.Minute)

// authority issues certificates for the tests' servers and clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return &authority{cert, key, file}
}

func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// server is a TLS server whose behaviour after the handshake is one function, and
// which counts what it saw.
type server struct {
	t        *testing.T
	ln       net.Listener
	conf     *tls.Config
	accepted atomic.Int64
	requests atomic.Int64 // whole requests read
	bytes    atomic.Int64 // application bytes read
	wg       sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn // guarded by mu
}

// serve starts a server. behave gets the connection after the handshake.
func serve(t *testing.T, conf *tls.Config, behave func(s *server, c *tls.Conn)) *server {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{t: t, ln: ln, conf: conf}
	s.wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.mu.Lock()
			s.open = append(s.open, raw)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer func() { _ = raw.Close() }()
				c := tls.Server(raw, conf)
				if c.HandshakeContext(context.Background()) == nil {
					behave(s, c)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.closeAll()
		s.wg.Wait()
	})
	return s
}

func (s *server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = nil
}

// nobody is an address that refuses every connection, and that nobody can take before
// the test is over.
func nobody(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	at, err := syscall.Getsockname(fd)
	require.NoError(t, err)
	in, ok := at.(*syscall.SockaddrInet4)
	require.True(t, ok)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(in.Port))
}

func (s *server) url() string { return "https://" + s.ln.Addr().String() }

// request reads one whole request.
func (s *server) request(c net.Conn, br *bufio.Reader) (*http.Request, []byte, bool) {
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, false
	}
	s.requests.Add(1)
	s.bytes.Add(int64(len(body)))
	return r, body, true
}

func reset(c *tls.Conn) {
	tcp, ok := c.NetConn().(*net.TCPConn)
	if ok {
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
	}
}

// hang holds a connection until the test closes it.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
