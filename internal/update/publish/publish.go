package publish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Online are the keys that sign without people: the snapshot's and the
// timestamp's.
type Online struct{ Snapshot, Timestamp Signer }

// files are what a publication writes, in this order; the timestamp comes last.
type files struct {
	names []string
	bytes map[string][]byte
}

func (f *files) add(name string, b []byte) {
	f.names = append(f.names, name)
	if f.bytes == nil {
		f.bytes = map[string][]byte{}
	}
	f.bytes[name] = b
}

// Publish takes the drafts over, signs snapshot and timestamp, verifies all of it
// as a kiosk would, and writes it. Without drafts it only renews the two. It says
// which files are new. One that was interrupted is finished by the next. Errors:
// ErrUnsigned, ErrWrongKey, ErrNone, ErrStale, ErrExpired, ErrBusy.
func (r *Repo) Publish(on Online) (names []string, err error) {
	err = r.locked(func() error {
		names, err = r.publish(on)
		return err
	})
	return names, err
}

func (r *Repo) publish(on Online) ([]string, error) {
	who, err := r.Drafts()
	if err != nil {
		return nil, err
	}
	for _, s := range who {
		if !s.Enough() {
			return nil, fmt.Errorf("%w: %s %d has %d of %d signatures%s; 'publish --renew' renews without it", ErrUnsigned, s.Role, s.Version, count(s.Have, s.Keys), s.Threshold, oldLacks(s))
		}
	}
	root, err := r.drafted(Root)
	if err != nil {
		return nil, err
	}
	targets, err := r.drafted(Targets)
	if err != nil {
		return nil, err
	}
	f, err := r.compose(on, r.Lives, root, targets)
	if err != nil {
		return nil, err
	}
	if err := r.put(f); err != nil {
		return nil, err
	}
	return f.names, r.discard()
}

// Renew signs snapshot and timestamp anew over what is published, and leaves drafts as
// they are: people may take days to sign, and kiosks must not run out of metadata
// meanwhile. Errors: ErrInterrupted, ErrWrongKey, ErrNone, ErrExpired, ErrBusy.
func (r *Repo) Renew(on Online) (names []string, err error) {
	err = r.locked(func() error {
		half, err := r.Interrupted()
		if err == nil && half {
			err = fmt.Errorf("%w: finish it with 'gardu-release publish' without --renew", ErrInterrupted)
		}
		if err != nil && !errors.Is(err, ErrStale) { // whatever a draft is, nothing of it is used
			return err
		}
		names, err = r.renew(on)
		return err
	})
	return names, err
}

func (r *Repo) renew(on Online) ([]string, error) {
	f, err := r.compose(on, r.Lives, nil, nil)
	if err != nil {
		return nil, err
	}
	return f.names, r.put(f)
}

// put writes what a kiosk reads, the timestamp last.
func (r *Repo) put(f *files) error {
	for _, name := range f.names {
		if err := write(r.path("metadata", name), f.bytes[name]); err != nil {
			return err
		}
	}
	return nil
}

func oldLacks(s Signers) string {
	if n := count(s.Have, s.Old); n < s.OldNeeds {
		return fmt.Sprintf(", and %d of %d of the root before", n, s.OldNeeds)
	}
	return ""
}

// compose makes what Publish writes, and verifies it: over the drafts of root and
// targets, or, where one is nil, over what is published.
func (r *Repo) compose(on Online, lives Lives, root, targets []byte) (*files, error) {
	f := &files{}
	set, err := r.trusted()
	if err != nil {
		return nil, err
	}
	if root != nil {
		if set == nil {
			set, err = trustedmetadata.New(root)
		} else {
			_, err = set.UpdateRoot(root)
		}
		if err != nil {
			return nil, fmt.Errorf("the draft of the root is not what a kiosk accepts: %w", err)
		}
		f.add(strconv.FormatInt(set.Root.Signed.Version, 10)+".root.json", root)
	}
	if set == nil {
		return nil, r.none()
	}
	now := r.Now().UTC()
	if e := set.Root.Signed.Expires; !now.Before(e) {
		return nil, fmt.Errorf("%w: root %d ended %s, and no kiosk believes anything before it is renewed: 'gardu-release renew-root', the holders of the root keys sign, publish",
			ErrExpired, set.Root.Signed.Version, e.Format(time.DateOnly))
	}
	tv, err := r.newest(Targets)
	if err != nil {
		return nil, err
	}
	if targets != nil {
		if err := r.holds(targets); err != nil {
			return nil, err
		}
		tv++
		f.add(strconv.FormatInt(tv, 10)+".targets.json", targets)
	} else if targets, err = os.ReadFile(r.published(Targets, tv)); err != nil {
		return nil, err
	}
	snapshot, err := r.makeSnapshot(set, on.Snapshot, targets, tv, lives.Snapshot)
	if err != nil {
		return nil, err
	}
	timestamp, err := r.makeTimestamp(set, on.Timestamp, snapshot, lives.Timestamp)
	if err != nil {
		return nil, err
	}
	set.RefTime = now
	if _, err := set.UpdateTimestamp(timestamp); err != nil {
		return nil, fmt.Errorf("the timestamp is not what a kiosk accepts: %w", err)
	}
	if _, err := set.UpdateSnapshot(snapshot, false); err != nil {
		return nil, fmt.Errorf("the snapshot is not what a kiosk accepts: %w", err)
	}
	if _, err := set.UpdateTargets(targets); errors.Is(err, &metadata.ErrExpiredMetadata{}) {
		return nil, fmt.Errorf("%w: targets %d: 'gardu-release renew-targets', the holders of the targets keys sign, publish", ErrExpired, tv)
	} else if err != nil {
		return nil, fmt.Errorf("the targets are not what a kiosk accepts: %w", err)
	}
	f.add(strconv.FormatInt(set.Snapshot.Signed.Version, 10)+".snapshot.json", snapshot)
	f.add("timestamp.json", timestamp)
	return f, nil
}

// holds reports an error unless each file that a draft of the targets adds lies in the
// folder as it is signed: the draft may have travelled between its signers without them.
func (r *Repo) holds(draft []byte) error {
	next, err := metadata.Targets().FromBytes(draft)
	if err != nil {
		return err
	}
	added, err := r.added(next)
	if err != nil {
		return err
	}
	for _, name := range added {
		t := next.Signed.Targets[name]
		want := hex.EncodeToString(t.Hashes["sha256"])
		b, err := os.ReadFile(r.path("targets", want+"."+name))
		if err != nil {
			return fmt.Errorf("%s is signed and not in this folder: %w; bring targets/ from where the release was drafted", name, err)
		}
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
			return fmt.Errorf("%s is not what is signed; bring targets/ from where the release was drafted", r.path("targets", want+"."+name))
		}
	}
	return nil
}

// added lists the targets that are not published yet, or not as they are now.
func (r *Repo) added(next *metadata.Metadata[metadata.TargetsType]) ([]string, error) {
	was := map[string]*metadata.TargetFiles{}
	now, err := r.currentTargets()
	switch {
	case err == nil:
		was = now.Signed.Targets
	case !errors.Is(err, ErrNone):
		return nil, err
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(next.Signed.Targets)) {
		if old := was[name]; old == nil || !bytes.Equal(old.Hashes["sha256"], next.Signed.Targets[name].Hashes["sha256"]) {
			names = append(names, name)
		}
	}
	return names, nil
}

// trusted begins with the newest published root; nil where there is none.
func (r *Repo) trusted() (*trustedmetadata.TrustedMetadata, error) {
	v, err := r.newest(Root)
	if err != nil || v == 0 {
		return nil, err
	}
	b, err := os.ReadFile(r.published(Root, v))
	if err != nil {
		return nil, err
	}
	return trustedmetadata.New(b)
}

// online is what a role's key says of itself, and whether the root names it.
func online(set *trustedmetadata.TrustedMetadata, role string, s Signer) (string, error) {
	if s == nil {
		return "", fmt.Errorf("%w: the key of role %s is missing", ErrWrongKey, role)
	}
	pub, err := s.Public()
	if err != nil {
		return "", err
	}
	id, err := KeyID(pub)
	if err != nil {
		return "", err
	}
	for _, k := range set.Root.Signed.Roles[role].KeyIDs {
		if k == id {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: key %s is none of role %s", ErrWrongKey, id, role)
}

func metaFile(version int64, b []byte) *metadata.MetaFiles {
	m := metadata.MetaFile(version)
	sum := sha256.Sum256(b)
	m.Length, m.Hashes = int64(len(b)), metadata.Hashes{"sha256": sum[:]}
	return m
}

func (r *Repo) makeSnapshot(set *trustedmetadata.TrustedMetadata, s Signer, targets []byte, tv int64, life time.Duration) ([]byte, error) {
	id, err := online(set, Snapshot, s)
	if err != nil {
		return nil, err
	}
	v, err := r.newest(Snapshot)
	if err != nil {
		return nil, err
	}
	now, expires := r.stamp(life)
	m := metadata.Snapshot(expires)
	m.Signed.Version, m.Signed.UnrecognizedFields = v+1, extra(now)
	m.Signed.Meta["targets.json"] = metaFile(tv, targets)
	return finish(id, s, m, &m.Signatures, m.Signed)
}

func (r *Repo) makeTimestamp(set *trustedmetadata.TrustedMetadata, s Signer, snapshot []byte, life time.Duration) ([]byte, error) {
	id, err := online(set, Timestamp, s)
	if err != nil {
		return nil, err
	}
	v, err := r.newest(Timestamp)
	if err != nil {
		return nil, err
	}
	sv, err := r.newest(Snapshot)
	if err != nil {
		return nil, err
	}
	now, expires := r.stamp(life)
	m := metadata.Timestamp(expires)
	m.Signed.Version, m.Signed.UnrecognizedFields = v+1, extra(now)
	m.Signed.Meta["snapshot.json"] = metaFile(sv+1, snapshot)
	return finish(id, s, m, &m.Signatures, m.Signed)
}

func finish(id string, s Signer, m interface{ ToBytes(bool) ([]byte, error) }, sigs *[]metadata.Signature, body any) ([]byte, error) {
	sig, err := signature(id, s, body)
	if err != nil {
		return nil, err
	}
	*sigs = []metadata.Signature{sig}
	return m.ToBytes(false) // not indented: kiosks fetch it every time
}

// Cut writes a copy of the repository to a folder, such as a USB stick, whose
// snapshot and timestamp live longer, and renews the repository itself so that no
// two timestamps have one version.
func (r *Repo) Cut(dir string, life time.Duration, on Online) error {
	return r.locked(func() error { return r.cut(dir, life, on) })
}

func (r *Repo) cut(dir string, life time.Duration, on Online) error {
	if ds, err := r.drafts(); err != nil || len(ds) > 0 {
		return errors.Join(err, errors.New("there are drafts; publish or discard them before a cut"))
	}
	all, err := r.Expiries()
	if err != nil {
		return err
	}
	for _, e := range all {
		if (e.Role == Root || e.Role == Targets) && e.Expires.Before(r.Now().Add(life)) {
			return fmt.Errorf("the copy would end before its time is over, with %s %d on %s; give fewer days, or renew: %s", e.Role, e.Version, e.Expires.Format(time.DateOnly), e.Who)
		}
	}
	lives := r.Lives
	lives.Snapshot, lives.Timestamp = life, life
	f, err := r.compose(on, lives, nil, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: a repository is public
		return err
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		return errors.Join(err, fmt.Errorf("%s is not empty; give an empty folder", dir))
	}
	for _, sub := range []string{"targets", "metadata"} {
		if err := os.CopyFS(filepath.Join(dir, sub), os.DirFS(r.path(sub))); err != nil {
			return err
		}
	}
	for _, name := range f.names {
		if err := write(filepath.Join(dir, "metadata", name), f.bytes[name]); err != nil {
			return err
		}
		// The numbers are used up here too: the repository goes on after them.
		if err := write(r.path("metadata", name), f.bytes[name]); err != nil {
			return err
		}
	}
	_, err = r.renew(on)
	return err
}

// Expiry is when a piece of metadata ends.
type Expiry struct {
	Role    string
	Version int64
	Expires time.Time
	Who     string // must act
}

// Expiries lists them, the first to end first.
func (r *Repo) Expiries() ([]Expiry, error) {
	root, err := r.currentRoot()
	if err != nil {
		return nil, err
	}
	all := []Expiry{{Root, root.Signed.Version, root.Signed.Expires, "the holders of the root keys: gardu-release renew-root"}}
	v, err := r.newest(Targets)
	if err != nil {
		return nil, err
	}
	t, err := load(metadata.Targets(), r.published(Targets, v))
	if err != nil {
		return nil, err
	}
	all = append(all, Expiry{Targets, v, t.Signed.Expires, "the holders of the targets keys: gardu-release renew-targets"})
	if v, err = r.newest(Snapshot); err != nil {
		return nil, err
	}
	s, err := load(metadata.Snapshot(), r.published(Snapshot, v))
	if err != nil {
		return nil, err
	}
	ts, err := load(metadata.Timestamp(), r.path("metadata", "timestamp.json"))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: finish it with 'gardu-release publish'", ErrInterrupted)
	}
	if err != nil {
		return nil, err
	}
	return append(all,
		Expiry{Snapshot, v, s.Signed.Expires, "the daily job: gardu-release publish"},
		Expiry{Timestamp, ts.Signed.Version, ts.Signed.Expires, "the daily job: gardu-release publish"}), nil
}

// Keys lists the keys of a role in the root that counts next.
func (r *Repo) Keys(role string) ([]string, int, error) {
	root, err := r.nextRoot()
	if err != nil {
		return nil, 0, err
	}
	ro := root.Signed.Roles[role]
	if ro == nil {
		return nil, 0, fmt.Errorf("there is no role %q", role)
	}
	return ro.KeyIDs, ro.Threshold, nil
}
