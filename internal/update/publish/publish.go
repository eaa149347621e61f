package publish

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
// which files are new. Errors: ErrUnsigned, ErrWrongKey, ErrNone.
func (r *Repo) Publish(on Online) ([]string, error) {
	who, err := r.Drafts()
	if err != nil {
		return nil, err
	}
	for _, s := range who {
		if !s.Enough() {
			return nil, fmt.Errorf("%w: %s %d has %d of %d signatures%s", ErrUnsigned, s.Role, s.Version, count(s.Have, s.Keys), s.Threshold, oldLacks(s))
		}
	}
	f, err := r.compose(on, r.Lives)
	if err != nil {
		return nil, err
	}
	for _, name := range f.names {
		if err := write(r.path("metadata", name), f.bytes[name]); err != nil {
			return nil, err
		}
	}
	return f.names, r.Discard()
}

func oldLacks(s Signers) string {
	if n := count(s.Have, s.Old); n < s.OldNeeds {
		return fmt.Sprintf(", and %d of %d of the root before", n, s.OldNeeds)
	}
	return ""
}

// compose makes what Publish writes, and verifies it.
func (r *Repo) compose(on Online, lives Lives) (*files, error) {
	f := &files{}
	first, err := r.trusted()
	if err != nil {
		return nil, err
	}
	set := first
	if b, err := os.ReadFile(r.draft(Root)); err == nil {
		if set == nil {
			set, err = trustedmetadata.New(b)
		} else {
			_, err = set.UpdateRoot(b)
		}
		if err != nil {
			return nil, fmt.Errorf("the draft of the root is not what a kiosk accepts: %w", err)
		}
		f.add(strconv.FormatInt(set.Root.Signed.Version, 10)+".root.json", b)
	}
	if set == nil {
		return nil, ErrNone
	}
	targets, tv, err := r.targetsBytes()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.published(Targets, tv)); errors.Is(err, fs.ErrNotExist) {
		f.add(strconv.FormatInt(tv, 10)+".targets.json", targets)
	}
	snapshot, err := r.makeSnapshot(set, on.Snapshot, targets, tv, lives.Snapshot)
	if err != nil {
		return nil, err
	}
	timestamp, err := r.makeTimestamp(set, on.Timestamp, snapshot, lives.Timestamp)
	if err != nil {
		return nil, err
	}
	set.RefTime = r.Now().UTC()
	if _, err := set.UpdateTimestamp(timestamp); err != nil {
		return nil, fmt.Errorf("the timestamp is not what a kiosk accepts: %w", err)
	}
	if _, err := set.UpdateSnapshot(snapshot, false); err != nil {
		return nil, fmt.Errorf("the snapshot is not what a kiosk accepts: %w", err)
	}
	if _, err := set.UpdateTargets(targets); err != nil {
		return nil, fmt.Errorf("the targets are not what a kiosk accepts: %w", err)
	}
	f.add(strconv.FormatInt(set.Snapshot.Signed.Version, 10)+".snapshot.json", snapshot)
	f.add("timestamp.json", timestamp)
	return f, nil
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

func (r *Repo) targetsBytes() ([]byte, int64, error) {
	t, err := r.nextTargets()
	if err != nil {
		return nil, 0, err
	}
	b, err := os.ReadFile(r.draft(Targets))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(r.published(Targets, t.Signed.Version))
	}
	return b, t.Signed.Version, err
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
	if ds, err := r.drafts(); err != nil || len(ds) > 0 {
		return errors.Join(err, errors.New("there are drafts; publish or discard them before a cut"))
	}
	lives := r.Lives
	lives.Snapshot, lives.Timestamp = life, life
	f, err := r.compose(on, lives)
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
	_, err = r.Publish(on)
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
