package update_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/update"
	"gardu/internal/update/publish"
)

// A publication is killed after each of its files. The next one finishes it, and a
// kiosk that looked in between is not lost.
func TestAPublicationThatWasKilledIsFinishedByTheNext(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0", program(1, 9_000))
	fresh := key(t)
	require.NoError(t, p.repo.Rotate(publish.Targets, keyID(t, p.targets[1]), pub(t, fresh)))
	p.targets[1] = fresh
	p.sign()
	before := p.copyRepo()
	p.publish()
	names := []string{"2.root.json", "3.targets.json", "3.snapshot.json", "timestamp.json"}
	for n := range len(names) + 1 {
		t.Run(fmt.Sprintf("%d files", n), func(t *testing.T) {
			k := p.trust()
			dir := filepath.Join(t.TempDir(), "repo")
			require.NoError(t, os.CopyFS(dir, os.DirFS(before)))
			p.show(dir)
			p.must(k)
			for _, name := range names[:n] {
				b, err := os.ReadFile(filepath.Join(p.repo.Dir, "metadata", name))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(dir, "metadata", name), b, 0o600))
			}
			if n < len(names) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "metadata", names[n]+".new"), []byte(`{"signatures":`), 0o600))
			}
			r := publish.Open(dir)
			r.Now = p.time
			half, err := r.Interrupted()
			require.NoError(t, err)
			require.Equal(t, n > 0, half)
			if n > 0 {
				_, err = r.Renew(p.online)
				require.ErrorIs(t, err, publish.ErrInterrupted)
				require.ErrorContains(t, err, "finish it with 'gardu-release publish'")
			}
			if w, err := p.refresh(k); err == nil {
				require.Len(t, w.List(), 1)
			} else {
				require.ErrorIs(t, err, update.ErrRefused)
			}
			_, err = r.Publish(p.online)
			require.NoError(t, err)
			require.NoDirExists(t, filepath.Join(dir, "draft"))
			half, err = r.Interrupted()
			require.NoError(t, err)
			require.False(t, half)
			w := p.must(k)
			require.EqualValues(t, 2, w.Root.Version)
			require.EqualValues(t, 3, w.Targets.Version)
			_, err = r.Renew(p.online)
			require.NoError(t, err)
			p.must(k)
		})
	}
}

// What a kiosk would not believe any more is not published, and it says who must act.
func TestWhatHasExpiredIsNotPublished(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0", program(1, 9_000))
	k := p.trust()
	p.must(k)
	p.later(401 * 24 * time.Hour)
	for range 2 { // also by the daily job
		_, err := p.repo.Renew(p.online)
		require.ErrorIs(t, err, publish.ErrExpired)
		require.ErrorContains(t, err, "'gardu-release renew-root', the holders of the root keys sign")
	}
	require.NoError(t, p.repo.RenewRoot())
	p.sign()
	_, err := p.repo.Publish(p.online)
	require.ErrorIs(t, err, publish.ErrExpired)
	require.ErrorContains(t, err, "'gardu-release renew-targets', the holders of the targets keys sign")
	_, err = p.refresh(k)
	require.ErrorIs(t, err, update.ErrExpired)
	require.NoError(t, p.repo.RenewTargets())
	p.signPublish()
	require.Len(t, p.must(k).List(), 1)
}

// A draft that waits for signatures keeps nobody from renewing, and stays as it is.
func TestADraftThatWaitsDoesNotLetTheMetadataExpire(t *testing.T) {
	p := newPublisher(t)
	k := p.trust()
	p.release("1.0.0", program(1, 9_000))
	require.NoError(t, p.repo.Phase("1.0.0", "stable", 50))
	_, err := p.repo.Sign(p.targets[0])
	require.NoError(t, err)
	for range 10 { // a timestamp lives for seven days
		p.later(24 * time.Hour)
		_, err := p.repo.Publish(p.online)
		require.ErrorIs(t, err, publish.ErrUnsigned)
		_, err = p.repo.Renew(p.online)
		require.NoError(t, err)
		require.Zero(t, p.time().Sub(p.must(k).Timestamp.Signed))
	}
	_, err = p.repo.Sign(p.targets[1])
	require.NoError(t, err)
	p.publish()
	require.Equal(t, 50, p.must(k).List()[0].Custom.Channels["stable"].Percent)
}

// Two processes do not change a folder at a time.
func TestAFolderInWhichAnotherWorksIsWaitedFor(t *testing.T) {
	p := newPublisher(t)
	other, err := os.Open(p.repo.Dir)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	require.NoError(t, flock(other))
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.ErrorIs(t, p.repo.RenewTargets(), publish.ErrBusy)
		require.GreaterOrEqual(t, time.Since(began), 30*time.Second)
		time.AfterFunc(10*time.Second, func() { _ = other.Close() })
		require.NoError(t, p.repo.RenewTargets())
	})
}
