package booth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// configure writes the configuration of a booth whose platforms are away.
func configure(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	away := l.Addr().String()
	require.NoError(t, l.Close())

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	sign, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	keyDir, err := os.MkdirTemp("/dev/shm", "gardu-booth-") //nolint:usetesting // the journal insists on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(keyDir)) })
	cfg := Config{
		State: dir, KeyDir: keyDir, KEK: NewKey(32), PINKEK: NewKey(32), Sign: sign, ClientID: "client",
		Finpay: away, FinpaySecret: "secret", MerchantID: "merchant", Origin: "kiosk.example", ChannelID: "95221",
		Netzme: away, NetzmeSecret: "secret", Prepaid: away, PrepaidClient: "2000", BankID: "7000", EnvelopeKey: NewKey(24),
		APIKey: "api", SecureCode: "code", PINMax: 6, CAFile: authority(t, dir),
		Call: time.Second, Quiet: time.Second, Settle: time.Second,
	}
	b, err := json.Marshal(cfg)
	require.NoError(t, err)
	file := filepath.Join(dir, "booth.json")
	require.NoError(t, os.WriteFile(file, b, 0o600))
	return file
}

func authority(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	require.NoError(t, err)
	file := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return file
}

// visit runs a booth with these lines and returns what it said.
func visit(t *testing.T, file string, lines ...Command) ([]Event, error) {
	t.Helper()
	in, give := io.Pipe()
	out := new(bytes.Buffer)
	heard := make(chan struct{}, 100)
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), file, in, tell{out, heard}, io.Discard) }()
	go func() {
		<-heard // ready, or failed
		for _, c := range lines {
			b, _ := json.Marshal(c)
			_, _ = give.Write(append(b, '\n'))
			<-heard
		}
		_ = give.Close()
	}()
	err := <-done
	var all []Event
	for line := range strings.Lines(out.String()) {
		var e Event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		all = append(all, e)
	}
	return all, err
}

// tell passes on what is said and gives a sign for each answer.
type tell struct {
	w     io.Writer
	heard chan<- struct{}
}

func (w tell) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	var e Event
	if json.Unmarshal(b, &e) == nil && e.Event != SaidRow && e.Event != SaidChange {
		w.heard <- struct{}{}
	}
	return n, err
}

func only(all []Event, what string) (out []Event) {
	for _, e := range all {
		if e.Event == what {
			out = append(out, e)
		}
	}
	return out
}

func TestBoothKeepsWhatItSaidIsStored(t *testing.T) {
	file := configure(t)
	ask := Command{Do: DoAsk, Key: "0123456789abcdef", Operation: "finpay.reset_pin", Fields: map[string]string{"phoneNo": "081200000001"}}
	bad := ask
	bad.Key, bad.Fields = "fedcba9876543210", map[string]string{"phoneNo": "1"}
	first, err := visit(t, file, ask, ask, bad)
	require.NoError(t, err)
	stored := only(first, SaidStored)
	require.Len(t, stored, 2, "asked for twice")
	require.Equal(t, stored[0].ID, stored[1].ID)
	require.Len(t, only(first, SaidRefused), 1)
	require.Empty(t, only(first, SaidRow))

	second, err := visit(t, file)
	require.NoError(t, err)
	rows := only(second, SaidRow)
	require.Len(t, rows, 1)
	require.Equal(t, stored[0].ID, rows[0].ID)
	require.Equal(t, ask.Key, rows[0].Key)
	require.Len(t, only(second, SaidReady), 1)
	require.Empty(t, only(second, SaidReady)[0].Why)
}

func TestBoothSaysWhyItCannotStart(t *testing.T) {
	file := configure(t)
	_, err := visit(t, file)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(filepath.Dir(file), "journal.db"), 5000))
	all, err := visit(t, file)
	require.Error(t, err)
	require.Len(t, only(all, SaidFailed), 1)
	require.Contains(t, only(all, SaidFailed)[0].Why, "damaged")
}
