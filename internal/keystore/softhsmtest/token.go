// Package softhsmtest makes SoftHSM tokens for tests, each in a folder of its
// own that goes with the test.
//
// A package whose tests open a keystore needs
//
//	func TestMain(m *testing.M) { softhsmtest.Main(m) }
//
// because the keystore starts the running program, here the test, as its token
// worker.
package softhsmtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gardu/internal/keystore"
	"gardu/internal/keystore/worker"
)

// Main runs the tests and then after, or the token worker when the test program
// is started as one. It does not return.
func Main(m *testing.M, after ...func()) {
	if len(os.Args) == 2 && os.Args[1] == worker.Argument {
		os.Exit(worker.Main())
	}
	code := m.Run()
	for _, f := range after {
		f()
	}
	os.Exit(code)
}

// modules are the places where distributions put SoftHSM.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// Token is a fresh token with a user PIN.
type Token struct {
	Dir    string // holds everything below; the objects are in Dir/tokens
	Module string
	Label  string
	URI    string
	PIN    string
	// PINFile holds PIN and a newline.
	PINFile string
	// Env has the token's SOFTHSM2_CONF for the worker.
	Env []string
}

// Module returns the path of SoftHSM. Without SoftHSM it fails the test: one that
// were skipped would prove nothing.
func Module(tb testing.TB) string {
	tb.Helper()
	for _, m := range modules {
		if _, err := os.Stat(m); err == nil {
			return m
		}
	}
	tb.Fatal("SoftHSM is not installed: run `apt-get install softhsm2`")
	return ""
}

// New makes a token.
func New(tb testing.TB) *Token {
	tb.Helper()
	dir := tb.TempDir()
	t := &Token{
		Dir: dir, Module: Module(tb), Label: "gardu-test", URI: "pkcs11:token=gardu-test", PIN: "canary-0815",
		PINFile: filepath.Join(dir, "pin"), Env: []string{
			"SOFTHSM2_CONF=" + filepath.Join(dir, "softhsm2.conf"),
			"GORACE=atexit_sleep_ms=0", // else each worker of a race-checked test takes a second to end
		},
	}
	must(tb, os.Mkdir(filepath.Join(dir, "tokens"), 0o700))
	must(tb, os.Mkdir(filepath.Join(dir, "state"), 0o700))
	must(tb, os.WriteFile(filepath.Join(dir, "softhsm2.conf"),
		[]byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	must(tb, os.WriteFile(t.PINFile, []byte(t.PIN+"\n"), 0o400))
	t.Run(tb, "softhsm2-util", "--init-token", "--free", "--label", t.Label, "--pin", t.PIN, "--so-pin", "12345678")
	return t
}

// Run runs a command with the token's environment and returns its output; an
// error fails the test.
func (t *Token) Run(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		tb.Fatalf("%s is not installed: run `apt-get install softhsm2 opensc`", name)
	}
	cmd := exec.CommandContext(tb.Context(), path, args...) //nolint:gosec // a test's own command
	cmd.Env = append(os.Environ(), t.Env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", name, err, bytes.TrimSpace(out))
	}
	return string(out)
}

// Options are those of a Store of this token, in which nothing fails by a deadline that
// only a machine without other work keeps. LatchPath lies in Dir/state.
func (t *Token) Options() keystore.Options {
	return keystore.Options{
		Deadline: time.Minute, StartDeadline: time.Minute,
		Module: t.Module, Token: t.URI, PIN: keystore.PINFile(t.PINFile), Env: t.Env,
		LatchPath: filepath.Join(t.Dir, "state", "pin-latch"),
	}
}

// Open opens a Store of this token that is closed with the test.
func (t *Token) Open(tb testing.TB, change ...func(*keystore.Options)) *keystore.Store {
	tb.Helper()
	o := t.Options()
	for _, c := range change {
		c(&o)
	}
	s, err := keystore.Open(o)
	must(tb, err)
	tb.Cleanup(func() { must(tb, s.Close()) })
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
