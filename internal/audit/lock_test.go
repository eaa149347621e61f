package audit_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
)

// hold takes a file's lock as another process would, and returns what lets it go.
func hold(t *testing.T, path string) func() {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(f.Fd()), unix.LOCK_EX))
	return func() { require.NoError(t, f.Close()) }
}

func TestReaderWhoLocksTheRecordStopsNobody(t *testing.T) {
	path, _ := written(t, 1)
	tr := open(t, path)
	defer hold(t, path)()
	_, err := tr.Append(t.Context(), audit.Entry{Act: "a"})
	require.NoError(t, err)
	require.Equal(t, uint64(2), whole(t, path).Records)
}

func TestLockFileIsTheWritersOwn(t *testing.T) {
	path, _ := written(t, 1)
	fi, err := os.Stat(path + ".lock")
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
	if os.Geteuid() != 0 {
		return
	}
	// A command that runs as root does not keep the service user from the lock.
	const service = 4711
	require.NoError(t, os.Remove(path+".lock"))
	require.NoError(t, os.Chown(path, service, service))
	open(t, path)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path+".lock", &st))
	require.Equal(t, uint32(service), st.Uid)
}

// TestLockIsWaitedForTwoSecondsAtMost: everybody in this process waits for the
// same lock, and not one after the other.
func TestLockIsWaitedForTwoSecondsAtMost(t *testing.T) {
	t.Parallel()
	path, _ := written(t, 1)
	tr, err := audit.Open(t.Context(), audit.Options{Path: path})
	require.NoError(t, err)
	defer func() { require.NoError(t, tr.Close()) }()
	release := hold(t, path+".lock")
	began := time.Now()
	errs := make(chan error, 30)
	for range cap(errs) {
		go func() {
			_, err := tr.Append(t.Context(), audit.Entry{Act: "a"})
			errs <- err
		}()
	}
	for range cap(errs) {
		var locked *audit.LockedError
		require.ErrorAs(t, <-errs, &locked)
		require.Equal(t, path+".lock", locked.Path)
		require.GreaterOrEqual(t, locked.Waited, 2*time.Second)
		require.ErrorContains(t, locked, "fuser "+path+".lock")
	}
	require.Less(t, time.Since(began), 30*time.Second, "one after the other it would be a minute")
	require.Equal(t, uint64(1), tr.Head().Seq)
	release()
	_, err = tr.Append(t.Context(), audit.Entry{Act: "a"})
	require.NoError(t, err)
	require.Equal(t, uint64(2), whole(t, path).Records)
}

func TestLockIsWaitedForAsLongAsTheContextAllows(t *testing.T) {
	path, h := written(t, 1)
	tr := open(t, path)
	defer hold(t, path+".lock")()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	var locked *audit.LockedError
	_, err := tr.Append(ctx, audit.Entry{Act: "a"})
	require.ErrorAs(t, err, &locked)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = tr.CompareStamp(ctx, h.Stamp())
	require.ErrorAs(t, err, &locked)
	for _, wait := range []time.Duration{patience, time.Nanosecond} { // where both are over it is told too
		_, err = audit.Open(ctx, audit.Options{Path: path}.WithWait(wait))
		require.ErrorAs(t, err, &locked)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	require.Equal(t, uint64(1), whole(t, path).Records, "reading waits for no lock")
}

func TestLockFileThatIsReplacedIsNotTheLock(t *testing.T) {
	path, _ := written(t, 1)
	tr := open(t, path)
	release := hold(t, path+".lock")
	require.NoError(t, os.Remove(path+".lock"))
	_, err := tr.Append(t.Context(), audit.Entry{Act: "a"})
	require.NoError(t, err)
	defer hold(t, path+".lock")()
	release()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = tr.Append(ctx, audit.Entry{Act: "a"})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestLockFileThatIsALinkIsRefused(t *testing.T) {
	path, _ := written(t, 1)
	require.NoError(t, os.Remove(path+".lock"))
	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path+".lock"))
	_, err := audit.Open(t.Context(), audit.Options{Path: path})
	require.ErrorIs(t, err, unix.ELOOP)
}

// verifyEnv makes the test binary verify a record as somebody who may read it only.
const verifyEnv = "GARDU_AUDIT_VERIFY"

// TestReaderWithoutRightsVerifiesWhileLinesAreAppended runs as a user who may not
// open the lock file.
func TestReaderWithoutRightsVerifiesWhileLinesAreAppended(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("/dev/shm", "gardu-audit-") //nolint:usetesting // others may go there
	require.NoError(t, err)
	defer func() { require.NoError(t, os.RemoveAll(dir)) }()
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // the reader must get in
	exe := filepath.Join(dir, "reader")
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(exe, self, 0o755)) //nolint:gosec // likewise
	path := filepath.Join(dir, "audit.log")
	tr := open(t, path)
	for range 10 {
		_, err := tr.Append(t.Context(), audit.Entry{Act: "a"})
		require.NoError(t, err)
	}
	require.NoError(t, os.Chmod(path, 0o644)) //nolint:gosec // in place of a group
	wrote := make(chan error, 1)
	go func() {
		var err error
		for range 300 {
			_, e := tr.Append(context.Background(), audit.Entry{Act: "a"})
			err = errors.Join(err, e)
		}
		wrote <- err
	}()
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^$") //nolint:gosec // the test binary itself
	cmd.Dir = dir
	cmd.Env = []string{verifyEnv + "=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, <-wrote)
	require.NoError(t, err, string(out))
	n, err := strconv.ParseUint(string(out), 10, 64)
	require.NoError(t, err, string(out))
	require.GreaterOrEqual(t, n, uint64(10))
}

// verifyAsReader is what the child of that test does.
func verifyAsReader(path string) error {
	if _, err := os.Open(path + ".lock"); !errors.Is(err, os.ErrPermission) { //nolint:gosec // the test's own file
		return errors.New("the lock file can be opened")
	}
	var n uint64
	for range 20 {
		rep, err := audit.Verify(context.Background(), path)
		if err != nil {
			return err
		}
		n = rep.Records
	}
	_, err := os.Stdout.WriteString(strconv.FormatUint(n, 10))
	return err
}
