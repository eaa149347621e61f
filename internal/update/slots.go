package update

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// slotInfo is release.json beside an installed program.
type slotInfo struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Length  int64  `json:"length"`
}

// Program is the path of a version's program.
func (p Paths) Program(version string) string {
	if version == Factory {
		return p.Factory
	}
	return filepath.Join(p.versions(), version, "gardu")
}

// Current is the version that the link names: Factory where there is none. An
// error where the link leads to something that is not a version.
func (p Paths) Current() (string, error) {
	to, err := os.Readlink(p.link())
	if absent(err) {
		return Factory, nil
	}
	if err != nil {
		return Factory, fmt.Errorf("read the link to the current version: %w", err)
	}
	v, ok := strings.CutPrefix(to, "versions/")
	if !ok || CheckVersion(v) != nil {
		return Factory, fmt.Errorf("%s leads to %q, which is not a version", p.link(), to)
	}
	return v, nil
}

// switchTo makes the link name a version, by one rename, and waits until that is
// on disk.
func (p Paths) switchTo(version string) error {
	if version == Factory {
		if err := os.Remove(p.link()); err != nil && !absent(err) {
			return fmt.Errorf("remove the link to the current version: %w", err)
		}
		if err := syncDir(p.Opt); !absent(err) {
			return err
		}
		return nil
	}
	tmp := p.link() + ".new"
	if err := os.Remove(tmp); err != nil && !absent(err) {
		return fmt.Errorf("remove a leftover link: %w", err)
	}
	if err := os.Symlink(filepath.Join("versions", version), tmp); err != nil {
		return fmt.Errorf("make the link to version %s: %w", version, err)
	}
	if err := os.Rename(tmp, p.link()); err != nil {
		return fmt.Errorf("switch to version %s: %w", version, err)
	}
	return syncDir(p.Opt)
}

// Committed is the version that is known to work: the one before where another is
// being tried.
func (p Paths) Committed() string {
	cur, err := p.Current()
	if err != nil {
		return Factory
	}
	if s, err := LoadState(p); err == nil && s.Pending == cur && s.From != "" {
		cur = s.From
	}
	return p.usable(cur)
}

// Start is the version to start the agent from: the one that the link names, if
// its program is there.
func (p Paths) Start() string {
	cur, err := p.Current()
	if err != nil {
		return Factory
	}
	return p.usable(cur)
}

func (p Paths) usable(v string) string {
	if st, err := os.Stat(p.Program(v)); err != nil || !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 {
		return Factory
	}
	return v
}

// SlotOf is the version that a program's path belongs to, or Factory.
func SlotOf(program string) string {
	dir := filepath.Dir(program)
	v := filepath.Base(dir)
	if filepath.Base(filepath.Dir(dir)) != "versions" || CheckVersion(v) != nil {
		return Factory
	}
	return v
}

// ErrNotWhole says that a version's files are not what was installed.
var ErrNotWhole = errors.New("its program is not what was installed")

// whole holds a version's program against what was written down when it was
// installed. The factory copy is the package manager's to verify; here it must be
// there and executable.
func (p Paths) whole(version string) error {
	if version == Factory {
		st, err := os.Stat(p.Factory)
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0 || st.Size() == 0 {
			return fmt.Errorf("%s: %w", p.Factory, ErrNotWhole)
		}
		return nil
	}
	info, err := p.slot(version)
	if err != nil {
		return err
	}
	sum, n, err := hashFile(p.Program(version))
	if err != nil {
		return err
	}
	if n != info.Length || sum != info.SHA256 {
		return fmt.Errorf("version %s: %w (%d bytes of %d)", version, ErrNotWhole, n, info.Length)
	}
	return nil
}

func (p Paths) slot(version string) (*slotInfo, error) {
	b, err := readFile(filepath.Join(p.versions(), version, "release.json"), 64<<10)
	if err != nil {
		return nil, fmt.Errorf("version %s: %w: %w", version, ErrNotWhole, err)
	}
	info := &slotInfo{}
	if err := json.Unmarshal(b, info); err != nil || info.Version != version {
		return nil, fmt.Errorf("version %s: %w: its release.json is damaged", version, ErrNotWhole)
	}
	return info, nil
}

// hashFile is the SHA-256 of a file, in hexadecimal, and its length.
func hashFile(path string) (string, int64, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// install puts a verified program into its slot. The slot appears whole, by one
// rename, and is not in use yet.
func (p Paths) install(version, program string, t Target) error {
	if err := CheckVersion(version); err != nil {
		return err
	}
	staging := filepath.Join(p.versions(), ".staging")
	if err := os.RemoveAll(staging); err != nil {
		return err
	}
	if err := os.MkdirAll(staging, 0o755); err != nil { //nolint:gosec // G301: the agent runs it as its own user
		return err
	}
	to := filepath.Join(staging, "gardu")
	if err := os.Rename(program, to); err != nil {
		return fmt.Errorf("move the program into its slot: %w", err)
	}
	if err := os.Chmod(to, 0o755); err != nil { //nolint:gosec // G302: likewise
		return err
	}
	b, err := json.Marshal(slotInfo{Version: version, SHA256: t.SHA256, Length: t.Length})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(staging, "release.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	dir := filepath.Join(p.versions(), version)
	if err := os.RemoveAll(dir); err != nil { // a damaged one of the same name
		return err
	}
	if err := os.Rename(staging, dir); err != nil {
		return fmt.Errorf("put version %s into its slot: %w", version, err)
	}
	return errors.Join(syncDir(dir), syncDir(p.versions()))
}

// prune removes versions that no way leads to any more, and downloads other than
// those named.
func (p Paths) prune(keep ...string) error {
	var errs []error
	entries, err := os.ReadDir(p.versions())
	if err != nil && !absent(err) {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			errs = append(errs, os.RemoveAll(filepath.Join(p.versions(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

func (p Paths) pruneDownloads(keep ...string) {
	entries, err := os.ReadDir(p.download())
	if err != nil {
		return
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			_ = os.RemoveAll(filepath.Join(p.download(), e.Name()))
		}
	}
}
