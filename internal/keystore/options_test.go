package keystore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/keystore/worker"
	"gardu/internal/secret"
)

func TestOpenRefusesOptionsThatCannotWork(t *testing.T) {
	token := softhsmtest.New(t)
	writable := filepath.Join(t.TempDir(), "module.so")
	require.NoError(t, os.WriteFile(writable, []byte("x"), 0o666))
	require.NoError(t, os.Chmod(writable, 0o666))
	for _, c := range []struct {
		name   string
		change func(*keystore.Options)
		says   string
	}{
		{"no module", func(o *keystore.Options) { o.Module = "" }, "absolute"},
		{"relative module", func(o *keystore.Options) { o.Module = "libsofthsm2.so" }, "absolute"},
		{"module that others can write", func(o *keystore.Options) { o.Module = writable }, "others than root"},
		{"no token", func(o *keystore.Options) { o.Token = "" }, "scheme pkcs11"},
		{"an object as token", func(o *keystore.Options) { o.Token = "pkcs11:token=a;object=b" }, "no object"},
		{"no latch", func(o *keystore.Options) { o.LatchPath = "" }, "latch"},
		{"many sessions", func(o *keystore.Options) { o.Sessions = 17 }, "Sessions"},
		{"negative deadline", func(o *keystore.Options) { o.Deadline = -1 }, "Deadline"},
		{"tiny RSA keys", func(o *keystore.Options) { o.MinRSABits = 512 }, "1024"},
		{"odd variable", func(o *keystore.Options) { o.Env = []string{"X"} }, "NAME=value"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := token.Options()
			c.change(&o)
			_, err := keystore.Open(o)
			require.ErrorIs(t, err, keystore.ErrConfiguration)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestModuleThatIsMissingOrNone(t *testing.T) {
	text := filepath.Join(t.TempDir(), "module.so")
	require.NoError(t, os.WriteFile(text, []byte("no library"), 0o600))
	for _, module := range []string{"/usr/lib/no-such-module.so", text, "/usr/lib"} {
		token := softhsmtest.New(t)
		s := token.Open(t, unhurried, func(o *keystore.Options) { o.Module, o.TrustModulePath = module, true })
		err := s.Ready(t.Context())
		require.ErrorIs(t, err, keystore.ErrModule, module)
		require.ErrorContains(t, err, module)
	}
}

func TestModulePathMustBelongToRoot(t *testing.T) {
	require.NoError(t, keystore.CheckModule(softhsmtest.Module(t)), "also through the distribution's symbolic link")
	if os.Geteuid() != 0 {
		t.Skip("the rest needs root, to make folders that belong to root")
	}
	dir, err := os.MkdirTemp("/var/lib", "gardu-module-test") //nolint:usetesting // everyone can write to where t.TempDir lies
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	module := filepath.Join(dir, "sub", "module.so")
	require.NoError(t, os.MkdirAll(filepath.Dir(module), 0o755))
	require.NoError(t, os.WriteFile(module, []byte("x"), 0o600))
	require.NoError(t, keystore.CheckModule(module))

	link := filepath.Join(dir, "link.so")
	require.NoError(t, os.Symlink("sub/../sub/module.so", link))
	require.NoError(t, keystore.CheckModule(link))
	loop := filepath.Join(dir, "loop.so")
	require.NoError(t, os.Symlink("loop.so", loop))
	require.ErrorIs(t, keystore.CheckModule(loop), keystore.ErrModule)
	outside := filepath.Join(dir, "outside.so")
	target := filepath.Join(t.TempDir(), "module.so") // below /tmp, which everyone can write to
	require.NoError(t, os.WriteFile(target, []byte("x"), 0o600))
	require.NoError(t, os.Symlink(target, outside))
	require.ErrorIs(t, keystore.CheckModule(outside), keystore.ErrConfiguration)

	require.NoError(t, os.Chmod(filepath.Dir(module), 0o777)) //nolint:gosec // the mistake under test
	require.ErrorIs(t, keystore.CheckModule(module), keystore.ErrConfiguration)
	require.ErrorIs(t, keystore.CheckModule(link), keystore.ErrConfiguration)
	require.NoError(t, os.Chmod(filepath.Dir(module), 0o755))
	require.NoError(t, os.Chown(module, 1, 0))
	require.ErrorIs(t, keystore.CheckModule(module), keystore.ErrConfiguration)
}

func TestRolesRefuseURIsThatCannotBeTheirs(t *testing.T) {
	s := softhsmtest.New(t).Open(t)
	for _, uri := range []string{
		"pkcs11:token=gardu-test", "pkcs11:object=a;type=public", "pkcs11:object=a;type=cert", "snap-sign",
		"pkcs11:object=a;token=another", "pkcs11:object=a;serial=1", "pkcs11:object=a?pin-value=1",
	} {
		for name, role := range map[string]func() error{
			"signer":  func() error { _, err := s.Signer(uri); return err },
			"mac":     func() error { _, err := s.MAC(uri); return err },
			"cipher":  func() error { _, err := s.Cipher(uri); return err },
			"wrapper": func() error { _, err := s.Wrapper(uri); return err },
		} {
			require.ErrorIs(t, role(), keystore.ErrConfiguration, "%s %s", name, uri)
		}
	}
	_, err := s.MAC("pkcs11:token=gardu-test;object=a;type=secret-key")
	require.NoError(t, err)
}

func TestWorkerArgumentIsTheWorkers(t *testing.T) {
	require.Equal(t, worker.Argument, keystore.WorkerArgument)
}

func TestOnlyAllowedVariablesReachTheWorker(t *testing.T) {
	o := keystore.Options{EnvAllow: []string{"PKCS11SPY*"}, Env: []string{"SOFTHSM2_CONF=/mine"}}
	require.Equal(t,
		[]string{"TPM2_PKCS11_STORE=/x", "PKCS11SPY=/y", "HOME=/root", "SOFTHSM2_CONF=/mine"},
		keystore.Environment(&o, []string{
			"TPM2_PKCS11_STORE=/x", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "GODEBUG=x", "PKCS11SPY=/y",
			"PATH=/bin", "HOME=/root", "CREDENTIALS_DIRECTORY=/run/credentials", "xSOFTHSM2_CONF=/z",
		}))
}

// Every error, log record and stored byte of a Store's life with secrets in it.
func TestSecretsReachNoErrorLogOrFile(t *testing.T) {
	const canary = "canary-value-481516-of-a-provider-secret-that-is-long-enough-for-it"
	token := spy(t)
	out := &lockedBuffer{}
	// A worker's own words would reach the journal.
	words, err := os.Create(filepath.Join(t.TempDir(), "words"))
	require.NoError(t, err)
	s := token.Open(t, unhurried, func(o *keystore.Options) {
		o.Log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Launcher = func() (*exec.Cmd, error) {
			cmd := exec.Command("/proc/self/exe", worker.Argument)
			cmd.Stderr = words
			return cmd, nil
		}
	})
	note := func(v any) { _, _ = fmt.Fprintf(out, "%v\n%+v\n%#v\n", v, v, v) }
	value := secret.Clone([]byte(canary))
	info, err := s.Import(t.Context(), keystore.NewKey{Label: "k", Kind: keystore.KindHMAC}, value)
	require.NoError(t, err)
	note(info)
	m, err := s.MAC(info.URI())
	require.NoError(t, err)
	note(m)
	for _, kind := range []keystore.Kind{keystore.KindAES192, keystore.KindAES256, keystore.KindRSA2048, keystore.KindHMAC, "none"} {
		_, err = s.Import(t.Context(), keystore.NewKey{Label: "k", Kind: kind}, value)
		require.Error(t, err)
		note(err)
	}
	generate(t, s, keystore.KindAES256, "kek")
	w, err := s.Wrapper("pkcs11:object=kek")
	require.NoError(t, err)
	wrapped, err := w.Wrap(t.Context(), []byte(canary)[:64], []byte(canary))
	require.NoError(t, err)
	wrapped[20] ^= 1
	_, err = w.Unwrap(t.Context(), wrapped, nil)
	require.Error(t, err)
	note(err)
	signal(t, s, 9)
	_, err = m.Sum(t.Context(), []byte(canary))
	require.NoError(t, err)
	token.write(t, token.PIN+"-wrong")
	signal(t, s, 9)
	_, err = m.Sum(t.Context(), []byte(canary))
	require.ErrorIs(t, err, keystore.ErrPINWrong)
	note(err)

	require.NoError(t, s.Close())
	note(s)
	for _, name := range []string{token.Options().LatchPath, words.Name()} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		note(string(b))
	}
	require.Contains(t, out.String(), "token PIN wrong")
	for _, forbidden := range []string{canary[:20], token.PIN} {
		for _, form := range []string{
			forbidden, hex.EncodeToString([]byte(forbidden)), base64.StdEncoding.EncodeToString([]byte(forbidden))[:12],
			strings.Trim(fmt.Sprint([]byte(forbidden)), "[]"),
		} {
			require.NotContains(t, out.String(), form)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestEveryErrorEndsInAnAct(t *testing.T) {
	for _, err := range keystore.Sentinels() {
		e := keystore.Explain("sign with", "pkcs11:object=k", err)
		var typed *keystore.Error
		require.ErrorAs(t, e, &typed)
		require.NotEmpty(t, typed.Hint, err)
		require.NotEqual(t, keystore.ClassNone, keystore.ClassOf(e), err)
		require.Equal(t, "sign with pkcs11:object=k: "+err.Error()+"; "+typed.Hint, e.Error())
	}
}
