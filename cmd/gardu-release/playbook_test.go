package main

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/update"
	"gardu/internal/update/publish"
)

// TestMain is the gardu-release program too, and the token worker that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == workerCommand {
		os.Exit(runWorker())
	}
	testscript.Main(m, map[string]func(){"gardu-release": func() { publish.CheapKeys(); main() }})
}

// endAtOnce keeps a race-checked program from taking a second to end, which is minutes
// for all the commands here.
const endAtOnce = "GORACE=atexit_sleep_ms=0"

// fakeProgram is a file that passes for a program of an architecture and a version, and
// resembles the others.
func fakeProgram(machine elf.Machine, version string) []byte {
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64}
	copy(h.Ident[:], []byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)})
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		panic(err)
	}
	sum := sha256.Sum256([]byte("the same"))
	for range 5000 {
		b.Write(sum[:])
		sum = sha256.Sum256(sum[:])
	}
	b.WriteString(version)
	return b.Bytes()
}

// TestThePlaybook runs every command of docs/release.md word for word, in its
// order, and looks at each upload with a kiosk's eyes.
func TestThePlaybook(t *testing.T) {
	b, err := os.ReadFile("../../docs/release.md")
	require.NoError(t, err)
	_, text, ok := strings.Cut(string(b), "\n## Publishing\n")
	require.True(t, ok)
	blocks := regexp.MustCompile("(?s)\n```sh\n(.*?\n)```\n").FindAllStringSubmatch(text, -1)
	require.GreaterOrEqual(t, len(blocks), 12)

	dir := t.TempDir()
	pass := filepath.Join(dir, "passphrase")
	require.NoError(t, os.WriteFile(pass, []byte("correct horse battery\n"), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "online"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "online", "passphrase"), []byte("correct horse battery\n"), 0o600))
	for _, v := range []string{"1.4.2", "1.5.0"} {
		for arch, machine := range machines {
			f := filepath.Join(dir, "build", v, "gardu-linux-"+arch)
			require.NoError(t, os.MkdirAll(filepath.Dir(f), 0o750))
			require.NoError(t, os.WriteFile(f, fakeProgram(machine, v), 0o600))
		}
	}
	kiosk, online := newKiosk(t, dir), newKiosk(t, dir)
	online.folder = filepath.Join(dir, "www")
	run := func(i int, text string) {
		script := "set -euo pipefail\ngardu-release() { command gardu-release --yes --passphrase-file " + pass + ` "$@"; }` + "\n" + text
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), endAtOnce)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "block %d:\n%s\n%s", i+1, text, out)
	}
	const uploading = 1 // the block that is repeated after each that publishes
	require.Contains(t, blocks[uploading][1], "www/metadata/timestamp.json")
	want := []string{"", "", "", "1.4.2", "1.4.2 or 1.5.0", "1.4.2 or 1.5.0", "1.4.2 held", "1.4.2", "1.4.2", "1.4.2", "1.4.2", "1.4.2"}
	for i, block := range blocks {
		run(i, block[1])
		fmt.Printf("PLAYBOOK block %d of %d: %d commands, done\n", i+1, len(blocks), strings.Count(block[1], "gardu-release"))
		if w := want[min(i, len(want)-1)]; w != "" {
			kiosk.look(w)
			run(uploading, blocks[uploading][1])
			online.look(w)
		}
	}
	// The stick, with the eyes of a kiosk that never was online.
	other := newKiosk(t, dir)
	other.folder = filepath.Join(dir, "usb", "gardu")
	other.look("1.4.2")
}

type kiosk struct {
	t      *testing.T
	folder string
	trust  *update.Trust
}

func newKiosk(t *testing.T, dir string) *kiosk {
	return &kiosk{t, filepath.Join(dir, "repo"), &update.Trust{Dir: filepath.Join(t.TempDir(), "metadata"), RootFile: filepath.Join(dir, "repo", "metadata", "1.root.json")}}
}

// look refreshes and checks that what is wanted is one of the words.
func (k *kiosk) look(want string) {
	k.t.Helper()
	src, err := update.NewSource(update.SourceOptions{URL: "file://" + k.folder})
	require.NoError(k.t, err)
	w, err := k.trust.Refresh(k.t.Context(), src)
	require.NoError(k.t, err)
	c := w.Wanted(update.Wish{Kiosk: "7", Channel: "stable", Arch: "amd64", Base: "1.4.0", Current: update.Factory})
	require.NotNil(k.t, c.Target, c.Why.Text)
	require.Contains(k.t, want, c.Target.Custom.Version)
}

func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			tok := softhsmtest.New(t)
			e.Vars = append(e.Vars, endAtOnce)
			e.Setenv("MODULE", tok.Module)
			e.Setenv("TOKEN", tok.Label)
			e.Setenv("SOFTHSM", tok.Env[0])
			for name, b := range map[string][]byte{
				"pin": []byte(tok.PIN + "\n"), "pass": []byte("correct horse battery\n"), "other": []byte("another passphrase\n"),
				"short": []byte("short\n"), "text": []byte("hello"),
				"gardu": fakeProgram(elf.EM_X86_64, "1.0.0"), "gardu2": fakeProgram(elf.EM_X86_64, "1.0.0 1.1.0 1.2.0"), "gardu-arm": fakeProgram(elf.EM_AARCH64, "1.1.0"),
			} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), b, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"nowhere": nowhere},
	})
}

// nowhere fails when a file or folder holds a text: nowhere TEXT PATH...
func nowhere(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: nowhere TEXT PATH...")
	}
	for _, p := range args[1:] {
		ts.Check(filepath.Walk(ts.MkAbs(p), func(path string, info os.FileInfo, err error) error {
			if err != nil || info.IsDir() {
				return err
			}
			b, err := os.ReadFile(path) //nolint:gosec // the script's own
			if err == nil && bytes.Contains(b, []byte(args[0])) {
				ts.Fatalf("%s holds %q", path, args[0])
			}
			return err
		}))
	}
}
