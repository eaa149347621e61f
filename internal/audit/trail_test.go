package audit_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
)

// childEnv makes the test binary append lines as a second process.
const childEnv = "GARDU_AUDIT_CHILD"

const childLines = 300

// patience is how long the tests wait for a lock that somebody holds who may stand still
// meanwhile, as a machine that does too much may have them.
const patience = time.Minute

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if path := os.Getenv(verifyEnv); path != "" {
		if err := verifyAsReader(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(path string) error {
	ctx := context.Background()
	t, err := audit.Open(ctx, audit.Options{Path: path, Who: "child"}.WithWait(patience))
	if err != nil {
		return err
	}
	for i := range childLines {
		if _, err := t.Append(ctx, audit.Entry{Act: "child.act", Object: strconv.Itoa(i), Who: "child", Sync: i%50 == 0}); err != nil {
			return err
		}
	}
	return t.Close()
}

func open(t testing.TB, path string) *audit.Trail {
	t.Helper()
	tr, err := audit.Open(t.Context(), audit.Options{Path: path, Who: "agent"}.WithWait(patience))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tr.Close()) })
	return tr
}

// written leaves a closed record of n lines and returns its path and last head. No two
// records have a line in common, though they be written in one millisecond.
func written(t testing.TB, n int) (string, audit.Head) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	tr := open(t, path)
	own := rand.Text()
	for i := range n {
		_, err := tr.Append(t.Context(), audit.Entry{
			Act: "attempt.end", Object: fmt.Sprintf("request-%d", i), Result: "succeeded", Who: "agent",
			Attrs: map[string]string{"code": "2000000", "external_id": strconv.Itoa(i), "record": own},
		})
		require.NoError(t, err)
	}
	h := tr.Head()
	require.NoError(t, tr.Close())
	return path, h
}

func lines(t testing.TB, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, len(b) == 0 || b[len(b)-1] == '\n')
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func whole(t testing.TB, path string) audit.Report {
	t.Helper()
	rep, err := audit.Verify(t.Context(), path)
	require.NoError(t, err)
	return rep
}

func TestAppendAndVerify(t *testing.T) {
	path, h := written(t, 5)
	require.Equal(t, uint64(5), h.Seq)
	rep := whole(t, path)
	require.Equal(t, uint64(5), rep.Records)
	require.Equal(t, h.Hash(), rep.Head)
	require.Zero(t, rep.Gaps)
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, fi.Mode().Perm()&0o007, "nobody else reads it")

	tr := open(t, path)
	require.Equal(t, h, tr.Head())
	g, err := tr.CompareStamp(t.Context(), h.Stamp())
	require.NoError(t, err)
	require.False(t, g.Found())
	next, err := tr.Append(t.Context(), audit.Entry{Act: "key.generate", Sync: true})
	require.NoError(t, err)
	require.Equal(t, uint64(6), next.Seq)
	require.NoError(t, tr.Close())
	require.NoError(t, tr.Close())
	_, err = tr.Append(t.Context(), audit.Entry{Act: "a"})
	require.ErrorIs(t, err, audit.ErrClosed)
	_, err = tr.CompareStamp(t.Context(), nil)
	require.ErrorIs(t, err, audit.ErrClosed)
	require.Equal(t, uint64(6), whole(t, path).Records)
}

// TestEveryFieldIsHeld changes one member of the third of five lines at a time.
func TestEveryFieldIsHeld(t *testing.T) {
	for name, c := range map[string]struct{ old, new string }{
		"sequence":   {`"seq":3`, `"seq":4`},
		"time":       {`"time":"2`, `"time":"1`},
		"act":        {`"act":"attempt.end"`, `"act":"attempt.bad"`},
		"object":     {`"object":"request-2"`, `"object":"request-9"`},
		"result":     {`"result":"succeeded"`, `"result":"rejected"`},
		"who":        {`"who":"agent"`, `"who":"nobody"`},
		"attribute":  {`"code":"2000000"`, `"code":"4040000"`},
		"attributes": {`"code":"2000000",`, ``},
		"prev":       {`"prev":"`, `"prev":"0`},
		"hash":       {`"hash":"`, `"hash":"0`},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := written(t, 5)
			l := lines(t, path)
			changed := strings.Replace(l[2], c.old, c.new, 1)
			if name == "prev" || name == "hash" { // one digit, not one more
				i := strings.Index(l[2], c.old) + len(c.old)
				d := byte('0')
				if l[2][i] == '0' {
					d = '1'
				}
				changed = l[2][:i] + string(d) + l[2][i+1:]
			}
			require.NotEqual(t, l[2], changed)
			l[2] = changed
			requireBad(t, path, l, 3)
		})
	}
}

func TestMovedAndMissingLinesAreNoticed(t *testing.T) {
	path, _ := written(t, 5)
	l := lines(t, path)
	requireBad(t, path, []string{l[0], l[2], l[1], l[3]}, 2)
	requireBad(t, path, []string{l[0], l[1], l[3], l[4]}, 3)
	requireBad(t, path, l[1:], 1)
	requireBad(t, path, []string{l[0], l[0]}, 2)
	requireBad(t, path, []string{l[0], "", l[1]}, 2)
	requireBad(t, path, []string{l[0], strings.Repeat("x", 100_000), l[1]}, 2)

	// A line made anew with a right hash of its own still does not fit the next.
	other, _ := written(t, 2)
	requireBad(t, path, []string{l[0], lines(t, other)[1], l[2]}, 2)

	require.NoError(t, os.WriteFile(path, []byte(l[0]+"\n"+l[1]), 0o600))
	_, err := audit.Verify(t.Context(), path)
	require.ErrorContains(t, err, "line 2")
	require.ErrorContains(t, err, "it has no end")
}

func requireBad(t *testing.T, path string, l []string, line int) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(l, "\n")+"\n"), 0o600))
	rep, err := audit.Verify(t.Context(), path)
	var bad *audit.ChainError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, line, bad.Line, "%v", err)
	require.Equal(t, uint64(line-1), rep.Records, "what is before it is whole")
	require.Equal(t, int64(len(strings.Join(l[:line-1], "\n"))+min(line-1, 1)), bad.Offset)
	require.ErrorContains(t, err, path)
}

func TestCutTailIsNoticedByTheStamp(t *testing.T) {
	for _, keep := range []int{0, 1, 4} {
		t.Run(fmt.Sprintf("%d of 5 lines left", keep), func(t *testing.T) {
			path, h := written(t, 5)
			l := lines(t, path)
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(append(l[:keep:keep], ""), "\n")), 0o600))
			whole(t, path) // the chain alone cannot tell
			tr := open(t, path)
			g, err := tr.CompareStamp(t.Context(), h.Stamp())
			require.NoError(t, err)
			require.Equal(t, audit.Gap{Missing: uint64(5 - keep)}, g)
			require.NoError(t, tr.Close())
			rep := whole(t, path)
			require.Equal(t, uint64(1), rep.Gaps)
			l = lines(t, path)
			require.Contains(t, l[len(l)-1], fmt.Sprintf(`"missing":"%d"`, 5-keep))
			require.Contains(t, l[len(l)-1], `"remembered_hash":"`+h.Hash()+`"`)
		})
	}
}

func TestHistoryMadeAnewIsNoticedByTheStamp(t *testing.T) {
	path, h := written(t, 5)
	l := lines(t, path)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(l[:3], "\n")+"\n"), 0o600))
	forger := open(t, path)
	for range 10 {
		_, err := forger.Append(t.Context(), audit.Entry{Act: "nothing.happened"})
		require.NoError(t, err)
	}
	require.NoError(t, forger.Close())
	whole(t, path)
	tr := open(t, path)
	g, err := tr.CompareStamp(t.Context(), h.Stamp())
	require.NoError(t, err)
	require.Equal(t, audit.Gap{Changed: true}, g)
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(1), whole(t, path).Gaps)
}

func TestTornLineIsMovedAway(t *testing.T) {
	for name, junk := range map[string]string{
		"half a line":       `{"seq":4,"time":"2026-05`,
		"zeros":             string(make([]byte, 4096)),
		"zeros and newline": string(make([]byte, 100)) + "\n",
		"lines of rubbish":  "abc\ndef\n{}\n",
		"very long":         strings.Repeat("x", 300_000),
	} {
		t.Run(name, func(t *testing.T) {
			path, h := written(t, 3)
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.WriteString(junk)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			_, err = audit.Verify(t.Context(), path)
			require.Error(t, err)

			tr := open(t, path)
			require.Equal(t, uint64(4), tr.Head().Seq)
			g, err := tr.CompareStamp(t.Context(), h.Stamp())
			require.NoError(t, err)
			require.False(t, g.Found(), "nothing that the journal knows of is missing")
			require.NoError(t, tr.Close())
			rep := whole(t, path)
			require.Equal(t, uint64(1), rep.Gaps)
			require.Equal(t, uint64(4), rep.Records)
			saved, err := os.ReadFile(path + ".torn-1")
			require.NoError(t, err)
			require.Equal(t, junk, string(saved))
			last := lines(t, path)[3]
			require.Contains(t, last, `"act":"audit.gap"`)
			require.Contains(t, last, `"saved":"audit.log.torn-1"`)
			require.Contains(t, last, fmt.Sprintf(`"bytes":"%d"`, len(junk)))
		})
	}
}

func TestTornLineThatTheJournalRemembersIsCounted(t *testing.T) {
	path, h := written(t, 5)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, int64(len(b)-10)))
	tr := open(t, path) // its own line about the torn one takes the place of line 5
	g, err := tr.CompareStamp(t.Context(), h.Stamp())
	require.NoError(t, err)
	require.Equal(t, audit.Gap{Missing: 1}, g)
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(2), whole(t, path).Gaps)
}

func TestTwoProcessesShareOneChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	tr := open(t, path)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$") //nolint:gosec // the test binary itself
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	errs := make(chan error)
	for g := range 3 {
		go func() {
			var err error
			for i := range 100 {
				_, e := tr.Append(t.Context(), audit.Entry{Act: "parent.act", Object: fmt.Sprintf("%d.%d", g, i), Sync: i%40 == 0})
				err = errors.Join(err, e)
			}
			errs <- err
		}()
	}
	for range 3 {
		require.NoError(t, <-errs)
	}
	require.NoError(t, cmd.Wait())
	rep := whole(t, path)
	require.Equal(t, uint64(childLines+300), rep.Records)
	require.Zero(t, rep.Gaps)
	acts := map[string]int{}
	for _, l := range lines(t, path) {
		acts[regexp.MustCompile(`"act":"([^"]*)"`).FindStringSubmatch(l)[1]]++
	}
	require.Equal(t, map[string]int{"parent.act": 300, "child.act": childLines}, acts)
}

func TestFileThatIsCutOrReplacedWhileOpen(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"cut": func(t *testing.T, path string) {
			l := lines(t, path)
			require.NoError(t, os.Truncate(path, int64(len(l[0])+1)))
		},
		"emptied": func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 0)) },
		"deleted": func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"moved":   func(t *testing.T, path string) { require.NoError(t, os.Rename(path, path+".1")) },
		"replaced": func(t *testing.T, path string) {
			require.NoError(t, os.Remove(path))
			require.NoError(t, os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path, h := written(t, 3)
			tr := open(t, path)
			spoil(t, path)
			_, err := tr.Append(t.Context(), audit.Entry{Act: "after"})
			require.NoError(t, err)
			rep := whole(t, path)
			require.Equal(t, uint64(1), rep.Gaps)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Contains(t, string(b), `"remembered_hash":"`+h.Hash()+`"`)
			require.Contains(t, string(b), `"act":"after"`)
		})
	}
}

func TestFullDiskLeavesNoHalfLine(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	defer func() { require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) }()
	path := filepath.Join(dir, "audit.log")
	tr, err := audit.Open(t.Context(), audit.Options{Path: path})
	require.NoError(t, err)
	failed := 0
	for range 100 {
		if _, err := tr.Append(t.Context(), audit.Entry{Act: "a", Object: strings.Repeat("o", 200)}); err != nil {
			require.ErrorIs(t, err, unix.ENOSPC)
			failed++
		}
	}
	require.NotZero(t, failed)
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(100-failed), whole(t, path).Records)
}

func TestVerifyWhileLinesAreAppended(t *testing.T) {
	path, _ := written(t, 10)
	tr := open(t, path)
	done := make(chan error, 1)
	go func() {
		var err error
		for range 300 {
			_, e := tr.Append(t.Context(), audit.Entry{Act: "a"})
			err = errors.Join(err, e)
		}
		done <- err
	}()
	for range 20 {
		require.GreaterOrEqual(t, whole(t, path).Records, uint64(10))
	}
	require.NoError(t, <-done)
}

func TestVerifyNamesWhatIsMissing(t *testing.T) {
	_, err := audit.Verify(t.Context(), filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
	path := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.Equal(t, audit.Report{}, whole(t, path))
	_, err = audit.Open(t.Context(), audit.Options{Path: t.TempDir()})
	require.Error(t, err, "a folder is no record")
}

func TestClockThatGoesBackIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	tr := open(t, path)
	at := time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC)
	for _, d := range []time.Duration{0, time.Hour, -time.Hour, 0, 2 * time.Hour} {
		_, err := tr.Append(t.Context(), audit.Entry{Act: "a", Time: at.Add(d)})
		require.NoError(t, err)
	}
	rep := whole(t, path)
	require.Equal(t, uint64(1), rep.TimeBack)
	require.Equal(t, at, rep.First.UTC())
}

func BenchmarkAppend(b *testing.B) {
	for name, sync := range map[string]bool{"sync": true, "no sync": false} {
		b.Run(name, func(b *testing.B) {
			tr := open(b, filepath.Join(b.TempDir(), "audit.log"))
			for b.Loop() {
				if _, err := tr.Append(b.Context(), audit.Entry{Act: "attempt.end", Sync: sync}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
