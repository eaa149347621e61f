package update_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"gardu/internal/update"
	"gardu/internal/update/publish"
)

// publisher is a bank with its key holders, a repository and a web server.
type publisher struct {
	t       testing.TB
	repo    *publish.Repo
	root    []publish.Signer
	targets []publish.Signer
	online  publish.Online
	base    time.Time

	mu      sync.Mutex // guards what follows
	now     time.Time
	spoil   func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	asked   []string
	dir     string // what is served
	missing int
	url     string
}

func key(t testing.TB) publish.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return publish.Plain(k)
}

func pub(t testing.TB, s publish.Signer) crypto.PublicKey {
	t.Helper()
	p, err := s.Public()
	require.NoError(t, err)
	return p
}

func keyID(t testing.TB, s publish.Signer) string {
	t.Helper()
	id, err := publish.KeyID(pub(t, s))
	require.NoError(t, err)
	return id
}

// newPublisher holds the ceremony and publishes an empty repository.
func newPublisher(t testing.TB) *publisher {
	t.Helper()
	p := &publisher{
		t: t, root: []publish.Signer{key(t), key(t), key(t)}, targets: []publish.Signer{key(t), key(t)},
		online: publish.Online{Snapshot: key(t), Timestamp: key(t)}, missing: http.StatusNotFound,
	}
	p.base = time.Now().UTC().Truncate(time.Second)
	p.now = p.base
	p.repo = publish.Open(filepath.Join(t.TempDir(), "repo"))
	p.repo.Now = p.time
	p.dir = p.repo.Dir
	require.NoError(t, p.repo.Begin(publish.Roles{
		publish.Root:      {Keys: []crypto.PublicKey{pub(t, p.root[0]), pub(t, p.root[1]), pub(t, p.root[2])}, Threshold: 2},
		publish.Targets:   {Keys: []crypto.PublicKey{pub(t, p.targets[0]), pub(t, p.targets[1])}, Threshold: 2},
		publish.Snapshot:  {Keys: []crypto.PublicKey{pub(t, p.online.Snapshot)}, Threshold: 1},
		publish.Timestamp: {Keys: []crypto.PublicKey{pub(t, p.online.Timestamp)}, Threshold: 1},
	}))
	p.sign()
	p.publish()
	s := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(s.Close)
	p.url = s.URL + "/"
	return p
}

func (p *publisher) time() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now }

func (p *publisher) later(d time.Duration) { p.mu.Lock(); defer p.mu.Unlock(); p.now = p.now.Add(d) }

func (p *publisher) setSpoil(fn func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil = fn
}

func (p *publisher) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	spoil, dir, missing := p.spoil, p.dir, p.missing
	p.asked = append(p.asked, strings.TrimPrefix(r.URL.Path, "/"))
	p.mu.Unlock()
	if spoil != nil && spoil(w, r) {
		return
	}
	path := filepath.Join(dir, filepath.FromSlash(r.URL.Path))
	if _, err := os.Stat(path); err != nil {
		http.Error(w, "", missing)
		return
	}
	http.ServeFile(w, r, path)
}

func (p *publisher) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.asked
	p.asked = nil
	return a
}

// sign has two of three and two of two sign what is drafted.
func (p *publisher) sign() {
	p.t.Helper()
	for _, s := range []publish.Signer{p.root[0], p.root[1], p.targets[0], p.targets[1]} {
		if _, err := p.repo.Sign(s); err != nil {
			require.ErrorIs(p.t, err, publish.ErrWrongKey)
		}
	}
}

func (p *publisher) publish() {
	p.t.Helper()
	_, err := p.repo.Publish(p.online)
	require.NoError(p.t, err)
}

func (p *publisher) signPublish() { p.t.Helper(); p.sign(); p.publish() }

// program is bytes that look like a program and differ by seed.
func program(seed byte, n int) []byte {
	b := make([]byte, n)
	copy(b, "\x7fELF")
	x := uint32(seed) + 1
	for i := 4; i < n; i++ {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func (p *publisher) release(version string, b []byte, from ...string) {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), "gardu")
	require.NoError(p.t, os.WriteFile(file, b, 0o755)) //nolint:gosec // a program
	require.NoError(p.t, p.repo.AddRelease(publish.Release{
		Version: version, Programs: map[string]string{"amd64": file}, Channel: "stable", Percent: 100, Patches: from,
	}))
	p.signPublish()
}

// copyRepo keeps the present state of the repository, as somebody who replays it
// has done.
func (p *publisher) copyRepo() string {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "copy")
	require.NoError(p.t, os.CopyFS(dir, os.DirFS(p.repo.Dir)))
	return dir
}

// show has the server show another folder.
func (p *publisher) show(dir string) { p.mu.Lock(); defer p.mu.Unlock(); p.dir = dir }

func (p *publisher) source(missing ...int) *update.Source {
	p.t.Helper()
	s, err := update.NewSource(update.SourceOptions{URL: p.url, Missing: missing})
	require.NoError(p.t, err)
	p.t.Cleanup(s.Close)
	return s
}

// trust is a kiosk's, provisioned with the first root.
func (p *publisher) trust() *update.Trust {
	p.t.Helper()
	dir := p.t.TempDir()
	b, err := os.ReadFile(filepath.Join(p.repo.Dir, "metadata", "1.root.json"))
	require.NoError(p.t, err)
	root := filepath.Join(dir, "provisioned.json")
	require.NoError(p.t, os.WriteFile(root, b, 0o600))
	return &update.Trust{Dir: filepath.Join(dir, "metadata"), RootFile: root, Now: p.time}
}

func (p *publisher) refresh(k *update.Trust) (*update.World, error) {
	p.t.Helper()
	return k.Refresh(p.t.Context(), p.source())
}

func (p *publisher) must(k *update.Trust) *update.World {
	p.t.Helper()
	w, err := p.refresh(k)
	require.NoError(p.t, err)
	return w
}

// replacePatch publishes another patch in place of a version's.
func (p *publisher) replacePatch(version string, b []byte) {
	p.t.Helper()
	v, err := filepath.Glob(filepath.Join(p.repo.Dir, "metadata", "*.targets.json"))
	require.NoError(p.t, err)
	m, err := metadata.Targets().FromFile(filepath.Join(p.repo.Dir, "metadata", fmt.Sprintf("%d.targets.json", len(v))))
	require.NoError(p.t, err)
	m.Signed.Version, m.Signatures = int64(len(v)+1), nil
	for name, tg := range m.Signed.Targets {
		if strings.HasSuffix(name, ".zst") && strings.Contains(name, version) {
			sum := sha256.Sum256(b)
			tg.Length, tg.Hashes = int64(len(b)), metadata.Hashes{"sha256": sum[:]}
			require.NoError(p.t, os.WriteFile(filepath.Join(p.repo.Dir, "targets", hex.EncodeToString(sum[:])+"."+name), b, 0o600))
		}
	}
	out, err := m.ToBytes(false)
	require.NoError(p.t, err)
	require.NoError(p.t, os.MkdirAll(filepath.Join(p.repo.Dir, "draft"), 0o750))
	require.NoError(p.t, os.WriteFile(filepath.Join(p.repo.Dir, "draft", "targets.json"), out, 0o600))
	p.signPublish()
}
