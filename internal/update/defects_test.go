package update_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"gardu/internal/update"
)

// What go-tuf's own updater does in a kiosk's circumstances, and what this package
// does: each test runs both, so that it fails when a cover is taken away, and says so
// when go-tuf no longer needs it.

// stock is go-tuf's updater as its examples set it up, over the same folder.
func (p *publisher) stock(k *update.Trust) (*updater.Updater, *config.UpdaterConfig, error) {
	p.t.Helper()
	root, err := os.ReadFile(k.RootFile)
	require.NoError(p.t, err)
	c, err := config.New(p.url+"metadata/", root)
	require.NoError(p.t, err)
	c.RemoteTargetsURL = p.url + "targets/"
	c.LocalMetadataDir = filepath.Join(k.Dir, "stock")
	c.LocalTargetsDir = filepath.Join(k.Dir, "stock-targets")
	u, err := updater.New(c)
	return u, c, err
}

func (p *publisher) stockRefresh(k *update.Trust) error {
	p.t.Helper()
	u, _, err := p.stock(k)
	if err != nil {
		return err
	}
	u.UnsafeSetRefTime(p.time())
	return u.Refresh()
}

func TestDefectATornCache(t *testing.T) {
	for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
		for how, spoil := range map[string]func(path string) error{
			"empty": func(path string) error { return os.Truncate(path, 0) },
			"half":  func(path string) error { return os.Truncate(path, 100) },
			"null":  func(path string) error { return os.WriteFile(path, []byte("null"), 0o600) }, // JSON, and no metadata
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				p := newPublisher(t)
				p.release("1.0.0", program(1, 9_000))
				k := p.trust()
				p.must(k)
				require.NoError(t, p.stockRefresh(k))
				require.NoError(t, spoil(filepath.Join(k.Dir, name)))
				require.NoError(t, spoil(filepath.Join(k.Dir, "stock", name)))
				spoilt, err := os.ReadFile(filepath.Join(k.Dir, name))
				require.NoError(t, err)
				if name != "targets.json" { // whose length the snapshot knows: go-tuf fetches that one again
					require.Error(t, p.stockRefresh(k), "go-tuf's updater fails now")
					require.Error(t, p.stockRefresh(k), "and for ever")
				}
				if w := p.must(k); !json.Valid(spoilt) {
					require.Contains(t, w.Healed, name)
				}
				require.Empty(t, p.must(k).Healed, "once")
				b, err := os.ReadFile(filepath.Join(k.Dir, name))
				require.NoError(t, err)
				require.NotEqual(t, spoilt, b, "written anew")
			})
		}
	}
	t.Run("floors", func(t *testing.T) {
		p := newPublisher(t)
		k := p.trust()
		p.must(k)
		require.NoError(t, os.WriteFile(filepath.Join(k.Dir, "floors.json"), []byte("{"), 0o600))
		require.Contains(t, p.must(k).Healed, "floors.json")
	})
	t.Run("floors, and an old world behind it", func(t *testing.T) {
		for name, spoil := range map[string]func(path string) error{"torn": func(path string) error { return os.Truncate(path, 5) }, "gone": os.Remove} {
			for _, attack := range []string{"at once", "after one that is tampered with"} {
				p := newPublisher(t)
				k := p.trust()
				old := p.copyRepo()
				p.release("1.0.0", program(1, 9_000))
				p.must(k)
				require.NoError(t, spoil(filepath.Join(k.Dir, "floors.json")))
				p.show(old)
				if attack != "at once" {
					p.setSpoil(func(w http.ResponseWriter, _ *http.Request) bool {
						_, _ = w.Write([]byte(`{"signed":{}}`))
						return true
					})
					_, err := p.refresh(k)
					require.ErrorIs(t, err, update.ErrRefused)
					p.setSpoil(nil)
				}
				_, err := p.refresh(k)
				require.ErrorIs(t, err, update.ErrOlder, "the caches hold: floors %s, %s", name, attack)
				p.show(p.repo.Dir)
				p.must(k)
				p.show(old)
				_, err = p.refresh(k)
				require.ErrorIs(t, err, update.ErrOlder)
			}
		}
	})
	t.Run("all of them, and an old world behind it", func(t *testing.T) {
		p := newPublisher(t)
		k := p.trust()
		old := p.copyRepo()
		p.release("1.0.0", program(1, 9_000))
		p.must(k)
		for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
			require.NoError(t, os.Truncate(filepath.Join(k.Dir, name), 0))
		}
		p.show(old)
		_, err := p.refresh(k)
		require.ErrorIs(t, err, update.ErrOlder, "the floors hold")
	})
}

func TestDefectTheProvisionedRootIsTakenForTheNewest(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0", program(1, 9_000))
	k := p.trust()
	old := p.copyRepo()
	p.rotateAll()
	p.must(k)
	require.NoError(t, p.stockRefresh(k))
	p.show(old)
	// go-tuf forgets the caches too, since the keys that signed them are not in that root.
	require.NoError(t, p.stockRefresh(k), "go-tuf's updater accepts the world before the rotation")
	_, err := p.refresh(k)
	require.ErrorIs(t, err, update.ErrRefused)
}

func TestDefectNoTimeoutAndNoContext(t *testing.T) {
	p := newPublisher(t)
	k := p.trust()
	release, asked := make(chan struct{}), make(chan struct{}, 10)
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let) // or the server would wait for go-tuf
	p.setSpoil(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "timestamp.json") {
			asked <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return true
		}
		return false
	})
	stock := make(chan error, 1)
	go func() { stock <- p.stockRefresh(k) }()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	_, err := k.Refresh(ctx, p.source())
	require.ErrorIs(t, err, update.ErrNetwork, "ours ends with its context")
	require.ErrorIs(t, err, context.Canceled, "and not by another timeout")
	_, err = k.Refresh(t.Context(), p.source().WithStall(50*time.Millisecond))
	require.ErrorIs(t, err, update.ErrNetwork, "and without one after a while")
	require.ErrorContains(t, err, "nothing came for too long")
	select {
	case err := <-stock:
		t.Fatalf("go-tuf's updater has a timeout now: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	let()
	<-stock
}

func TestDefectRedirectsAreFollowed(t *testing.T) {
	p := newPublisher(t)
	k := p.trust()
	elsewhere := newPublisher(t)
	p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, elsewhere.url+strings.TrimPrefix(r.URL.Path, "/"), http.StatusFound)
		return true
	})
	_, err := p.refresh(k)
	require.ErrorContains(t, err, "which is not followed")
	require.Empty(t, elsewhere.requests())
	_ = p.stockRefresh(k)
	require.NotEmpty(t, elsewhere.requests(), "go-tuf's updater goes wherever it is sent")
}

// cutting answers targets with a file and cuts each connection after so many bytes.
func cutting(file []byte, each int64) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/targets/") {
			serveCut(w, r, file, each)
			return true
		}
		return false
	}
}

func TestDefectADownloadCannotBeResumed(t *testing.T) {
	p := newPublisher(t)
	b := program(1, 3<<20)
	p.release("1.0.0", b)
	k := p.trust()
	tg := p.must(k).List()[0]
	p.setSpoil(cutting(b, 1<<20))
	u, _, err := p.stock(k)
	require.NoError(t, err)
	info, err := u.GetTargetInfo(tg.Name)
	require.NoError(t, err)
	for range 5 {
		_, _, err = u.DownloadTarget(info, "", "")
		require.Error(t, err, "go-tuf's updater begins anew each time and never ends")
	}
	path, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
	require.NoError(t, err)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, b, got)
}

// TestDefectAFullDisk needs a disk that is full: a file system in memory of a few
// hundred kilobytes.
func TestDefectAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	small := filepath.Join(t.TempDir(), "small")
	require.NoError(t, os.Mkdir(small, 0o750))
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a small file system here: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", small).Run() })
	p := newPublisher(t)
	p.release("1.0.0", program(1, 300_000))
	p.release("1.1.0", program(2, 500_000))
	k := p.trust()
	list := p.must(k).List()
	good, big := list[0], list[1]

	// go-tuf: the good file is gone.
	u, _, err := p.stock(k)
	require.NoError(t, err)
	file := filepath.Join(small, "gardu")
	info, err := u.GetTargetInfo(good.Name)
	require.NoError(t, err)
	_, _, err = u.DownloadTarget(info, file, "")
	require.NoError(t, err)
	info, err = u.GetTargetInfo(big.Name)
	require.NoError(t, err)
	filler := filepath.Join(small, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, 200_000), 0o600))
	_, _, err = u.DownloadTarget(info, file, "")
	require.Error(t, err)
	st, err := os.Stat(file)
	require.NoError(t, err)
	require.NotEqual(t, good.Length, st.Size(), "go-tuf's updater has destroyed the good file")
	require.NoError(t, os.Remove(file))

	// Ours: not a byte is fetched, and what was there stays.
	path, err := update.Download(t.Context(), p.source(), good, small)
	require.NoError(t, err)
	p.requests()
	_, err = update.Download(t.Context(), p.source(), big, small)
	require.ErrorIs(t, err, update.ErrDisk)
	require.Empty(t, p.requests())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, program(1, 300_000), b)
	require.NoError(t, os.Remove(filler))
	require.NoError(t, os.Remove(path))
	_, err = update.Download(t.Context(), p.source(), big, small)
	require.NoError(t, err, "and with room it goes on")

	// The same through the whole updater: a reason, and a machine that goes on.
	m := newMachine(t)
	m.paths.Opt = filepath.Join(small, "opt")
	require.NoError(t, os.Mkdir(m.paths.Opt, 0o750))
	_, err = m.run(p)
	require.ErrorIs(t, err, update.ErrDisk)
	rep, err := update.LastReport(m.paths)
	require.NoError(t, err)
	require.Equal(t, update.CodeDisk, rep.Reason.Code)
	m.start()
	require.Equal(t, update.Factory, m.running)
}

func TestDefectAHostThatAnswers403ForAMissingFile(t *testing.T) {
	p := newPublisher(t)
	p.missing = http.StatusForbidden
	k := p.trust()
	require.Error(t, p.stockRefresh(k), "go-tuf's updater breaks")
	_, err := p.refresh(k)
	require.ErrorContains(t, err, "HTTP status 403", "so does ours where nobody told it, and says what")
	_, err = k.Refresh(t.Context(), p.source(http.StatusForbidden))
	require.NoError(t, err)
}

func TestDefectTheClock(t *testing.T) {
	t.Run("1970", func(t *testing.T) {
		p := newPublisher(t)
		k := p.trust()
		p.must(k)
		frozen := p.copyRepo()
		p.later(20 * 24 * time.Hour)
		p.publish()
		now := p.must(k) // it knows a later time now
		require.Empty(t, now.Clock)
		early := func() time.Time { return time.Unix(0, 0) }
		// What has expired long ago, shown to a kiosk whose battery is empty.
		fresh := p.trust()
		p.show(frozen)
		u, _, err := p.stock(fresh)
		require.NoError(t, err)
		u.UnsafeSetRefTime(early())
		require.NoError(t, u.Refresh(), "go-tuf's updater takes it")
		other := p.trust()
		other.Now, other.Built = early, p.time()
		_, err = p.refresh(other)
		require.ErrorIs(t, err, update.ErrExpired, "the time of the build is enough to refuse it")
		p.show(p.repo.Dir)
		k.Now = early
		w := p.must(k)
		require.Contains(t, w.Clock, "set the clock", "the world goes on, with an alarm")
	})
	t.Run("2040", func(t *testing.T) {
		p := newPublisher(t)
		k := p.trust()
		p.must(k)
		k.Now = func() time.Time { return time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC) }
		_, err := p.refresh(k)
		require.ErrorIs(t, err, update.ErrExpired)
		require.ErrorContains(t, err, "this machine's clock says 2040-01-01")
		require.ErrorContains(t, err, "where that is wrong set the clock")
		k.Now = p.time
		_, err = p.refresh(k)
		require.NoError(t, err, "and nothing of 2040 was kept")
	})
}

func TestDefectTwoDigests(t *testing.T) {
	p := newPublisher(t)
	p.release("1.0.0", program(1, 9_000))
	// A publisher that lists a second digest too.
	m, err := metadata.Targets().FromFile(filepath.Join(p.repo.Dir, "metadata", "2.targets.json"))
	require.NoError(t, err)
	const name = "gardu-1.0.0-linux-amd64"
	require.NoError(t, os.MkdirAll(filepath.Join(p.repo.Dir, "draft"), 0o750))
	m.Signed.Version, m.Signatures = 3, nil
	m.Signed.Targets[name].Hashes["sha512"] = make([]byte, 64)
	b, err := m.ToBytes(false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.repo.Dir, "draft", "targets.json"), b, 0o600))
	p.signPublish()
	k := p.trust()
	u, _, err := p.stock(k)
	require.NoError(t, err)
	info, err := u.GetTargetInfo(name)
	require.NoError(t, err)
	_, _, err = u.DownloadTarget(info, "", "")
	require.Error(t, err, "go-tuf's updater cannot fetch it")
	_, err = update.Download(t.Context(), p.source(), p.must(k).List()[0], t.TempDir())
	require.NoError(t, err)

	// And ours never lists one.
	all, err := metadata.Targets().FromFile(filepath.Join(p.repo.Dir, "metadata", "2.targets.json"))
	require.NoError(t, err)
	for name, tg := range all.Signed.Targets {
		require.Len(t, tg.Hashes, 1, name)
		require.Contains(t, tg.Hashes, "sha256")
	}
}

// A freeze within the metadata's life cannot be noticed by anybody, so its age is
// shown.
func TestDefectAFreezeIsInvisible(t *testing.T) {
	p := newPublisher(t)
	k := p.trust()
	p.show(p.copyRepo())
	p.later(5 * 24 * time.Hour)
	p.publish()
	w := p.must(k)
	require.Equal(t, 5*24*time.Hour, p.time().Sub(w.Timestamp.Signed))
	require.True(t, w.Timestamp.Expires.After(p.time()))
}

// A stick holds a cut of the repository that lives longer, and the same kiosk goes
// on with the online repository afterwards.
func TestAStick(t *testing.T) {
	p, m := newPublisher(t), newMachine(t)
	p.release("1.0.0", program(1, 30_000))
	stick := filepath.Join(t.TempDir(), "stick")
	require.NoError(t, p.repo.Cut(stick, 90*24*time.Hour, p.online))
	p.later(60 * 24 * time.Hour) // the online metadata would have expired long ago
	o := m.options(p)
	o.Source.URL = "file://" + stick
	o.MaxAge = 14 * 24 * time.Hour
	_, err := update.New(o).Run(t.Context(), update.How{})
	require.NoError(t, err)
	require.Equal(t, "1.0.0", m.running)
	require.Empty(t, p.requests())

	o.Source.URL = "file://" + stick + "-gone"
	rep, err := update.New(o).Run(t.Context(), update.How{})
	require.ErrorIs(t, err, update.ErrNetwork)
	require.Contains(t, rep.Reason.Text, "is the stick plugged in and mounted?")

	p.release("1.1.0", program(2, 30_000))
	_, err = m.run(p)
	require.NoError(t, err)
	require.Equal(t, "1.1.0", m.running)
	o.Source.URL = "file://" + stick
	_, err = update.New(o).Run(t.Context(), update.How{})
	require.ErrorIs(t, err, update.ErrOlder, "an old stick brings nobody back")

	p.later(40 * 24 * time.Hour)
	_, err = update.New(m.optionsAt(p, "file://"+stick)).Run(t.Context(), update.How{})
	require.Error(t, err)
}

func (m *machine) optionsAt(p *publisher, url string) update.Options {
	o := m.options(p)
	o.Source.URL = url
	return o
}

// Things on a stick that are no files are not waited for and not followed.
func TestAStickWithTraps(t *testing.T) {
	p := newPublisher(t)
	stick := p.copyRepo()
	src, err := update.NewSource(update.SourceOptions{URL: "file://" + stick})
	require.NoError(t, err)
	for _, name := range []string{"../secret", "/etc/passwd", "metadata/../../x"} {
		_, err := src.Get(t.Context(), name, 1000)
		require.ErrorIs(t, err, update.ErrMissing, name)
	}
	pipe := filepath.Join(stick, "metadata", "timestamp.json")
	require.NoError(t, os.Remove(pipe))
	require.NoError(t, exec.CommandContext(t.Context(), "mkfifo", pipe).Run())
	_, err = src.Get(t.Context(), "metadata/timestamp.json", 1000)
	require.ErrorContains(t, err, "not a regular file")
	require.NoError(t, os.Remove(pipe))
	require.NoError(t, os.Symlink("/etc/passwd", pipe))
	_, err = src.Get(t.Context(), "metadata/timestamp.json", 1000)
	require.Error(t, err)
}
