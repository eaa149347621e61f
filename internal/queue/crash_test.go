package queue_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

// childEnv makes the test binary play an agent that writes until it is killed.
const childEnv = "GARDU_QUEUE_CHILD"

// faultyEnv tells it that its disk fails now and then.
const faultyEnv = "GARDU_QUEUE_FAULTY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	softhsmtest.Main(m)
}

// openShared opens the journal in dir with the keys that parent and child share.
func openShared(ctx context.Context, dir string) (*queue.DB, error) {
	a, b := sha256.Sum256([]byte("kek")), sha256.Sum256([]byte("pin kek"))
	kek, err := kekOf("kek", a[:])
	if err != nil {
		return nil, err
	}
	pinKEK, err := kekOf("pin kek", b[:])
	if err != nil {
		return nil, err
	}
	return queue.Open(ctx, queue.Options{
		Path: filepath.Join(dir, "journal.db"), KeyDir: filepath.Join(dir, "keys"),
		KEK: kek, PINKEK: pinKEK, Kiosk: 1, Reserve: -1,
		DangerousAllowKeyDirOnDisk: true,
	})
}

// child adds, updates, deletes and takes serials from eight goroutines and says
// on standard output what was acknowledged.
func child(dir string) error {
	ctx := context.Background()
	db, err := openShared(ctx, dir)
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	say("open %d", os.Getpid())
	errs := make(chan error)
	for range 8 {
		go func() { errs <- work(ctx, db, say) }()
	}
	return <-errs
}

func work(ctx context.Context, db *queue.DB, say func(string, ...any)) error {
	for i := 0; ; i++ {
		r := request("081234567890")
		r.Secret = txn.SecretPIN
		if err := db.Add(ctx, r, pin("493817")); err != nil {
			if os.Getenv(faultyEnv) == "" {
				return err
			}
			if !errors.Is(err, txn.ErrStoreUnknown) {
				say("refused 0 %s", r.ID)
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		say("add %d %s", r.Seq, r.ID)
		n, err := db.Serial(ctx)
		if err != nil {
			return err
		}
		say("serial %d", n)
		if os.Getenv(faultyEnv) != "" {
			continue
		}
		r.State, r.Tries, r.Secret = txn.Sending, i, ""
		if err := db.Update(ctx, r, nil); err != nil {
			return err
		}
		say("update %d %d", r.Seq, i)
		if i%3 == 0 {
			say("deleting %d", r.Seq)
			if err := db.Delete(ctx, []uint64{r.Seq}); err != nil {
				return err
			}
			say("delete %d", r.Seq)
		}
	}
}

// acked is what children were told, over all their lives.
type acked struct {
	id      map[uint64]string // by seq; deleted ones are taken out before
	tries   map[uint64]int    // of those updated
	deleted map[uint64]bool
	serials map[uint64]bool
	refused map[string]bool // ids of which it was said that they are not stored
}

func newAcked() *acked {
	return &acked{
		id: map[uint64]string{}, tries: map[uint64]int{}, deleted: map[uint64]bool{},
		serials: map[uint64]bool{}, refused: map[string]bool{},
	}
}

func (a *acked) line(t *testing.T, l string) {
	f := strings.Fields(l)
	n, err := strconv.ParseUint(f[1], 10, 64)
	require.NoError(t, err)
	switch f[0] {
	case "add":
		require.NotContains(t, a.id, n, "a place was given twice")
		require.NotContains(t, a.deleted, n, "a place was given twice")
		a.id[n] = f[2]
	case "refused":
		a.refused[f[2]] = true
	case "update":
		a.tries[n], err = strconv.Atoi(f[2])
		require.NoError(t, err)
	case "deleting": // may or may not be carried out
		delete(a.id, n)
	case "delete":
		a.deleted[n] = true
	case "serial":
		require.False(t, a.serials[n], "serial %d was handed out twice", n)
		a.serials[n] = true
	}
}

func TestKilledWhileWritingLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	t.Cleanup(func() { boltCheck(t, filepath.Join(dir, "journal.db")) })
	a := newAcked()
	for range 4 {
		killOne(t, dir, a)

		db, err := openShared(t.Context(), dir)
		require.NoError(t, err)
		require.Empty(t, db.Behind())
		found := map[uint64]bool{}
		secrets := 0
		require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
			require.NoError(t, err)
			if a.deleted[r.Seq] {
				return fmt.Errorf("record %d was deleted", r.Seq)
			}
			if id, ok := a.id[r.Seq]; ok {
				require.Equal(t, id, r.ID)
			}
			if n, ok := a.tries[r.Seq]; ok {
				require.Equal(t, n, r.Tries)
				require.Empty(t, r.Secret)
			}
			if r.Secret != "" {
				secrets++
				v, err := db.Secret(t.Context(), r)
				require.NoError(t, err)
				require.Equal(t, "493817", string(v.Bytes()))
			}
			found[r.Seq] = true
			return nil
		}))
		for seq := range a.id {
			require.True(t, found[seq], "record %d was acknowledged and is gone", seq)
		}
		list, err := filepath.Glob(filepath.Join(dir, "keys", "*"))
		require.NoError(t, err)
		require.Len(t, list, secrets, "one key for each secret that is waiting, and none besides")
		n, err := db.Serial(t.Context())
		require.NoError(t, err)
		a.line(t, "serial "+strconv.FormatUint(n, 10))
		require.NoError(t, db.Close())
	}
	require.NotEmpty(t, a.id)
	require.NotEmpty(t, a.serials)
	t.Logf("%d records, %d deleted, %d serials", len(a.id), len(a.deleted), len(a.serials))
}

// killOne runs a child for a moment, kills it and takes in what it was told.
func killOne(t *testing.T, dir string, a *acked) {
	cmd := exec.Command(os.Args[0], "-test.run=^$") //nolint:gosec,noctx // the test binary itself; killed below
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := bufio.NewScanner(out)
	require.True(t, s.Scan(), "the child did not open the journal")
	pid := cmd.Process.Pid
	require.Equal(t, "open "+strconv.Itoa(pid), s.Text())

	// While it runs, the journal is its own.
	_, err = openShared(t.Context(), dir)
	var locked *queue.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, pid, locked.PID)
	require.ErrorContains(t, err, fmt.Sprintf("is locked by another agent (pid %d)", pid))

	var timer *time.Timer
	for s.Scan() { // each line is one write to a pipe, so none is cut off
		a.line(t, s.Text())
		if timer == nil { // it writes: now for a moment of its own
			timer = time.AfterFunc(time.Duration(50+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() }) //nolint:gosec // no secret
		}
	}
	require.NotNil(t, timer, "the child wrote nothing")
	timer.Stop()
	require.Error(t, cmd.Wait(), "it was killed")
}

// TestFailedSyncIsAnsweredTruthfully lets every so many fdatasync calls of a
// child fail with EIO: what it was told is stored is there after a kill, and what
// it was told is not stored is not.
func TestFailedSyncIsAnsweredTruthfully(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed, so no system call can be made to fail")
	}
	dir := t.TempDir()
	t.Cleanup(func() { boltCheck(t, filepath.Join(dir, "journal.db")) })
	cmd := exec.Command(strace, "-f", "-o", filepath.Join(dir, "trace"), "-e", "trace=fdatasync", //nolint:gosec,noctx // ended below
		"-e", "inject=fdatasync:error=EIO:when=20+11", os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir, faultyEnv+"=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s := bufio.NewScanner(out)
	require.True(t, s.Scan(), "the child did not open the journal")
	pid, err := strconv.Atoi(strings.TrimPrefix(s.Text(), "open "))
	require.NoError(t, err)
	kill := func() { _ = unix.Kill(pid, unix.SIGKILL) }
	defer time.AfterFunc(3*patience, kill).Stop()
	a, began := newAcked(), time.Now()
	for s.Scan() {
		a.line(t, s.Text())
		if time.Since(began) > 2*time.Second && len(a.refused) > 0 {
			kill()
		}
	}
	require.Error(t, cmd.Wait(), "it was killed")
	trace, err := os.ReadFile(filepath.Join(dir, "trace"))
	require.NoError(t, err)
	injected := strings.Count(string(trace), "INJECTED")
	if injected == 0 {
		t.Skip("strace cannot inject errors here")
	}

	db, err := openShared(t.Context(), dir)
	require.NoError(t, err)
	found := map[uint64]string{}
	require.NoError(t, db.Each(t.Context(), func(r *txn.Request, err error) error {
		require.NoError(t, err)
		if a.refused[r.ID] {
			return fmt.Errorf("record %d was said not to be stored", r.Seq)
		}
		found[r.Seq] = r.ID
		return nil
	}))
	for seq, id := range a.id {
		require.Equal(t, id, found[seq])
	}
	require.NoError(t, db.Close())
	require.NotEmpty(t, a.refused)
	t.Logf("%d syncs failed; %d records, %d refused", injected, len(a.id), len(a.refused))
}

func TestKeyFileNamesTheRequestOnly(t *testing.T) {
	// A key file names its request and nothing else that identifies a customer.
	opt := options(t)
	db := open(t, opt)
	r := request("081234567890")
	r.Secret = txn.SecretPIN
	require.NoError(t, db.Add(t.Context(), r, pin("493817")))
	list := keyFiles(t, opt)
	require.Len(t, list, 1)
	id, gen, ok := strings.Cut(filepath.Base(list[0]), ".pin.")
	require.True(t, ok)
	require.Equal(t, r.ID, id)
	_, err := hex.DecodeString(gen)
	require.NoError(t, err)
	fi, err := os.Stat(list[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), fi.Mode().Perm())
}
