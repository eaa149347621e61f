package keystore_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/secret"
)

// spied is a token behind OpenSC's spy, which writes down every call.
type spied struct {
	*softhsmtest.Token
	log string
}

func spy(t *testing.T) *spied {
	t.Helper()
	for _, module := range []string{"/usr/lib/x86_64-linux-gnu/pkcs11-spy.so", "/usr/lib/aarch64-linux-gnu/pkcs11-spy.so", "/usr/lib64/pkcs11-spy.so"} {
		if _, err := os.Stat(module); err != nil {
			continue
		}
		token := softhsmtest.New(t)
		s := &spied{Token: token, log: filepath.Join(token.Dir, "spy.log")}
		token.Env = append(token.Env, "PKCS11SPY="+token.Module, "PKCS11SPY_OUTPUT="+s.log)
		token.Module = module
		return s
	}
	t.Fatal("pkcs11-spy is not installed: run `apt-get install opensc`")
	return nil
}

func (s *spied) logins(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(s.log)
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	return strings.Count(string(b), ": C_Login\n")
}

// write puts another PIN into the PIN file.
func (s *spied) write(t *testing.T, pin string) {
	t.Helper()
	require.NoError(t, os.Remove(s.PINFile))
	require.NoError(t, os.WriteFile(s.PINFile, []byte(pin), 0o600))
}

// start opens a Store as a new run of the program would, and asks it to be ready.
func (s *spied) start(t *testing.T) error {
	t.Helper()
	store, err := keystore.Open(s.Options())
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	return store.Ready(t.Context())
}

func TestWrongPINIsTriedOnceOverTenRestarts(t *testing.T) {
	t.Parallel()
	token := spy(t)
	token.write(t, "wrong-4711")
	require.ErrorIs(t, token.start(t), keystore.ErrPINWrong)
	for range 9 {
		err := token.start(t)
		require.ErrorIs(t, err, keystore.ErrPINLocked)
		require.Equal(t, keystore.ClassConfiguration, keystore.ClassOf(err))
	}
	require.Equal(t, 1, token.logins(t))

	latch, err := os.ReadFile(token.Options().LatchPath)
	require.NoError(t, err)
	require.NotContains(t, string(latch), "4711")
	st, err := os.Stat(token.Options().LatchPath)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())

	t.Run("another PIN is tried", func(t *testing.T) {
		token.write(t, "wrong-4712")
		require.ErrorIs(t, token.start(t), keystore.ErrPINWrong)
		require.ErrorIs(t, token.start(t), keystore.ErrPINLocked)
		require.Equal(t, 2, token.logins(t))
	})
	t.Run("after unlatching too", func(t *testing.T) {
		require.NoError(t, keystore.Unlatch(t.Context(), token.Options().LatchPath))
		require.ErrorIs(t, token.start(t), keystore.ErrPINWrong)
		require.ErrorIs(t, token.start(t), keystore.ErrPINLocked)
		require.Equal(t, 3, token.logins(t))
	})
	t.Run("the right one opens the token", func(t *testing.T) {
		token.write(t, token.PIN)
		require.NoError(t, token.start(t))
		require.NoError(t, token.start(t))
		require.Equal(t, 5, token.logins(t))
	})
}

func TestRunningStoreTakesTheNewPINWithoutARestart(t *testing.T) {
	t.Parallel()
	token := spy(t)
	token.write(t, "wrong-4711")
	s := token.Open(t, unhurried)
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrPINWrong)
	time.Sleep(300 * time.Millisecond)
	for range 50 {
		require.Error(t, s.Ready(t.Context()))
	}
	require.Equal(t, 1, token.logins(t))
	token.write(t, token.PIN+"\n")
	require.Eventually(t, func() bool { return s.Ready(t.Context()) == nil }, patience, 20*time.Millisecond)
	require.Equal(t, 2, token.logins(t))
}

func TestUnlatchOfARunningStore(t *testing.T) {
	t.Parallel()
	token := spy(t)
	token.write(t, "wrong-4711")
	s := token.Open(t, unhurried)
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrPINWrong)
	require.NoError(t, s.Unlatch(t.Context()))
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrPINWrong)
	require.Equal(t, 2, token.logins(t))
}

func TestPINIsNotTriedWhenTheLatchCannotBeWritten(t *testing.T) {
	t.Parallel()
	token := spy(t)
	o := token.Options()
	require.NoError(t, os.RemoveAll(filepath.Dir(o.LatchPath)))
	err := token.start(t)
	require.ErrorIs(t, err, keystore.ErrConfiguration)
	require.ErrorContains(t, err, "latch")
	require.Zero(t, token.logins(t))
}

// A PIN that was right needs no record before it is tried, so that a full disk costs
// nobody the token; when it is wrong one day, that is known to the next start all the
// same.
func TestProvenPINThatTurnsWrongOnAFullDiskIsTriedOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, latch string) // what is wrong with the file besides
		later error                            // of every further start
	}{
		{"no new file", func(*testing.T, string) {}, keystore.ErrPINLocked},
		{"nor is the old one written", func(t *testing.T, latch string) {
			require.NoError(t, os.Rename(latch, latch[:len(latch)-9]))
			require.NoError(t, os.Symlink(latch[:len(latch)-9], latch))
		}, keystore.ErrConfiguration},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			token := spy(t)
			require.NoError(t, token.start(t))
			good, err := os.ReadFile(token.Options().LatchPath)
			require.NoError(t, err)
			require.Contains(t, string(good), `"good"`)
			// Of a name so long the file can stand, and none beside it with more at its end.
			latch := filepath.Join(t.TempDir(), strings.Repeat("l", 250))
			require.NoError(t, os.WriteFile(latch, good, 0o600))
			c.spoil(t, latch)
			start := func() error {
				o := token.Options()
				o.LatchPath = latch
				s, err := keystore.Open(o)
				require.NoError(t, err)
				defer func() { require.NoError(t, s.Close()) }()
				return s.Ready(t.Context())
			}
			require.NoError(t, start())
			token.Run(t, "pkcs11-tool", "--module", softhsmtest.Module(t), "--login", "--pin", token.PIN, "--change-pin", "--new-pin", "another-31415")
			require.ErrorIs(t, start(), keystore.ErrPINWrong)
			for range 5 {
				require.ErrorIs(t, start(), c.later)
			}
			require.Equal(t, 3, token.logins(t), "two that were right, one that was not")
		})
	}
}

func TestProvenPINNeedsNoLatchWrite(t *testing.T) {
	t.Parallel()
	token := spy(t)
	require.NoError(t, token.start(t))
	latch := token.Options().LatchPath
	before, err := os.Stat(latch)
	require.NoError(t, err)
	require.NoError(t, token.start(t))
	after, err := os.Stat(latch)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.True(t, os.SameFile(before, after))
}

func TestTriesWithoutAnAnswerAreCounted(t *testing.T) {
	t.Parallel()
	token := spy(t)
	latch := token.Options().LatchPath
	require.NoError(t, token.start(t))
	edit := func(state string, tries int) {
		var r map[string]any
		b, err := os.ReadFile(latch)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &r))
		r["state"], r["tries"] = state, tries
		b, err = json.Marshal(r)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(latch, b, 0o600))
	}
	edit("trying", 1) // a power cut during the first login
	require.NoError(t, token.start(t))
	edit("trying", 2)
	require.ErrorIs(t, token.start(t), keystore.ErrPINLocked)
	require.NoError(t, keystore.Unlatch(t.Context(), latch))
	require.NoError(t, token.start(t))
	require.NoError(t, os.WriteFile(latch, []byte("{torn"), 0o600))
	require.NoError(t, token.start(t), "a torn record costs a try, not the kiosk")
	require.Equal(t, 4, token.logins(t))
}

func TestPINOfALengthTheTokenDoesNotTakeIsNotTried(t *testing.T) {
	t.Parallel()
	token := spy(t)
	token.write(t, "123") // SoftHSM takes 4 to 255 bytes
	err := token.start(t)
	require.ErrorIs(t, err, keystore.ErrPINUnusable)
	require.ErrorContains(t, err, "4 to 255 bytes")
	require.Zero(t, token.logins(t))
}

func TestTokenThatNeedsAPINAndGetsNone(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t, func(o *keystore.Options) { o.PIN = nil })
	require.ErrorIs(t, s.Ready(t.Context()), keystore.ErrPINUnusable)
}

func TestPINFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
		wrong         string
	}{
		{"plain", "1234", 0o400, "1234", ""},
		{"one newline", "1234\n", 0o400, "1234", ""},
		{"spaces are the PIN's", " 12 34 \n", 0o400, " 12 34 ", ""},
		{"UTF-8", "pâté\n", 0o440, "pâté", ""},
		{"longest", strings.Repeat("x", 256), 0o400, strings.Repeat("x", 256), ""},
		{"empty", "", 0o400, "", "is empty"},
		{"newline alone", "\n", 0o400, "", "is empty"},
		{"two newlines", "1234\n\n", 0o400, "", "second line"},
		{"two lines", "1234\n5678\n", 0o400, "", "second line"},
		{"carriage return", "1234\r\n", 0o400, "", "control character"},
		{"NUL", "12\x0034", 0o400, "", "control character"},
		{"too long", strings.Repeat("x", 257), 0o400, "", "longer than"},
		{"far too long", strings.Repeat("x", 5000), 0o400, "", "longer than"},
		{"for everyone", "1234", 0o444, "", "chmod 0400"},
		{"group may write", "1234", 0o460, "", "chmod 0400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pin")
			require.NoError(t, os.WriteFile(path, []byte(c.content), 0o600))
			require.NoError(t, os.Chmod(path, c.mode))
			pin, origin, err := keystore.PINFile(path)(t.Context())
			if c.wrong != "" {
				require.ErrorIs(t, err, keystore.ErrConfiguration)
				require.ErrorContains(t, err, c.wrong)
				require.NotContains(t, err.Error(), "1234")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(pin.Bytes()))
			require.NotContains(t, string(origin), c.want)
		})
	}
	_, _, err := keystore.PINFile(filepath.Join(t.TempDir(), "absent"))(t.Context())
	require.ErrorIs(t, err, keystore.ErrConfiguration)
}

func TestPINOriginChangesWithThePlaceAndNotWithTheCopy(t *testing.T) {
	dir := t.TempDir()
	sealed := filepath.Join(dir, "pin.cred")
	require.NoError(t, os.WriteFile(sealed, []byte("sealed blob 1"), 0o600))
	origin := func(source keystore.PINSource) keystore.PINOrigin {
		t.Helper()
		pin, o, err := source(context.Background())
		require.NoError(t, err)
		require.Equal(t, "1234", string(pin.Bytes()))
		return o
	}
	// systemd makes a new folder and a new copy at each start.
	credential := func() keystore.PINOrigin {
		t.Helper()
		credentials := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(credentials, "token-pin"), []byte("1234"), 0o400))
		t.Setenv("CREDENTIALS_DIRECTORY", credentials)
		return origin(keystore.PINCredential("token-pin", sealed))
	}
	first := credential()
	require.Equal(t, first, credential())
	require.NoError(t, os.WriteFile(sealed, []byte("sealed blob 2"), 0o600))
	require.NotEqual(t, first, credential())

	file := filepath.Join(dir, "pin")
	require.NoError(t, os.WriteFile(file, []byte("1234"), 0o600))
	first = origin(keystore.PINFile(file))
	require.Equal(t, first, origin(keystore.PINFile(file)))
	time.Sleep(20 * time.Millisecond) // the kernel's clock tick
	require.NoError(t, os.WriteFile(file, []byte("1234"), 0o600))
	require.NotEqual(t, first, origin(keystore.PINFile(file)))

	t.Setenv("CREDENTIALS_DIRECTORY", "")
	_, _, err := keystore.PINCredential("token-pin", sealed)(t.Context())
	require.ErrorContains(t, err, "LoadCredentialEncrypted=token-pin")
}

func TestPINSourceMayReturnAnyError(t *testing.T) {
	t.Parallel()
	s := softhsmtest.New(t).Open(t, func(o *keystore.Options) {
		o.PIN = func(context.Context) (*secret.Value, keystore.PINOrigin, error) {
			return nil, "", os.ErrDeadlineExceeded
		}
	})
	err := s.Ready(t.Context())
	require.ErrorIs(t, err, keystore.ErrConfiguration)
}
