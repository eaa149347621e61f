package publish

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/sys/unix"

	"gardu/internal/update"
)

// Names of the roles.
const (
	Root      = metadata.ROOT
	Targets   = metadata.TARGETS
	Snapshot  = metadata.SNAPSHOT
	Timestamp = metadata.TIMESTAMP
)

// Lives say how long metadata is believed.
type Lives struct{ Root, Targets, Snapshot, Timestamp time.Duration }

// DefaultLives fit a publisher who renews the timestamp every day and whose key
// holders meet once a year.
func DefaultLives() Lives {
	const day = 24 * time.Hour
	return Lives{Root: 400 * day, Targets: 400 * day, Snapshot: 30 * day, Timestamp: 7 * day}
}

// Repo is a repository's folder.
type Repo struct {
	Dir   string
	Lives Lives
	Now   func() time.Time
}

// Open names a folder. It need not exist before Begin.
func Open(dir string) *Repo {
	return &Repo{Dir: dir, Lives: DefaultLives(), Now: time.Now}
}

// Roles are the public keys of each role and how many of them must sign.
type Roles map[string]RoleKeys

// RoleKeys are one role's.
type RoleKeys struct {
	Keys      []crypto.PublicKey
	Threshold int
}

// What stops a publisher.
var (
	// ErrThere: the folder holds a repository already.
	ErrThere = errors.New("there is a repository in this folder already")
	// ErrNone: the folder holds no repository.
	ErrNone = errors.New("there is no repository in this folder")
	// ErrBusy: another process changes the folder.
	ErrBusy = errors.New("another gardu-release works in this folder")
	// ErrStale: a draft was made before what is published now.
	ErrStale = errors.New("the draft was made from an older copy of this folder")
	// ErrInterrupted: a publication did not come to its end.
	ErrInterrupted = errors.New("a publication was interrupted")
	// ErrExpired: what has to stay as it is has expired.
	ErrExpired = errors.New("it has expired")
	// ErrWithdrawn: the release was withdrawn by going back.
	ErrWithdrawn = errors.New("the release was withdrawn")
	// ErrUnsigned: a draft lacks signatures.
	ErrUnsigned = errors.New("the draft is not signed by enough keys")
	// ErrWrongKey: the key signs nothing of what is to be signed.
	ErrWrongKey = errors.New("this key signs nothing here")
	// ErrNoRelease: there is no such release.
	ErrNoRelease = errors.New("there is no such release")
)

func (r *Repo) path(parts ...string) string {
	return filepath.Join(append([]string{r.Dir}, parts...)...)
}

func (r *Repo) draft(role string) string { return r.path("draft", role+".json") }

func (r *Repo) stamp(life time.Duration) (now, expires time.Time) {
	now = r.Now().UTC().Truncate(time.Second)
	return now, now.Add(life)
}

func extra(now time.Time) map[string]any {
	return map[string]any{update.SignedAt: now.Format(time.RFC3339)}
}

// Begin drafts the first root and the first, empty, targets.
func (r *Repo) Begin(roles Roles) error {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil { //nolint:gosec // G301: a repository is public
		return err
	}
	return r.locked(func() error { return r.begin(roles) })
}

func (r *Repo) begin(roles Roles) error {
	if v, err := r.newest(Root); err != nil || v > 0 {
		return errors.Join(err, ErrThere)
	}
	if b, err := r.drafted(Root); err != nil || b != nil {
		return errors.Join(err, fmt.Errorf("%w, not published yet: 'gardu-release status' shows who has signed, 'discard' drops it", ErrThere))
	}
	now, expires := r.stamp(r.Lives.Root)
	root := metadata.Root(expires)
	root.Signed.UnrecognizedFields = extra(now)
	for _, name := range []string{Root, Targets, Snapshot, Timestamp} {
		k := roles[name]
		if k.Threshold < 1 || k.Threshold > len(k.Keys) {
			return fmt.Errorf("role %s: %d of %d keys cannot sign", name, k.Threshold, len(k.Keys))
		}
		for _, pub := range k.Keys {
			key, err := tufKey(pub)
			if err != nil {
				return fmt.Errorf("role %s: %w", name, err)
			}
			if err := root.Signed.AddKey(key, name); err != nil {
				return fmt.Errorf("role %s: %w", name, err)
			}
		}
		if n := len(root.Signed.Roles[name].KeyIDs); n != len(k.Keys) {
			return fmt.Errorf("role %s: %d different keys of %d; each must be another one", name, n, len(k.Keys))
		}
		root.Signed.Roles[name].Threshold = k.Threshold
	}
	if err := r.saveDraft(Root, root); err != nil {
		return err
	}
	tnow, texpires := r.stamp(r.Lives.Targets)
	t := metadata.Targets(texpires)
	t.Signed.UnrecognizedFields = extra(tnow)
	return r.saveDraft(Targets, t)
}

// newest is the highest published version of a role; 0 where there is none.
func (r *Repo) newest(role string) (int64, error) {
	if role == Timestamp {
		m, err := load(metadata.Timestamp(), r.path("metadata", "timestamp.json"))
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return m.Signed.Version, nil
	}
	entries, err := os.ReadDir(r.path("metadata"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	var newest int64
	for _, e := range entries {
		n, name, _ := strings.Cut(e.Name(), ".")
		v, err := strconv.ParseInt(n, 10, 64)
		if err == nil && name == role+".json" {
			newest = max(newest, v)
		}
	}
	return newest, nil
}

func (r *Repo) published(role string, version int64) string {
	return r.path("metadata", strconv.FormatInt(version, 10)+"."+role+".json")
}

func load[T metadata.Roles](m *metadata.Metadata[T], path string) (*metadata.Metadata[T], error) {
	b, err := os.ReadFile(path) //nolint:gosec // G304: the publisher's own folder
	if err != nil {
		return nil, err
	}
	m, err = m.FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// currentRoot is the newest published root.
func (r *Repo) currentRoot() (*metadata.Metadata[metadata.RootType], error) {
	v, err := r.newest(Root)
	if err != nil {
		return nil, err
	}
	if v == 0 {
		return nil, r.none()
	}
	return load(metadata.Root(), r.published(Root, v))
}

func (r *Repo) none() error {
	return fmt.Errorf("%w (%s): name the right one with --repo, or begin a new one with 'gardu-release init'", ErrNone, r.Dir)
}

// Check reports ErrNone unless the folder holds a repository, or the drafts of one.
func (r *Repo) Check() error {
	v, err := r.newest(Root)
	if err != nil || v > 0 {
		return err
	}
	b, err := r.drafted(Root)
	if err == nil && b == nil {
		err = r.none()
	}
	return err
}

// drafted reads the draft of a role. It is nil where there is none, and where it was
// taken over already by a publication that did not come to its end.
func (r *Repo) drafted(role string) ([]byte, error) {
	b, err := os.ReadFile(r.draft(role))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := r.newest(role)
	if err != nil {
		return nil, err
	}
	if v > 0 {
		if same, err := os.ReadFile(r.published(role, v)); err != nil || bytes.Equal(same, b) {
			return nil, err
		}
	}
	var head struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("%s: %w; 'gardu-release discard' drops it", r.draft(role), err)
	}
	if head.Signed.Version != v+1 {
		return nil, fmt.Errorf("%w: it is %s %d, and %d is published; drop it with 'gardu-release discard' and draft anew", ErrStale, role, head.Signed.Version, v)
	}
	return b, nil
}

// Interrupted reports whether a publication did not come to its end: what it has taken
// over of the drafts still lies there as a draft.
func (r *Repo) Interrupted() (bool, error) {
	for _, role := range []string{Root, Targets} {
		if _, err := os.Stat(r.draft(role)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if b, err := r.drafted(role); err != nil || b == nil {
			return err == nil, err
		}
	}
	return false, nil
}

// nextRoot is the root that will count after Publish: the draft, or the current
// one.
func (r *Repo) nextRoot() (*metadata.Metadata[metadata.RootType], error) {
	b, err := r.drafted(Root)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return r.currentRoot()
	}
	return metadata.Root().FromBytes(b)
}

// nextTargets likewise.
func (r *Repo) nextTargets() (*metadata.Metadata[metadata.TargetsType], error) {
	b, err := r.drafted(Targets)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return r.currentTargets()
	}
	return metadata.Targets().FromBytes(b)
}

// currentTargets are the newest published.
func (r *Repo) currentTargets() (*metadata.Metadata[metadata.TargetsType], error) {
	v, err := r.newest(Targets)
	if err != nil {
		return nil, err
	}
	if v == 0 {
		return nil, r.none()
	}
	return load(metadata.Targets(), r.published(Targets, v))
}

// editTargets has the draft of the targets changed, and begins one where there is
// none. A change takes away the signatures that were there.
func (r *Repo) editTargets(change func(*metadata.TargetsType) error) error {
	return r.locked(func() error { return r.redraftTargets(change) })
}

func (r *Repo) redraftTargets(change func(*metadata.TargetsType) error) error {
	m, err := r.nextTargets()
	if err != nil {
		return err
	}
	v, err := r.newest(Targets)
	if err != nil {
		return err
	}
	now, expires := r.stamp(r.Lives.Targets)
	m.Signed.Version, m.Signed.Expires, m.Signed.UnrecognizedFields, m.Signatures = v+1, expires, extra(now), nil
	if err := change(&m.Signed); err != nil {
		return err
	}
	return r.saveDraft(Targets, m)
}

// redraftRoot is the same for the root. After it snapshot and timestamp are signed
// anew, and the targets too where their keys changed.
func (r *Repo) redraftRoot(change func(*metadata.RootType) error) error {
	m, err := r.nextRoot()
	if err != nil {
		return err
	}
	v, err := r.newest(Root)
	if err != nil {
		return err
	}
	if v == 0 {
		return r.none()
	}
	now, expires := r.stamp(r.Lives.Root)
	m.Signed.Version, m.Signed.Expires, m.Signed.UnrecognizedFields, m.Signatures = v+1, expires, extra(now), nil
	if err := change(&m.Signed); err != nil {
		return err
	}
	return r.saveDraft(Root, m)
}

// Rotate replaces a key of a role by another in the draft of the root. Where the
// role is targets, the targets are to be signed anew too.
func (r *Repo) Rotate(role, oldID string, pub crypto.PublicKey) error {
	key, err := tufKey(pub)
	if err != nil {
		return err
	}
	id, err := key.ID()
	if err != nil {
		return err
	}
	return r.locked(func() error { return r.rotate(role, oldID, id, key) })
}

func (r *Repo) rotate(role, oldID, id string, key *metadata.Key) error {
	err := r.redraftRoot(func(s *metadata.RootType) error {
		ro := s.Roles[role]
		switch {
		case ro == nil:
			return fmt.Errorf("there is no role %q; the roles are root, targets, snapshot and timestamp", role)
		case !slices.Contains(ro.KeyIDs, oldID):
			return fmt.Errorf("key %s is none of role %s", oldID, role)
		case slices.Contains(ro.KeyIDs, id):
			return fmt.Errorf("key %s is one of role %s already", id, role)
		}
		if err := s.RevokeKey(oldID, role); err != nil {
			return err
		}
		return s.AddKey(key, role)
	})
	if err != nil || role != Targets {
		return err
	}
	return r.redraftTargets(func(*metadata.TargetsType) error { return nil })
}

// RenewRoot drafts the root again with a new expiry.
func (r *Repo) RenewRoot() error {
	return r.locked(func() error { return r.redraftRoot(func(*metadata.RootType) error { return nil }) })
}

// RenewTargets drafts the targets again with a new expiry.
func (r *Repo) RenewTargets() error {
	return r.editTargets(func(*metadata.TargetsType) error { return nil })
}

// Discard drops all drafts, and nothing else that lies in their folder.
func (r *Repo) Discard() error { return r.locked(r.discard) }

func (r *Repo) discard() error {
	for _, role := range []string{Root, Targets} {
		for _, name := range []string{r.draft(role), r.draft(role) + leftover} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	_ = os.Remove(r.path("draft")) // where somebody keeps something else in it, it stays
	return nil
}

// leftover is how the name of a file ends that was not written to its end.
const leftover = ".new"

// patience is how long a folder is waited for in which another process works.
const patience = 30 * time.Second

// locked has the folder for itself while fn runs: the daily job and a person may come
// at the same time. ErrBusy where it could not be had; ErrNone where it is not there.
func (r *Repo) locked(fn func() error) error {
	d, err := os.Open(r.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return r.none()
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return fn() // a file system without locks has none to offer
		}
		if time.Since(began) >= patience {
			return fmt.Errorf("%w (%s): wait for its end and try again", ErrBusy, r.Dir)
		}
	}
}

func (r *Repo) saveDraft(role string, m interface{ ToBytes(bool) ([]byte, error) }) error {
	b, err := m.ToBytes(true)
	if err != nil {
		return err
	}
	return write(r.draft(role), b)
}

// write puts a file in its place whole.
func write(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // G301: a repository is public
		return err
	}
	tmp := path + leftover
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // G302, G304: likewise
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil { //nolint:gosec // G703: the publisher's own folder
		return err
	}
	d, err := os.Open(filepath.Dir(path)) //nolint:gosec // G703: likewise
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func custom(t *metadata.TargetFiles) (update.Custom, bool) {
	var c update.Custom
	if t.Custom == nil || json.Unmarshal(*t.Custom, &c) != nil {
		return c, false
	}
	return c, true
}

func setCustom(t *metadata.TargetFiles, c update.Custom) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	raw := json.RawMessage(b)
	t.Custom = &raw
	return nil
}
