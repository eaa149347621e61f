package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"gardu/internal/update"
	"gardu/internal/update/publish"
)

// TestUpdates runs the update commands on real programs of several versions, with
// an agent that really runs and a small script in place of systemd.
func TestUpdates(t *testing.T) {
	programs := buildVersions(t, "0.9.0", "1.0.0", "1.1.0")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/update",
		Setup: func(e *testscript.Env) error {
			prepareKiosk(t, e)
			p := newTestPublisher(t, e.WorkDir, programs)
			e.Values[publisherKey{}] = p
			e.Defer(func() { _ = exec.Command("bash", filepath.Join(e.WorkDir, "systemctl"), "stop", "gardu.service").Run() }) //nolint:gosec,noctx // the script's own
			prefix := filepath.Join(e.WorkDir, "root")
			e.Setenv("PREFIX", prefix)
			paths := update.SystemPaths(prefix)
			require.NoError(t, os.MkdirAll(filepath.Dir(paths.Factory), 0o750))
			require.NoError(t, os.MkdirAll(paths.Opt, 0o750))
			return os.Link(programs["0.9.0"], paths.Factory)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"healthz": waitHealthz, "replace": replaceInFile, "publish": publishRelease, "bundle": readBundle, "repository": serveRepository,
		},
	})
}

type publisherKey struct{}

// buildVersions builds the program once and makes versions of it by writing others
// over its own: linking takes long.
func buildVersions(t *testing.T, versions ...string) map[string]string {
	t.Helper()
	const own = "3.7.9"
	dir := t.TempDir()
	first := filepath.Join(dir, "first")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+own, "-o", first, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	program, err := os.ReadFile(first)
	require.NoError(t, err)
	// The text itself, and the program's note of how it was built.
	require.LessOrEqual(t, bytes.Count(program, []byte(own)), 3, "another text in the program looks like its version")
	all := map[string]string{}
	for _, v := range versions {
		require.Len(t, v, len(own))
		all[v] = filepath.Join(dir, v)
		require.NoError(t, os.WriteFile(all[v], bytes.ReplaceAll(program, []byte(own), []byte(v)), 0o755)) //nolint:gosec // a program
	}
	return all
}

// testPublisher publishes with keys at hand.
type testPublisher struct {
	t        *testing.T
	repo     *publish.Repo
	offline  []publish.Signer
	online   publish.Online
	programs map[string]string
}

func newTestPublisher(t *testing.T, work string, programs map[string]string) *testPublisher {
	t.Helper()
	fresh := func() (publish.Signer, crypto.PublicKey) {
		pub, k, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		return publish.Plain(k), pub
	}
	p := &testPublisher{t: t, repo: publish.Open(filepath.Join(work, "repo")), programs: programs}
	roles := publish.Roles{}
	for _, r := range []struct {
		name     string
		n, needs int
	}{{publish.Root, 3, 2}, {publish.Targets, 2, 2}, {publish.Snapshot, 1, 1}, {publish.Timestamp, 1, 1}} {
		k := publish.RoleKeys{Threshold: r.needs}
		for range r.n {
			s, pub := fresh()
			k.Keys = append(k.Keys, pub)
			switch r.name {
			case publish.Snapshot:
				p.online.Snapshot = s
			case publish.Timestamp:
				p.online.Timestamp = s
			default:
				p.offline = append(p.offline, s)
			}
		}
		roles[r.name] = k
	}
	require.NoError(t, p.repo.Begin(roles))
	p.signPublish()
	return p
}

func (p *testPublisher) signPublish() {
	p.t.Helper()
	for _, s := range p.offline {
		if _, err := p.repo.Sign(s); err != nil && !errors.Is(err, publish.ErrWrongKey) {
			require.NoError(p.t, err)
		}
	}
	_, err := p.repo.Publish(p.online)
	require.NoError(p.t, err)
}

// publishRelease publishes a version, made of another one's program where one is
// named: publish VERSION [PROGRAM].
func publishRelease(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: publish VERSION [PROGRAM]")
	}
	p, ok := ts.Value(publisherKey{}).(*testPublisher)
	if !ok {
		ts.Fatalf("no publisher")
	}
	program := p.programs[args[0]]
	if len(args) > 1 {
		program = ts.MkAbs(args[1])
	}
	ts.Check(p.repo.AddRelease(publish.Release{Version: args[0], Programs: map[string]string{runtime.GOARCH: program}, Channel: "stable", Percent: 100}))
	p.signPublish()
}

// readBundle unpacks a diagnostic bundle: bundle FILE FOLDER.
func readBundle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: bundle FILE FOLDER")
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	ts.Check(err)
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		ts.Check(err)
		b, err := io.ReadAll(r)
		ts.Check(err)
		path := filepath.Join(ts.MkAbs(args[1]), filepath.Base(h.Name))
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o750))
		ts.Check(os.WriteFile(path, b, 0o600))
	}
}

// Canaries stand in every place of the configuration that could hold a secret, and
// in what it leads to. None may come out.
func TestABundleHoldsNoSecret(t *testing.T) {
	text, err := os.ReadFile(sample)
	require.NoError(t, err)
	config := string(text)
	for _, c := range []struct{ from, to string }{
		{`client_id = "your-client-id"`, `client_id = "canary-client"`},
		{`merchant_id = "your-merchant-id"`, `merchant_id = "canary-merchant"`},
		{`# environment = ["SOFTHSM2_CONF=/etc/gardu/softhsm2.conf"]`, `environment = ["PIN=canary-environment"]`},
		{`# init_reserved = ""`, `init_reserved = "canary-reserved"`},
		{`# proxy = ""`, `proxy = "http://user:canary-proxy@host:1"`},
		{`kek = "pkcs11:object=journal-kek"`, `kek = "pkcs11:object=journal-kek?pin-value=canary-uri"`},
		{`base_url = "https://cards.example.com"`, `base_url = "https://user:canary-url@cards.example.com"`},
		{`# device_id = ""`, `device_id = "canary-device"`},
		{`# token_body = '`, `token_body = 'canary-body`},
	} {
		require.Contains(t, config, c.from)
		config = strings.Replace(config, c.from, c.to, 1)
	}
	config += "\n[tomorrow]\nnew_thing = \"canary-unknown\"\n"
	file := filepath.Join(t.TempDir(), "gardu.toml")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	got, err := redactedConfig(file)
	require.NoError(t, err)
	require.NotContains(t, string(got), "canary")
	require.Contains(t, string(got), "/var/lib/gardu/journal.db", "and what helps is there")
	require.Contains(t, string(got), "snapstag.finnet.co.id")

	// The last line of defence: a secret that got into a file keeps all of it back.
	b := &bundle{files: map[string][]byte{}}
	b.add("log.txt", []byte("… token PIN 918273 …"))
	require.Equal(t, "log.txt (token.pin_file)", b.secretIn(map[string][]byte{"token.pin_file": []byte("918273")}))
	require.Empty(t, b.secretIn(map[string][]byte{"token.pin_file": []byte("918274")}))
}

// serveRepository serves the published folder to whoever shows a certificate of an
// authority: repository CLIENT-CA.PEM. It sets REPOSITORY and REPOSITORY_CA.
func serveRepository(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: repository CLIENT-CA.PEM")
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM([]byte(ts.ReadFile(args[0]))) {
		ts.Fatalf("%s holds no certificate", args[0])
	}
	s := httptest.NewUnstartedServer(http.FileServer(http.Dir(ts.MkAbs("repo"))))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.StartTLS()
	ts.Defer(s.Close)
	ca := ts.MkAbs("repository-ca.pem")
	ts.Check(os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	ts.Setenv("REPOSITORY", s.URL+"/")
	ts.Setenv("REPOSITORY_CA", ca)
}

// TestExitCodesOfTheUpdater: the token's doing is told from the network's and from a
// mistake in the configuration.
func TestExitCodesOfTheUpdater(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	absent := write("gardu.toml", "[token]\nmodule = \"/nowhere/module.so\"\ntoken = \"pkcs11:token=kiosk\"\npin_file = \""+write("pin", "1234")+"\"\nlatch = \""+filepath.Join(t.TempDir(), "latch")+"\"\n")
	for name, tt := range map[string]struct {
		config string
		code   int
	}{
		"a token that cannot be used":          {absent, exitToken},
		"a configuration that cannot be read":  {filepath.Join(t.TempDir(), "none.toml"), exitFailed},
		"a configuration that is not for this": {write("gardu.toml", "[token]\nmodule = 7\n"), exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			i := &identity{config: tt.config, view: &updateView{Admin: defaultSettings().Admin}, log: slog.New(slog.DiscardHandler)}
			defer i.close()
			_, err := i.certificate(t.Context())
			require.Error(t, err)
			code := exitFailed
			if c, ok := errors.AsType[*codeError](networkCode(fmt.Errorf("%w: %w", update.ErrCertificate, err))); ok {
				code = c.code
			}
			require.Equal(t, tt.code, code, err)
		})
	}
	c, ok := errors.AsType[*codeError](networkCode(fmt.Errorf("%w: it is away", update.ErrNetwork)))
	require.True(t, ok)
	require.Equal(t, exitNetwork, c.code)
}
