package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func writeConfig(t *testing.T, extra string) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "client.pem")
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	file := filepath.Join(dir, "sandbox.json")
	text := `{"finpay":{"partners":[{"client_id":"a","client_secret":"b","public_key_file":` + strconv.Quote(keyFile) + `}],"merchant_id":"m"}` + extra + `}`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestRunServesUntilItIsTold(t *testing.T) {
	dir := t.TempDir()
	addrs, certs := filepath.Join(dir, "addrs.json"), filepath.Join(dir, "certs")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	var log bytes.Buffer
	file := writeConfig(t, "")
	go func() {
		ended <- run(ctx, []string{"--config", file, "--make-certs", certs, "--addr-file", addrs}, &log)
	}()
	var got map[string]string
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(addrs)
		return err == nil && json.Unmarshal(data, &got) == nil
	}, 2*time.Minute, 10*time.Millisecond)
	require.Contains(t, got, "finpay")
	require.Contains(t, got, "control")
	require.NotContains(t, got, "netzme", "only what is configured listens")

	ca, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+got["finpay"]+"/v1.0/pin/reset", nil)
	require.NoError(t, err)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadRequest, resp.StatusCode)

	cancel()
	require.NoError(t, <-ended)
}

func TestRunRefusals(t *testing.T) {
	good := writeConfig(t, "")
	certs := filepath.Join(t.TempDir(), "certs")
	for name, c := range map[string]struct {
		args  []string
		usage bool
		says  string
	}{
		"no configuration":       {nil, true, "--config"},
		"a stray word":           {[]string{"--config", good, "serve"}, true, "--config"},
		"unknown flag":           {[]string{"--colour"}, true, "colour"},
		"two certificates":       {[]string{"--config", good, "--make-certs", certs, "--cert", "x"}, true, "not both"},
		"no certificate":         {[]string{"--config", good}, false, "--make-certs"},
		"no such file":           {[]string{"--config", "/nonexistent.json"}, false, "open configuration"},
		"unknown key":            {[]string{"--config", writeConfig(t, `,"colour":"red"`), "--make-certs", certs}, false, "colour"},
		"an address for all":     {[]string{"--config", good, "--make-certs", certs, "--finpay-addr", "0.0.0.0:0"}, false, "loopback"},
		"control for all":        {[]string{"--config", good, "--make-certs", certs, "--control-addr", "[::]:0"}, false, "loopback"},
		"an old TLS":             {[]string{"--config", good, "--make-certs", certs, "--tls-min", "1.0"}, false, "min_version"},
		"a folder for addresses": {[]string{"--config", good, "--make-certs", certs, "--addr-file", "/nonexistent/a"}, false, "write addresses"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := run(t.Context(), c.args, &out)
			require.Equal(t, c.usage, errors.Is(err, errUsage), "%v", err)
			if c.usage {
				require.Contains(t, out.String(), c.says)
			} else {
				require.ErrorContains(t, err, c.says)
			}
		})
	}
}

// TestOwnReading holds the reason for this program: it shares no code with what it checks.
func TestOwnReading(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && path == "answers" { // tests alone, which hold the agent against the sandbox
			return fs.SkipDir
		}
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, imp := range file.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			require.NoError(t, err)
			if strings.HasPrefix(name, "gardu/") {
				require.Equal(t, "gardu/cmd/sandbox/upstream", name, path)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 10)
}
