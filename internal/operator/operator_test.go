package operator

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/config"
	"gardu/internal/secret"
)

// The vectors of RFC 6238, appendix B, for SHA-1; it gives eight digits, of which
// authenticators show the last six.
func TestPasswordsOfTheStandard(t *testing.T) {
	seed := secret.New([]byte("12345678901234567890"))
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471",
		1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		require.Equal(t, want[2:], string(totp(seed, stepOf(time.Unix(at, 0)))), at)
	}
}

type desk struct {
	*Guard
	path, state string
	clock       time.Time
	made        *Made
	log         strings.Builder
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	d := &desk{path: filepath.Join(dir, "operators.toml"), state: filepath.Join(dir, "operators.json"), clock: time.Unix(1_800_000_000, 0)}
	var err error
	d.made, err = Make("7001", "Bank Demo")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.path, []byte(d.made.Table), 0o600))
	d.open(t)
	return d
}

func (d *desk) open(t *testing.T) {
	t.Helper()
	var err error
	d.Guard, err = Open(d.path, d.state, slog.New(slog.NewTextHandler(&d.log, nil)), func() time.Time { return d.clock })
	require.NoError(t, err)
}

func (d *desk) try(t *testing.T, id, code string) (Method, int, error) {
	t.Helper()
	return d.Check(t.Context(), id, secret.Clone([]byte(code)))
}

// password is what the operator's authenticator shows.
func (d *desk) password(t *testing.T, off time.Duration) string {
	t.Helper()
	_, rest, ok := strings.Cut(d.made.URI, "secret=")
	require.True(t, ok)
	seed, err := seedEncoding.DecodeString(strings.Split(rest, "&")[0])
	require.NoError(t, err)
	return string(totp(secret.New(seed), stepOf(d.clock.Add(off))))
}

func TestAPasswordOpensOnceEvenAfterARestart(t *testing.T) {
	d := newDesk(t)
	now := d.password(t, 0)
	m, left, err := d.try(t, "7001", now)
	require.NoError(t, err)
	require.Equal(t, ByTOTP, m)
	require.Equal(t, recoveryCount, left)
	_, _, err = d.try(t, "7001", now)
	require.ErrorIs(t, err, ErrWrong)
	d.open(t)
	_, _, err = d.try(t, "7001", now)
	require.ErrorIs(t, err, ErrWrong)
	_, _, err = d.try(t, "7001", d.password(t, -totpPeriod))
	require.ErrorIs(t, err, ErrWrong, "an older one neither")
	_, _, err = d.try(t, "7001", d.password(t, totpPeriod))
	require.NoError(t, err, "an authenticator may be a little fast")
	d.clock = d.clock.Add(5 * totpPeriod)
	_, _, err = d.try(t, "7001", d.password(t, -2*totpPeriod))
	require.ErrorIs(t, err, ErrWrong, "and not as slow as that")
	_, _, err = d.try(t, "7002", d.password(t, 0))
	require.ErrorIs(t, err, ErrWrong, "it is of one operator")
}

func TestARecoveryCodeOpensOnce(t *testing.T) {
	d := newDesk(t)
	m, left, err := d.try(t, "7001", strings.ToLower(d.made.Recovery[3]))
	require.NoError(t, err)
	require.Equal(t, ByRecovery, m)
	require.Equal(t, recoveryCount-1, left)
	d.open(t)
	_, _, err = d.try(t, "7001", d.made.Recovery[3])
	require.ErrorIs(t, err, ErrWrong)
	_, left, err = d.try(t, "7001", strings.ReplaceAll(d.made.Recovery[4], "-", ""))
	require.NoError(t, err)
	require.Equal(t, recoveryCount-2, left)
}

func TestWrongCodesCloseTheDoorAlsoOverRestarts(t *testing.T) {
	d := newDesk(t)
	for i := range tries {
		_, _, err := d.try(t, "7001", fmt.Sprintf("%06d", i))
		require.ErrorIs(t, err, ErrWrong)
		d.open(t)
	}
	_, _, err := d.try(t, "7001", d.password(t, 0))
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	require.ErrorIs(t, err, ErrLocked)
	require.True(t, d.clock.Add(window).Equal(locked.Until))
	d.clock = d.clock.Add(-24 * time.Hour)
	_, _, err = d.try(t, "7001", d.password(t, 0))
	require.ErrorIs(t, err, ErrLocked, "a clock that is put back does not open it")
	d.clock = d.clock.Add(window)
	_, _, err = d.try(t, "7001", d.password(t, 0))
	require.NoError(t, err, "nor keep it shut for a day")
}

func TestNobodyGetsInWhereUseCannotBeWrittenDown(t *testing.T) {
	d := newDesk(t)
	require.NoError(t, os.Mkdir(d.state+".new", 0o700))
	_, _, err := d.try(t, "7001", d.password(t, 0))
	require.ErrorIs(t, err, ErrState)
	require.NoError(t, os.Remove(d.state+".new"))
	_, _, err = d.try(t, "7001", d.password(t, 0))
	require.NoError(t, err, "the code was not used up")

	require.NoError(t, os.WriteFile(d.state, []byte("{"), 0o600))
	_, err = Open(d.path, d.state, slog.New(slog.DiscardHandler), time.Now)
	require.ErrorContains(t, err, "restore the file")
}

func TestOperatorsFile(t *testing.T) {
	good := "[[operator]]\nid = \"7001\"\nseed = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"\n"
	for name, c := range map[string]struct{ text, want string }{
		"no id":        {strings.Replace(good, "7001", "", 1), "operator.id"},
		"letters":      {strings.Replace(good, "7001", "budi", 1), "other than digits"},
		"twice":        {good + good, "twice"},
		"short seed":   {strings.Replace(good, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "GEZDGNBV", 1), "operator.seed"},
		"seed no text": {strings.Replace(good, "GEZDGNBV", "!!!!!!!!", 1), "operator.seed"},
		"recovery":     {good + "recovery = [\"12\"]\n", "operator.recovery"},
		"unknown key":  {good + "name = \"x\"\n", "name"},
	} {
		path := filepath.Join(t.TempDir(), "operators.toml")
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		_, err := read(path)
		var ce *config.Error
		require.ErrorAs(t, err, &ce, name)
		require.ErrorContains(t, err, c.want, name)
		require.NotContains(t, err.Error(), "GEZDGNBV", name)
	}
	path := filepath.Join(t.TempDir(), "operators.toml")
	require.NoError(t, os.WriteFile(path, []byte(good), 0o644)) //nolint:gosec // that others can read it is the point
	_, err := read(path)
	require.ErrorContains(t, err, "everybody")
}

func TestReloadKeepsWhatWasUsed(t *testing.T) {
	d := newDesk(t)
	now := d.password(t, 0)
	_, _, err := d.try(t, "7001", now)
	require.NoError(t, err)
	require.NoError(t, d.Reload(d.path))
	_, _, err = d.try(t, "7001", now)
	require.ErrorIs(t, err, ErrWrong)
	require.NoError(t, os.WriteFile(d.path, []byte("[[operator]]\n"), 0o600))
	require.Error(t, d.Reload(d.path))
	d.clock = d.clock.Add(totpPeriod)
	_, _, err = d.try(t, "7001", d.password(t, 0))
	require.NoError(t, err, "a broken file takes nobody's access away")

	require.NoError(t, os.Remove(d.path))
	require.NoError(t, d.Reload(d.path))
	require.Empty(t, d.All())
	d.clock = d.clock.Add(totpPeriod)
	_, _, err = d.try(t, "7001", d.password(t, 0))
	require.ErrorIs(t, err, ErrWrong, "a file that is gone lets nobody in")
}

func TestNoSecretIsSaid(t *testing.T) {
	d := newDesk(t)
	now := d.password(t, 0)
	_, _, err := d.try(t, "7001", now)
	require.NoError(t, err)
	_, _, err = d.try(t, "7001", d.made.Recovery[0])
	require.NoError(t, err)
	_, _, wrong := d.try(t, "7001", "987654")
	js, err := json.Marshal(d.used)
	require.NoError(t, err)
	said := d.log.String() + wrong.Error() + fmt.Sprintf("%v %+v %#v", d.made, d.made, d.made) + string(js)
	_, rest, _ := strings.Cut(d.made.URI, "secret=")
	for _, s := range []string{now, d.made.Recovery[0], strings.ReplaceAll(d.made.Recovery[0], "-", ""), "987654", strings.Split(rest, "&")[0]} {
		require.NotContains(t, said, s)
	}
}
