package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"gardu/internal/keystore/softhsmtest"
)

// TestMain also is the gardu program for the scripts, and the token worker that
// such a gardu starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(runWorker(os.Args[2:]))
	}
	testscript.Main(m, map[string]func(){"gardu": main})
}

// TestScripts runs the gardu commands as field operations type them, each script
// with a SoftHSM token of its own and providers that nobody answers for.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			prepareKiosk(t, e)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"healthz": waitHealthz,
			"replace": replaceInFile,
			"zero":    zeroHead,
			"sandbox": startSandbox,
			"seed":    seedJournal,
		},
	})
}

func prepareKiosk(t *testing.T, e *testscript.Env) {
	t.Helper()
	tok := softhsmtest.New(t)
	shm, err := os.MkdirTemp("/dev/shm", "gardu-script") //nolint:usetesting // the journal wants its key folder on tmpfs
	require.NoError(t, err)
	e.Defer(func() { _ = os.RemoveAll(shm) })
	port, err := freePort()
	require.NoError(t, err)
	e.Setenv("RUNDIR", shm)
	e.Setenv("SCREEN", port)
	e.Setenv("TOKENDIR", filepath.Join(tok.Dir, "tokens"))
	weak, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // G403: this weak key is there to be refused
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(weak)
	require.NoError(t, err)
	files := map[string]string{
		"weak.pem":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"pin":         tok.PIN + "\n",
		"hmac.txt":    "myclientsecret-of-24-byt\n",
		"short.txt":   "myclientsecret\n",
		"aes.hex":     strings.Repeat("0123456789abcdef", 3) + "\n",
		"sample.json": sampleToken(t),
		"api.key":     "key\n",
		"secure.code": "code\n",
		"staff.toml":  "[[staff]]\nid = \"1001\"\ncode = \"10012345\"\n",
		"gardu.toml":  kioskConfig(e.WorkDir, shm, port, tok),
	}
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600))
	}
}

func kioskConfig(work, shm, port string, tok *softhsmtest.Token) string {
	var env []string
	for _, v := range tok.Env {
		env = append(env, fmt.Sprintf("%q", v))
	}
	snap := func(name string) string {
		return fmt.Sprintf("[%[1]s]\nbase_url = \"https://127.0.0.1:1\"\nclient_id = \"c\"\nchannel_id = \"95221\"\norigin = \"o\"\n"+
			"sign_key = \"pkcs11:object=%[1]s-sign\"\nsecret_key = \"pkcs11:object=%[1]s-secret\"\n", name)
	}
	return fmt.Sprintf(`[kiosk]
number = 7
[token]
module = %q
token = %q
pin_file = %q
latch = %q
environment = [%s]
[journal]
path = %q
key_dir = %q
[audit]
path = %q
[screen]
listen = %q
staff_file = %q
[admin]
socket = %q
[log]
format = "text"
%smerchant_id = "m"
[prepaid]
base_url = "https://127.0.0.1:1"
client_id = "2000"
bank_id = "7000"
verification = "staff"
envelope_key = "pkcs11:object=prepaid-envelope"
api_key_file = %q
secure_code_file = %q
`, tok.Module, tok.URI, filepath.Join(work, "pin"), filepath.Join(work, "state", "latch"), strings.Join(env, ", "),
		filepath.Join(work, "state", "journal.db"), filepath.Join(shm, "keys"), filepath.Join(work, "state", "audit.log"),
		port, filepath.Join(work, "staff.toml"), filepath.Join(shm, "admin.sock"),
		snap("finpay"), filepath.Join(work, "api.key"), filepath.Join(work, "secure.code"))
}

// sampleToken is a message as the prepaid platform would send it, made here with
// the key that the scripts import.
func sampleToken(t *testing.T) string {
	t.Helper()
	key, err := hex.DecodeString(strings.Repeat("0123456789abcdef", 3))
	require.NoError(t, err)
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	text := []byte(`{"messageCode":"1120","requestDateTime":"20160715025837","clientTxnId":"20150727145837","newPIN":"121200","urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"}`)
	n := aes.BlockSize - len(text)%aes.BlockSize
	text = append(text, bytes.Repeat([]byte{byte(n)}, n)...)
	out := make([]byte, aes.BlockSize+len(text))
	_, _ = rand.Read(out[:aes.BlockSize])
	cipher.NewCBCEncrypter(block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], text)
	return `{"token":"` + base64.StdEncoding.EncodeToString(out) + `"}`
}

// lastPort counts through the ports of freePort, from a place of each process's own.
var lastPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(mathrand.Int64N(1 << 32)) //nolint:gosec // G404: no secret
	return &n
}()

// freePort finds a port below those that the kernel gives out by itself, and of those
// one that no other test picks, so that nobody else gets it before, or between two of,
// the agents that listen there: those from 20,000 on are this package's, from 24,000 on
// those of cmd/crash/booth, from 28,000 on those of cmd/demo/stage.
func freePort() (string, error) {
	var last error
	for range 1000 {
		port := int(20_000 + lastPort.Add(1)%4_000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // closed at once
		if err == nil {
			return l.Addr().String(), l.Close()
		}
		last = err
	}
	return "", last
}

// waitHealthz waits until /healthz says a text: healthz TEXT [ADDRESS].
func waitHealthz(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: healthz TEXT [ADDRESS]")
	}
	addr := ts.Getenv("SCREEN")
	if len(args) > 1 {
		addr = args[1]
	}
	last := ""
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r, err := http.Get("http://" + addr + "/healthz") //nolint:noctx,gosec // a test's own loopback server
		if err != nil {
			last = err.Error()
			continue
		}
		b, _ := io.ReadAll(r.Body)
		_ = r.Body.Close()
		last = string(b)
		if strings.Contains(last, args[0]) {
			return
		}
	}
	ts.Fatalf("healthz never said %q, at the end: %s", args[0], last)
}

// replaceInFile changes a file: replace FILE OLD NEW.
func replaceInFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path) //nolint:gosec // the script's own file
	ts.Check(err)
	n := bytes.Replace(b, []byte(args[1]), []byte(strings.ReplaceAll(args[2], `\n`, "\n")), 1)
	if bytes.Equal(n, b) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, n, 0o600)) //nolint:gosec // the script's own file
}

// zeroHead spoils the first bytes of a file: zero FILE BYTES.
func zeroHead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: zero FILE BYTES")
	}
	path := ts.MkAbs(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b, err := os.ReadFile(path) //nolint:gosec // the script's own file
	ts.Check(err)
	clear(b[:n])
	ts.Check(os.WriteFile(path, b, 0o600)) //nolint:gosec // the script's own file
}
