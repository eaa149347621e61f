package update_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"gardu/internal/update"
	"gardu/internal/update/publish"
)

// thief makes metadata with keys that were stolen, and shows it beside what the
// publisher has.
type thief struct {
	p             *publisher
	dir           string
	root, targets []publish.Signer
	online        publish.Online
}

func newThief(p *publisher) *thief {
	return &thief{p, p.copyRepo(), slices.Clone(p.root), slices.Clone(p.targets), p.online}
}

func put[T metadata.Roles](th *thief, name string, m *metadata.Metadata[T], keys ...publish.Signer) []byte {
	t := th.p.t
	t.Helper()
	m.Signatures = nil
	for _, k := range keys {
		b, err := cjson.EncodeCanonical(m.Signed)
		require.NoError(t, err)
		sig, err := k.Sign(b)
		require.NoError(t, err)
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: keyID(t, k), Signature: sig})
	}
	b, err := m.ToBytes(false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(th.dir, "metadata", name), b, 0o600))
	return b
}

func meta(version int64, b []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(b)
	return &metadata.MetaFiles{Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}

func (th *thief) read(name string) []byte {
	b, err := os.ReadFile(filepath.Join(th.dir, "metadata", name))
	require.NoError(th.p.t, err)
	return b
}

// world signs a snapshot and a timestamp over a targets file.
func (th *thief) world(snapshot, timestamp, targets int64, targetsBytes []byte) {
	soon := th.p.time().Add(24 * time.Hour)
	s := metadata.Snapshot(soon)
	s.Signed.Version = snapshot
	s.Signed.Meta["targets.json"] = meta(targets, targetsBytes)
	b := put(th, fmt.Sprintf("%d.snapshot.json", snapshot), s, th.online.Snapshot)
	ts := metadata.Timestamp(soon)
	ts.Signed.Version = timestamp
	ts.Signed.Meta["snapshot.json"] = meta(snapshot, b)
	put(th, "timestamp.json", ts, th.online.Timestamp)
	th.p.show(th.dir)
}

// TestAttacks is the table of what somebody between publisher and kiosk, or with
// some of the keys, can try. Each line is printed with what became of it.
func TestAttacks(t *testing.T) {
	// Every attack begins with a kiosk that has seen releases 1.0.0 to 1.2.0.
	begin := func(t *testing.T) (p *publisher, k *update.Trust, old string) {
		p = newPublisher(t)
		k = p.trust()
		p.release("1.0.0", program(1, 10_000))
		p.release("1.1.0", program(2, 10_000))
		old = p.copyRepo()
		p.release("1.2.0", program(3, 10_000))
		p.must(k)
		return p, k, old
	}
	newest := func(p *publisher, k *update.Trust) string {
		c := p.must(k).Choose(update.Wish{Kiosk: "7", Channel: "stable", Arch: "amd64"})
		require.NotNil(p.t, c.Target)
		return c.Target.Custom.Version
	}
	target := func(p *publisher, k *update.Trust) update.Target {
		for _, tg := range p.must(k).List() {
			if tg.Custom.Version == "1.2.0" {
				return tg
			}
		}
		p.t.Fatal("no target 1.2.0")
		return update.Target{}
	}
	for _, c := range []struct {
		name string
		try  func(t *testing.T, p *publisher, k *update.Trust, old string) error
		want error // nil: healed
		also bool  // and once more with the caches gone: the floors alone must hold
	}{
		{"a replayed repository", func(_ *testing.T, p *publisher, k *update.Trust, old string) error {
			p.show(old)
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"stolen timestamp key: an older snapshot", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			ts := metadata.Timestamp(p.time().Add(time.Hour))
			ts.Signed.Version = 99
			ts.Signed.Meta["snapshot.json"] = meta(2, th.read("2.snapshot.json"))
			put(th, "timestamp.json", ts, p.online.Timestamp)
			p.show(th.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"stolen timestamp key: an older snapshot of the same targets", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			older := newThief(p)
			p.publish()
			p.must(k)
			ts := metadata.Timestamp(p.time().Add(time.Hour))
			ts.Signed.Version = 99
			ts.Signed.Meta["snapshot.json"] = meta(4, older.read("4.snapshot.json"))
			put(older, "timestamp.json", ts, p.online.Timestamp)
			p.show(older.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"stolen timestamp key: an older timestamp of the same snapshot", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			ts, err := metadata.Timestamp().FromBytes(th.read("timestamp.json"))
			require.NoError(p.t, err)
			ts.Signed.Version--
			put(th, "timestamp.json", ts, p.online.Timestamp)
			p.show(th.dir)
			_, err = p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"stolen timestamp key: a snapshot that nobody signed", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			s := metadata.Snapshot(p.time().Add(time.Hour))
			s.Signed.Version = 50
			b := put(th, "50.snapshot.json", s, p.online.Timestamp)
			ts := metadata.Timestamp(p.time().Add(time.Hour))
			ts.Signed.Version = 99
			ts.Signed.Meta["snapshot.json"] = meta(50, b)
			put(th, "timestamp.json", ts, p.online.Timestamp)
			p.show(th.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"stolen timestamp key: a timestamp that makes no sense", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			ts := metadata.Timestamp(p.time().Add(time.Hour))
			ts.Signed.Version = 99
			ts.Signed.Meta = map[string]*metadata.MetaFiles{}
			put(th, "timestamp.json", ts, p.online.Timestamp)
			p.show(th.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"stolen timestamp and snapshot keys: older targets", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			th.world(60, 99, 3, th.read("3.targets.json"))
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"stolen timestamp and snapshot keys: targets of their own", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			m, err := metadata.Targets().FromBytes(th.read("4.targets.json"))
			require.NoError(p.t, err)
			m.Signed.Version = 5
			b := put(th, "5.targets.json", m, p.online.Snapshot, p.online.Timestamp)
			th.world(60, 99, 5, b)
			_, err = p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"one signature of two", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			m, err := metadata.Targets().FromBytes(th.read("4.targets.json"))
			require.NoError(p.t, err)
			m.Signed.Version = 5
			b := put(th, "5.targets.json", m, p.targets[0])
			th.world(60, 99, 5, b)
			_, err = p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"one signature of two, given twice", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			m, err := metadata.Targets().FromBytes(th.read("4.targets.json"))
			require.NoError(p.t, err)
			m.Signed.Version = 5
			b := put(th, "5.targets.json", m, p.targets[0], p.targets[0])
			th.world(60, 99, 5, b)
			_, err = p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"one stolen root key: a root of the thief's own keys", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th, own := newThief(p), newPublisher(p.t) // with keys of its own for every role
			root, err := metadata.Root().FromFile(filepath.Join(own.repo.Dir, "metadata", "1.root.json"))
			require.NoError(p.t, err)
			root.Signed.Version = 2
			put(th, "2.root.json", root, p.root[0], own.root[0], own.root[1])
			p.show(th.dir)
			_, err = p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"tampered metadata", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			p.publish()
			th := newThief(p)
			b := bytes.Replace(th.read("timestamp.json"), []byte(`"length":`), []byte(`"length":1`), 1)
			require.NoError(p.t, os.WriteFile(filepath.Join(th.dir, "metadata", "timestamp.json"), b, 0o600))
			p.show(th.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"a tampered program", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/targets/") {
					return false
				}
				b := program(3, 10_000)
				b[5000] ^= 1
				_, _ = w.Write(b)
				return true
			})
			_, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
			return err
		}, update.ErrTampered, false},
		{"endless metadata", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			p.setSpoil(endless("/timestamp.json"))
			_, err := p.refresh(k)
			require.ErrorIs(p.t, err, update.ErrTooLong)
			return err
		}, update.ErrRefused, true},
		{"an endless root", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			p.setSpoil(endless("/2.root.json"))
			_, err := p.refresh(k)
			require.ErrorIs(p.t, err, update.ErrTooLong)
			return err
		}, update.ErrRefused, true},
		{"an endless program", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(endless("/targets/"))
			_, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
			return err
		}, update.ErrTampered, false},
		{"a program that never ends coming", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/targets/") {
					return false
				}
				w.Header().Set("Content-Length", "10000")
				<-r.Context().Done() // not a byte
				return true
			})
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			_, err := update.Download(ctx, p.source().WithStall(30*time.Millisecond), tg, t.TempDir())
			require.NoError(t, ctx.Err(), "it ends by itself")
			return err
		}, update.ErrNetwork, false},
		{"a program that comes a byte at a time, each over a connection of its own", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(cutting(program(3, 10_000), 1))
			_, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
			require.Less(t, len(p.requests()), 100, "it is given up")
			return err
		}, update.ErrNetwork, false},
		{"a truncated program", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/targets/") {
					return false
				}
				w.Header().Set("Content-Length", "9000")
				_, _ = w.Write(program(3, 9_000))
				return true
			})
			_, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
			return err
		}, update.ErrTampered, false},
		{"a truncated program whose length is not said", func(t *testing.T, p *publisher, k *update.Trust, _ string) error {
			tg := target(p, k)
			p.setSpoil(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/targets/") {
					return false
				}
				_, _ = w.Write(program(3, 9_000)) // too long for net/http to count
				return true
			})
			_, err := update.Download(t.Context(), p.source(), tg, t.TempDir())
			return err
		}, update.ErrNetwork, false},
		{"truncated metadata", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			p.publish()
			th := newThief(p)
			b := th.read("timestamp.json")
			require.NoError(p.t, os.WriteFile(filepath.Join(th.dir, "metadata", "timestamp.json"), b[:len(b)/2], 0o600))
			p.show(th.dir)
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"frozen, beyond its life", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			p.show(p.copyRepo())
			p.later(8 * 24 * time.Hour)
			p.publish()
			_, err := p.refresh(k)
			return err
		}, update.ErrExpired, true},
		{"frozen, within its life but beyond what this kiosk accepts", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			k.MaxAge = 3 * 24 * time.Hour
			p.show(p.copyRepo())
			p.later(4 * 24 * time.Hour)
			p.publish()
			_, err := p.refresh(k)
			return err
		}, update.ErrStale, true},
		{"fast-forwarded, before the keys are changed", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			forward(p, k)
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
		{"fast-forwarded, after the keys are changed", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			forward(p, k)
			p.rotateOnline()
			p.release("1.3.0", program(4, 10_000))
			_, err := p.refresh(k)
			require.Equal(p.t, "1.3.0", newest(p, k))
			return err
		}, nil, false},
		{"the signed time moved to 2099 by a stolen timestamp key, after the keys are changed", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			th := newThief(p)
			far := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
			ts, err := metadata.Timestamp().FromBytes(th.read("timestamp.json"))
			require.NoError(p.t, err)
			ts.Signed.Version, ts.Signed.Expires = 99, far.Add(time.Hour)
			ts.Signed.UnrecognizedFields = map[string]any{update.SignedAt: far.Format(time.RFC3339)}
			put(th, "timestamp.json", ts, p.online.Timestamp)
			p.show(th.dir)
			p.must(k)
			p.show(p.repo.Dir)
			_, err = p.refresh(k)
			require.Error(p.t, err, "until then it stands still")
			p.rotateOnline()
			_, err = p.refresh(k)
			return err
		}, nil, false},
		{"the root rotated 300 times while the kiosk was off", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			for range 300 {
				p.rotateRoot()
			}
			p.requests()
			w, err := p.refresh(k)
			if err == nil {
				require.EqualValues(p.t, 301, w.Root.Version)
				require.Equal(p.t, "1.2.0", newest(p, k))
			}
			return err
		}, nil, false},
		{"all keys stolen and changed, then the old world replayed", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			before := newThief(p)
			p.rotateAll()
			p.release("1.3.0", program(4, 10_000))
			require.Equal(p.t, "1.3.0", newest(p, k))
			// With every old key the thief signs a release of their own, numbers beyond any.
			before.oldWorld()
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"the same, and the newest root on the disk is torn", func(_ *testing.T, p *publisher, k *update.Trust, _ string) error {
			before := newThief(p)
			p.rotateAll()
			p.must(k)
			before.oldWorld()
			require.NoError(p.t, os.WriteFile(filepath.Join(k.Dir, "root.json"), []byte(`{"signed":`), 0o600))
			_, err := p.refresh(k)
			return err
		}, update.ErrRefused, true},
		{"the same, and the old world is shown as it was", func(_ *testing.T, p *publisher, k *update.Trust, old string) error {
			p.rotateAll()
			p.must(k)
			p.show(old)
			require.NoError(p.t, os.WriteFile(filepath.Join(k.Dir, "root.json"), []byte(`{"signed":`), 0o600))
			_, err := p.refresh(k)
			return err
		}, update.ErrOlder, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, k, old := begin(t)
			err := c.try(t, p, k, old)
			if c.want == nil {
				require.NoError(t, err)
				fmt.Printf("ATTACK %-85s healed\n", c.name)
				return
			}
			require.ErrorIs(t, err, c.want)
			fmt.Printf("ATTACK %-85s refused: %s\n", c.name, short(err))
			if c.also {
				for _, name := range []string{"timestamp.json", "snapshot.json", "targets.json"} {
					_ = os.Remove(filepath.Join(k.Dir, name))
				}
				_, err := p.refresh(k)
				require.Error(t, err, "also without the caches")
				require.NotErrorIs(t, err, update.ErrNetwork)
			}
			// What was refused has left nothing behind that would keep the truth out.
			if c.name != "fast-forwarded, before the keys are changed" {
				p.setSpoil(nil)
				p.show(p.repo.Dir)
				k.MaxAge = 0
				p.publish()
				_, err := p.refresh(k)
				require.NoError(t, err)
			}
		})
	}
}

func short(err error) string {
	s := err.Error()
	if len(s) > 150 {
		s = s[:150] + "…"
	}
	return s
}

// endless answers a path with bytes that do not end.
func endless(part string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		b := bytes.Repeat([]byte("x"), 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(b); err != nil {
				break
			}
		}
		return true
	}
}

// forward counts the online versions up to the end, as a thief can, and comes back.
func forward(p *publisher, k *update.Trust) {
	th := newThief(p)
	th.world(1<<31, 1<<31, 4, th.read("4.targets.json"))
	p.must(k)
	p.show(p.repo.Dir)
	p.publish()
}

func (p *publisher) rotateOnline() {
	p.t.Helper()
	s, ts := key(p.t), key(p.t)
	require.NoError(p.t, p.repo.Rotate(publish.Snapshot, keyID(p.t, p.online.Snapshot), pub(p.t, s)))
	require.NoError(p.t, p.repo.Rotate(publish.Timestamp, keyID(p.t, p.online.Timestamp), pub(p.t, ts)))
	p.online = publish.Online{Snapshot: s, Timestamp: ts}
	p.signPublish()
}

// rotateRoot replaces one root key: two of the old and two of the new must sign.
func (p *publisher) rotateRoot() {
	p.t.Helper()
	fresh := key(p.t)
	require.NoError(p.t, p.repo.Rotate(publish.Root, keyID(p.t, p.root[2]), pub(p.t, fresh)))
	p.root[2] = p.root[1]
	p.root[1] = p.root[0]
	p.root[0] = fresh
	for _, s := range p.root {
		_, err := p.repo.Sign(s)
		require.NoError(p.t, err)
	}
	// Published by hand: snapshot and timestamp stay as they are, and 300 of them
	// would take a minute.
	v := len(p.roots()) + 1
	require.NoError(p.t, os.Rename(filepath.Join(p.repo.Dir, "draft", "root.json"), filepath.Join(p.repo.Dir, "metadata", fmt.Sprintf("%d.root.json", v))))
}

func (p *publisher) roots() []string {
	p.t.Helper()
	all, err := filepath.Glob(filepath.Join(p.repo.Dir, "metadata", "*.root.json"))
	require.NoError(p.t, err)
	return all
}

func (p *publisher) rotateAll() {
	p.t.Helper()
	old := append([]publish.Signer(nil), p.root...)
	for i := range p.root {
		fresh := key(p.t)
		require.NoError(p.t, p.repo.Rotate(publish.Root, keyID(p.t, p.root[i]), pub(p.t, fresh)))
		p.root[i] = fresh
	}
	for i := range p.targets {
		fresh := key(p.t)
		require.NoError(p.t, p.repo.Rotate(publish.Targets, keyID(p.t, p.targets[i]), pub(p.t, fresh)))
		p.targets[i] = fresh
	}
	s, ts := key(p.t), key(p.t)
	require.NoError(p.t, p.repo.Rotate(publish.Snapshot, keyID(p.t, p.online.Snapshot), pub(p.t, s)))
	require.NoError(p.t, p.repo.Rotate(publish.Timestamp, keyID(p.t, p.online.Timestamp), pub(p.t, ts)))
	p.online = publish.Online{Snapshot: s, Timestamp: ts}
	for _, o := range old {
		_, err := p.repo.Sign(o)
		require.NoError(p.t, err)
	}
	p.signPublish()
}

// oldWorld is the repository of before a rotation, with all that a thief of every
// old key can add: a root, targets, a snapshot and a timestamp, numbered as high as
// they like.
func (th *thief) oldWorld() {
	t := th.p.t
	t.Helper()
	root, err := metadata.Root().FromBytes(th.read("1.root.json"))
	require.NoError(t, err)
	for v := int64(2); v < 5; v++ {
		root.Signed.Version = v
		put(th, fmt.Sprintf("%d.root.json", v), root, th.root[0], th.root[1])
	}
	m, err := metadata.Targets().FromBytes(th.read("4.targets.json"))
	require.NoError(t, err)
	m.Signed.Version = 1000
	th.world(1000, 1000, 1000, put(th, "1000.targets.json", m, th.targets[0], th.targets[1]))
}
