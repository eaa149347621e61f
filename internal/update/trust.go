package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// What can be wrong with signed metadata.
var (
	// ErrRefused: the metadata is not signed as it must be, or is not what the signed
	// metadata before it announced.
	ErrRefused = errors.New("the update repository's metadata is refused")
	// ErrOlder: the repository shows a state older than one that was seen before.
	ErrOlder = errors.New("the update repository shows an older state than was seen before")
	// ErrExpired: the newest metadata that can be had has expired.
	ErrExpired = errors.New("the update repository's metadata has expired")
	// ErrStale: the metadata has not expired, but is older than this kiosk accepts.
	ErrStale = errors.New("the update repository's metadata is too old")
	// ErrNoRoot: there is no root of trust to begin with.
	ErrNoRoot = errors.New("there is no root of trust")
)

const (
	rootLimit      = 512 << 10
	timestampLimit = 16 << 10
	snapshotLimit  = 1 << 20
	targetsLimit   = 4 << 20
	maxRotations   = 1024 // of the root in one refresh

	// SignedAt is the member of signed metadata that says when it was signed.
	SignedAt = "x-gardu-signed-at"
)

// Trust decides what a repository says. The folder holds root.json, the newest
// root; timestamp.json, snapshot.json and targets.json, which may be lost; and
// floors.json.
type Trust struct {
	Dir      string
	RootFile string        // the root that the kiosk was provisioned with
	Built    time.Time     // of this program; zero where not known
	MaxAge   time.Duration // of online metadata; 0: until it expires
	Now      func() time.Time
}

// Role is what is known of one piece of metadata.
type Role struct {
	Version int64     `json:"version"`
	Signed  time.Time `json:"signed,omitzero"`
	Expires time.Time `json:"expires"`
}

// World is a verified state of a repository.
type World struct {
	Root      Role     `json:"root"`
	Timestamp Role     `json:"timestamp"`
	Snapshot  Role     `json:"snapshot"`
	Targets   Role     `json:"targets"`
	Clock     string   `json:"clock,omitempty"`  // an alarm: what is wrong with this machine's clock
	Healed    []string `json:"healed,omitempty"` // what was damaged on the disk and fetched again
	targets   map[string]*metadata.TargetFiles
}

// floors are the versions below which nothing is believed.
type floors struct {
	Root  int64            `json:"root"`
	Sum   string           `json:"root_sha256"` // of that root's file: nobody can show another one of its number
	Roles map[string]floor `json:"roles"`
}

type floor struct {
	Version int64     `json:"version"`
	Keys    string    `json:"keys"` // of the role, when that version was seen
	Signed  time.Time `json:"signed,omitzero"`
}

// refresh is one attempt.
type refresh struct {
	t       *Trust
	src     *Source
	set     *trustedmetadata.TrustedMetadata
	floors  floors
	rootSum string            // of the file of the root that is trusted now
	fresh   map[string][]byte // what is to be written down once everything fits
	cached  bool              // may the caches be used
	healed  []string
	refTime time.Time
}

func (t *Trust) now() time.Time {
	if t.Now != nil {
		return t.Now()
	}
	return time.Now()
}

// Refresh brings the repository's state up to date and verifies all of it. What is
// written to the disk is written only when the whole state fits together, but for
// the root, of which every step counts. Errors: ErrRefused, ErrOlder, ErrExpired,
// ErrStale, ErrNoRoot, ErrNetwork, ErrCertificate.
func (t *Trust) Refresh(ctx context.Context, src *Source) (*World, error) {
	if err := os.MkdirAll(t.Dir, 0o755); err != nil { //nolint:gosec // G301: nothing in it is secret
		return nil, fmt.Errorf("make the folder of metadata: %w", err)
	}
	w, err := t.refresh(ctx, src, true)
	if err == nil || errors.Is(err, ErrNetwork) || errors.Is(err, ErrCertificate) || errors.Is(err, ErrNoRoot) || ctx.Err() != nil {
		return w, err
	}
	if errors.Is(err, ErrOlder) || !t.floorsHold() {
		return nil, err // nothing that is damaged makes a repository older
	}
	// Whatever is wrong may be wrong with our copies. The floors stay, so that doing
	// without them gives nobody a way back.
	dropped := t.dropCaches()
	if len(dropped) == 0 {
		return nil, err
	}
	w, again := t.refresh(ctx, src, false)
	if again != nil {
		return nil, again
	}
	w.Healed = append(w.Healed, dropped...)
	return w, nil
}

// floorsHold reports whether the floors can be read. Without them the caches are all
// that is remembered of what was seen, and must not be dropped for anybody's sake.
func (t *Trust) floorsHold() bool {
	_, err := readFloors(t.Dir)
	return err == nil
}

func (t *Trust) dropCaches() []string {
	var dropped []string
	for _, role := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		if os.Remove(t.file(role)) == nil {
			dropped = append(dropped, role+".json")
		}
	}
	return dropped
}

func (t *Trust) file(role string) string { return filepath.Join(t.Dir, role+".json") }

func (t *Trust) refresh(ctx context.Context, src *Source, cached bool) (w *World, err error) {
	defer func() {
		// go-tuf follows pointers that signed metadata may leave out. Whoever holds one
		// online key must not be able to end the updater by that.
		if p := recover(); p != nil {
			w, err = nil, fmt.Errorf("%w: it makes no sense (%v)", ErrRefused, p)
		}
	}()
	r := &refresh{t: t, src: src, fresh: map[string][]byte{}, cached: cached}
	r.loadFloors()
	if err := r.root(ctx); err != nil {
		return nil, err
	}
	r.setTime()
	for _, step := range []func(context.Context) error{r.timestamp, r.snapshot, r.targets} {
		err := step(ctx)
		if errors.Is(err, ErrExpired) {
			return nil, fmt.Errorf("%w; this machine's clock says %s: where that is wrong set the clock, else the publisher must renew the metadata", err, t.now().UTC().Format(time.RFC3339))
		}
		if err != nil {
			return nil, err
		}
	}
	w = r.world()
	if err := r.age(w); err != nil {
		return nil, err
	}
	return w, r.keep(w)
}

func readFloors(dir string) (f floors, err error) {
	b, err := readFile(filepath.Join(dir, "floors.json"), 64<<10)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
}

func (r *refresh) loadFloors() {
	f, err := readFloors(r.t.Dir)
	if err != nil && !absent(err) {
		// The newest root on disk and the caches still hold. What is lost is only
		// remembered; it comes back with this refresh.
		r.healed = append(r.healed, "floors.json")
		return
	}
	r.floors = f
}

// root begins with the newest root on disk and walks to the newest there is.
func (r *refresh) root(ctx context.Context) error {
	if err := r.firstRoot(); err != nil {
		return err
	}
	for range maxRotations {
		next := strconv.FormatInt(r.set.Root.Signed.Version+1, 10)
		b, err := r.src.Get(ctx, "metadata/"+next+".root.json", rootLimit)
		if errors.Is(err, ErrMissing) {
			if v := r.set.Root.Signed.Version; v < r.floors.Root {
				return fmt.Errorf("%w: its newest root is %d, and %d was seen", ErrOlder, v, r.floors.Root)
			}
			return nil
		}
		if err != nil {
			return refused(err, "root "+next)
		}
		if _, err := r.set.UpdateRoot(b); err != nil {
			return refused(err, "root "+next)
		}
		if err := r.passed(b); err != nil {
			return err
		}
		if err := writeFile(r.t.file(metadata.ROOT), b, 0o644); err != nil {
			return fmt.Errorf("keep root %s: %w", next, err)
		}
	}
	return fmt.Errorf("%w: the root was rotated more than %d times; try again to go on", ErrNetwork, maxRotations)
}

// firstRoot takes the newer of the root on disk and the provisioned one.
func (r *refresh) firstRoot() error {
	own, b, err := readRoot(r.t.file(metadata.ROOT))
	if err != nil && !absent(err) {
		r.healed = append(r.healed, "root.json")
	}
	given, g, gerr := readRoot(r.t.RootFile)
	if own != nil && (given == nil || given.Root.Signed.Version <= own.Root.Signed.Version) {
		r.set = own
		return r.passed(b)
	}
	if given == nil {
		return fmt.Errorf("%w: %w; put the repository's newest root at %s", ErrNoRoot, gerr, r.t.RootFile)
	}
	r.set = given
	if err := writeFile(r.t.file(metadata.ROOT), g, 0o644); err != nil {
		return fmt.Errorf("keep the root: %w", err)
	}
	return r.passed(g)
}

func readRoot(path string) (*trustedmetadata.TrustedMetadata, []byte, error) {
	b, err := readFile(path, rootLimit)
	if err != nil {
		return nil, nil, err
	}
	set, err := trustedmetadata.New(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return set, b, nil
}

// passed notes which file the trusted root is. One of a number that was seen before
// must be the same file: thieves of old root keys can sign another.
func (r *refresh) passed(b []byte) error {
	sum := sha256.Sum256(b)
	r.rootSum = hex.EncodeToString(sum[:])
	if v := r.set.Root.Signed.Version; v == r.floors.Root && r.floors.Sum != "" && r.rootSum != r.floors.Sum {
		return fmt.Errorf("%w: its root %d is not the one that was seen before", ErrRefused, v)
	}
	return nil
}

// setTime is the reference for every expiry: no clock that lost its battery may
// switch the check off. Only times that keys still trusted have signed count.
func (r *refresh) setTime() {
	r.refTime = r.t.now().UTC()
	for _, at := range append(r.signedTimes(), r.t.Built) {
		if at.After(r.refTime) {
			r.refTime = at
		}
	}
	r.set.RefTime = r.refTime
}

func (r *refresh) signedTimes() []time.Time {
	all := []time.Time{signedAt(r.set.Root.Signed.UnrecognizedFields, r.set.Root.Signed.Expires)}
	for role, f := range r.floors.Roles {
		if f.Keys == r.keys(role) {
			all = append(all, f.Signed)
		}
	}
	return all
}

// keys names the keys that the root trusts for a role.
func (r *refresh) keys(role string) string {
	ro := r.set.Root.Signed.Roles[role]
	if ro == nil {
		return ""
	}
	return strconv.Itoa(ro.Threshold) + " of " + strings.Join(slices.Sorted(slices.Values(ro.KeyIDs)), " ")
}

// floorOf is the version below which a role is not believed; 0 when its keys are
// others now.
func (r *refresh) floorOf(role string) int64 {
	if f := r.floors.Roles[role]; f.Keys == r.keys(role) {
		return f.Version
	}
	return 0
}

// cache gives what is on the disk, if it may be used and the keys that it was
// signed by still count.
func (r *refresh) cache(role string, limit int64) []byte {
	if !r.cached {
		return nil
	}
	// The specification lets a fleet recover from versions counted up by a thief by
	// forgetting both when the keys of one change.
	for _, of := range []string{metadata.TIMESTAMP, metadata.SNAPSHOT} {
		if f, ok := r.floors.Roles[of]; ok && role != metadata.TARGETS && f.Keys != r.keys(of) {
			return nil
		}
	}
	b, err := readFile(r.t.file(role), limit)
	if err != nil {
		return nil
	}
	return b
}

// spoiled notes a copy on disk that is torn; expired or outdated ones are in order.
func (r *refresh) spoiled(role string, b []byte) {
	if !json.Valid(b) {
		r.healed = append(r.healed, role+".json")
	}
}

func (r *refresh) timestamp(ctx context.Context) error {
	if b := r.cache(metadata.TIMESTAMP, timestampLimit); b != nil {
		// An expired or outdated one is loaded all the same, and holds against older ones.
		_, _ = r.set.UpdateTimestamp(b)
		r.spoiled(metadata.TIMESTAMP, b)
	}
	b, err := r.src.Get(ctx, "metadata/timestamp.json", timestampLimit)
	if err != nil {
		return refused(err, "timestamp")
	}
	_, err = r.set.UpdateTimestamp(b)
	switch {
	case errors.Is(err, &metadata.ErrEqualVersionNumber{}):
	case err != nil:
		return refused(err, "timestamp")
	default:
		r.fresh[metadata.TIMESTAMP] = b
	}
	if v := r.set.Timestamp.Signed.Version; v < r.floorOf(metadata.TIMESTAMP) {
		return fmt.Errorf("%w: timestamp %d, and %d was seen", ErrOlder, v, r.floorOf(metadata.TIMESTAMP))
	}
	return nil
}

func (r *refresh) snapshot(ctx context.Context) error {
	meta := r.set.Timestamp.Signed.Meta["snapshot.json"]
	if meta == nil {
		return fmt.Errorf("%w: its timestamp names no snapshot", ErrRefused)
	}
	if meta.Version < r.floorOf(metadata.SNAPSHOT) {
		return fmt.Errorf("%w: snapshot %d, and %d was seen", ErrOlder, meta.Version, r.floorOf(metadata.SNAPSHOT))
	}
	if b := r.cache(metadata.SNAPSHOT, snapshotLimit); b != nil {
		_, err := r.set.UpdateSnapshot(b, true)
		if err == nil {
			return nil
		}
		r.spoiled(metadata.SNAPSHOT, b)
	}
	b, err := r.src.Get(ctx, fmt.Sprintf("metadata/%d.snapshot.json", meta.Version), bound(meta.Length, snapshotLimit))
	if err != nil {
		return refused(err, "snapshot")
	}
	if _, err := r.set.UpdateSnapshot(b, false); err != nil {
		return refused(err, "snapshot")
	}
	r.fresh[metadata.SNAPSHOT] = b
	return nil
}

func (r *refresh) targets(ctx context.Context) error {
	meta := r.set.Snapshot.Signed.Meta["targets.json"]
	if meta == nil {
		return fmt.Errorf("%w: its snapshot names no targets", ErrRefused)
	}
	if meta.Version < r.floorOf(metadata.TARGETS) {
		return fmt.Errorf("%w: targets %d, and %d was seen", ErrOlder, meta.Version, r.floorOf(metadata.TARGETS))
	}
	if b := r.cache(metadata.TARGETS, targetsLimit); b != nil {
		_, err := r.set.UpdateTargets(b)
		if err == nil {
			return nil
		}
		r.spoiled(metadata.TARGETS, b)
	}
	b, err := r.src.Get(ctx, fmt.Sprintf("metadata/%d.targets.json", meta.Version), bound(meta.Length, targetsLimit))
	if err != nil {
		return refused(err, "targets")
	}
	if _, err := r.set.UpdateTargets(b); err != nil {
		return refused(err, "targets")
	}
	r.fresh[metadata.TARGETS] = b
	return nil
}

func bound(length, limit int64) int64 {
	if length > 0 && length < limit {
		return length
	}
	return limit
}

// refused says in our words what go-tuf or the way to the repository said.
func refused(err error, what string) error {
	kind := ErrRefused
	switch {
	case errors.Is(err, ErrNetwork), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("fetch %s: %w", what, err)
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		kind = ErrExpired
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		kind = ErrOlder
	}
	return fmt.Errorf("%w: %s: %w", kind, what, err)
}

func (r *refresh) world() *World {
	s := r.set
	targets := s.Targets[metadata.TARGETS]
	w := &World{
		Root:      roleOf(s.Root.Signed.Version, s.Root.Signed.Expires, s.Root.Signed.UnrecognizedFields),
		Timestamp: roleOf(s.Timestamp.Signed.Version, s.Timestamp.Signed.Expires, s.Timestamp.Signed.UnrecognizedFields),
		Snapshot:  roleOf(s.Snapshot.Signed.Version, s.Snapshot.Signed.Expires, s.Snapshot.Signed.UnrecognizedFields),
		Targets:   roleOf(targets.Signed.Version, targets.Signed.Expires, targets.Signed.UnrecognizedFields),
		Healed:    r.healed,
		targets:   targets.Signed.Targets,
	}
	if behind := r.refTime.Sub(r.t.now()); behind > time.Hour {
		w.Clock = fmt.Sprintf("this machine's clock says %s, which is before %s, when the newest metadata was signed or this program was built; set the clock",
			r.t.now().UTC().Format(time.RFC3339), r.refTime.Format(time.RFC3339))
	}
	return w
}

func roleOf(version int64, expires time.Time, extra map[string]any) Role {
	return Role{Version: version, Expires: expires.UTC(), Signed: signedAt(extra, expires)}
}

// signedAt reads when metadata was signed; zero where it does not say, or says
// something that its own expiry contradicts.
func signedAt(extra map[string]any, expires time.Time) time.Time {
	s, ok := extra[SignedAt].(string)
	if !ok {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.After(expires) {
		return time.Time{}
	}
	return at.UTC()
}

// age refuses online metadata that is older than this kiosk accepts. A freeze is
// invisible while it lasts less than the metadata's life, and this makes that
// shorter. What comes on a stick is old by design: there its expiry counts.
func (r *refresh) age(w *World) error {
	if r.src.Local() || r.t.MaxAge <= 0 || w.Timestamp.Signed.IsZero() {
		return nil
	}
	if age := r.refTime.Sub(w.Timestamp.Signed); age > r.t.MaxAge {
		return fmt.Errorf("%w: it was signed %s ago, and at most %s is accepted", ErrStale, days(age), days(r.t.MaxAge))
	}
	return nil
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// keep writes down what was verified: first the copies, then the floors.
func (r *refresh) keep(w *World) error {
	for _, role := range []string{metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if b, ok := r.fresh[role]; ok {
			if err := writeFile(r.t.file(role), b, 0o644); err != nil {
				return fmt.Errorf("keep %s.json: %w", role, err)
			}
		}
	}
	now := floors{Root: w.Root.Version, Sum: r.rootSum, Roles: map[string]floor{}}
	for name, role := range map[string]Role{metadata.TIMESTAMP: w.Timestamp, metadata.SNAPSHOT: w.Snapshot, metadata.TARGETS: w.Targets} {
		f := floor{role.Version, r.keys(name), role.Signed}
		if old := r.floors.Roles[name]; old.Keys == f.Keys && old.Signed.After(f.Signed) {
			f.Signed = old.Signed
		}
		now.Roles[name] = f
	}
	if now.Root == r.floors.Root && now.Sum == r.floors.Sum && maps.Equal(now.Roles, r.floors.Roles) {
		return nil
	}
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.t.Dir, "floors.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep the floors of versions: %w", err)
	}
	return nil
}
