package publish

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"gardu/internal/update"
)

// Release is what is to be published.
type Release struct {
	Version  string
	Programs map[string]string // by architecture: the file
	Channel  string
	Percent  int
	MinFrom  string
	Patches  []string // versions from which patches are made
}

// AddRelease copies the programs into the repository, makes the patches, and drafts
// targets that offer them.
func (r *Repo) AddRelease(rel Release) error {
	if err := update.CheckVersion(rel.Version); err != nil {
		return err
	}
	if rel.MinFrom != "" {
		if err := update.CheckVersion(rel.MinFrom); err != nil {
			return fmt.Errorf("min_from: %w", err)
		}
	}
	if len(rel.Programs) == 0 || rel.Channel == "" {
		return errors.New("a release needs a program and a channel")
	}
	if err := checkPercent(rel.Percent); err != nil {
		return err
	}
	return r.editTargets(func(s *metadata.TargetsType) error {
		order := highest(s, rel.Channel) + 1
		for _, arch := range slices.Sorted(maps.Keys(rel.Programs)) {
			name := fmt.Sprintf("gardu-%s-linux-%s", rel.Version, arch)
			if s.Targets[name] != nil {
				return fmt.Errorf("release %s is there already; what was published never changes, so give the mended one a new version", rel.Version)
			}
			program, err := os.ReadFile(rel.Programs[arch])
			if err != nil {
				return err
			}
			if !bytes.HasPrefix(program, []byte("\x7fELF")) {
				return fmt.Errorf("%s is not a Linux program", rel.Programs[arch])
			}
			err = r.addTarget(s, name, program, update.Custom{
				Kind: update.KindProgram, Version: rel.Version, OS: "linux", Arch: arch, MinFrom: rel.MinFrom,
				Channels: map[string]update.Channel{rel.Channel: {Order: order, Percent: rel.Percent}},
			})
			if err != nil {
				return err
			}
			for _, from := range rel.Patches {
				if err := r.addPatch(s, from, rel.Version, arch, program); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func checkPercent(p int) error {
	if p < 0 || p > 100 {
		return fmt.Errorf("%d%% is not a part of the kiosks; give 0 to 100", p)
	}
	return nil
}

func (r *Repo) addPatch(s *metadata.TargetsType, from, to, arch string, program []byte) error {
	old := s.Targets[fmt.Sprintf("gardu-%s-linux-%s", from, arch)]
	if old == nil {
		return fmt.Errorf("%w: %s for %s, to make a patch from", ErrNoRelease, from, arch)
	}
	sum := hex.EncodeToString(old.Hashes["sha256"])
	b, err := os.ReadFile(r.path("targets", sum+"."+fmt.Sprintf("gardu-%s-linux-%s", from, arch)))
	if err != nil {
		return err
	}
	var patch bytes.Buffer
	if err := update.MakePatch(b, program, &patch); err != nil {
		return err
	}
	return r.addTarget(s, fmt.Sprintf("gardu-%s-linux-%s.from-%s.zst", to, arch, from), patch.Bytes(),
		update.Custom{Kind: update.KindPatch, Version: to, OS: "linux", Arch: arch, From: sum})
}

func (r *Repo) addTarget(s *metadata.TargetsType, name string, b []byte, c update.Custom) error {
	sum := sha256.Sum256(b)
	t := metadata.TargetFile()
	t.Length = int64(len(b))
	t.Hashes = metadata.Hashes{"sha256": sum[:]} // and no other: clients differ in which one they look at
	t.Path = name
	if err := setCustom(t, c); err != nil {
		return err
	}
	s.Targets[name] = t
	return write(r.path("targets", hex.EncodeToString(sum[:])+"."+name), b)
}

// eachProgram goes through the programs of a channel.
func eachProgram(s *metadata.TargetsType, channel string, fn func(t *metadata.TargetFiles, c update.Custom, ch update.Channel) error) error {
	for _, name := range slices.Sorted(maps.Keys(s.Targets)) {
		t := s.Targets[name]
		c, ok := custom(t)
		if !ok || c.Kind != update.KindProgram {
			continue
		}
		if ch, in := c.Channels[channel]; in {
			if err := fn(t, c, ch); err != nil {
				return err
			}
		}
	}
	return nil
}

func highest(s *metadata.TargetsType, channel string) int64 {
	var top int64
	_ = eachProgram(s, channel, func(_ *metadata.TargetFiles, _ update.Custom, ch update.Channel) error {
		top = max(top, ch.Order)
		return nil
	})
	return top
}

// setChannel changes a release's standing in a channel.
func (r *Repo) setChannel(version, channel string, change func(s *metadata.TargetsType, ch *update.Channel)) error {
	return r.editTargets(func(s *metadata.TargetsType) error {
		found := false
		err := eachProgram(s, channel, func(t *metadata.TargetFiles, c update.Custom, ch update.Channel) error {
			if c.Version != version {
				return nil
			}
			found = true
			if ch.Withdrawn {
				return fmt.Errorf("%w: %s in channel %s; 'gardu-release offer %s PERCENT' puts it forward again, 'back %s' sends everybody to it", ErrWithdrawn, version, channel, version, version)
			}
			change(s, &ch)
			c.Channels[channel] = ch
			return setCustom(t, c)
		})
		if err == nil && !found {
			err = fmt.Errorf("%w: %s in channel %s", ErrNoRelease, version, channel)
		}
		return err
	})
}

// Phase says what part of the kiosks gets a release.
func (r *Repo) Phase(version, channel string, percent int) error {
	if err := checkPercent(percent); err != nil {
		return err
	}
	return r.setChannel(version, channel, func(_ *metadata.TargetsType, ch *update.Channel) {
		ch.Percent, ch.Held, ch.Why = percent, false, ""
	})
}

// Hold keeps kiosks that do not have a release yet from beginning to install it.
func (r *Repo) Hold(version, channel, why string) error {
	return r.setChannel(version, channel, func(_ *metadata.TargetsType, ch *update.Channel) { ch.Held, ch.Why = true, why })
}

// Offer puts a release that is there into another channel.
func (r *Repo) Offer(version, channel string, percent int) error {
	if err := checkPercent(percent); err != nil {
		return err
	}
	return r.editTargets(func(s *metadata.TargetsType) error {
		order, found := highest(s, channel)+1, false
		for _, t := range s.Targets {
			c, ok := custom(t)
			if !ok || c.Kind != update.KindProgram || c.Version != version {
				continue
			}
			found = true
			c.Channels[channel] = update.Channel{Order: order, Percent: percent}
			if err := setCustom(t, c); err != nil {
				return err
			}
		}
		if !found {
			return fmt.Errorf("%w: %s", ErrNoRelease, version)
		}
		return nil
	})
}

// GoBack makes an older release the wanted one, for all kiosks, and has those that
// are newer left.
func (r *Repo) GoBack(version, channel, why string) error {
	return r.editTargets(func(s *metadata.TargetsType) error {
		top, was := highest(s, channel), int64(-1)
		_ = eachProgram(s, channel, func(_ *metadata.TargetFiles, c update.Custom, ch update.Channel) error {
			if c.Version == version {
				was = max(was, ch.Order)
			}
			return nil
		})
		if was < 0 {
			return fmt.Errorf("%w: %s in channel %s", ErrNoRelease, version, channel)
		}
		return eachProgram(s, channel, func(t *metadata.TargetFiles, c update.Custom, ch update.Channel) error {
			switch {
			case c.Version == version:
				ch = update.Channel{Order: top + 1, Percent: 100, Why: why}
			case ch.Order > was:
				ch.Withdrawn, ch.Why = true, why
			default:
				return nil
			}
			c.Channels[channel] = ch
			return setCustom(t, c)
		})
	})
}

// Offered is one release in one channel.
type Offered struct {
	Version  string
	Channel  string
	Archs    []string
	Standing update.Channel
}

// Releases lists what is, or will be, offered; the wanted ones first.
func (r *Repo) Releases() ([]Offered, error) {
	t, err := r.nextTargets()
	if err != nil {
		return nil, err
	}
	return offered(t), nil
}

// Higher is a version that a channel offers and that is higher than the given one; empty
// where there is none.
func (r *Repo) Higher(version, channel string) (string, error) {
	if err := update.CheckVersion(version); err != nil {
		return "", err
	}
	all, err := r.Releases()
	if err != nil {
		return "", err
	}
	for _, o := range all {
		if o.Channel == channel && !o.Standing.Withdrawn && update.Compare(o.Version, version) > 0 {
			return o.Version, nil
		}
	}
	return "", nil
}

// Published lists what is offered now, whatever is drafted.
func (r *Repo) Published() ([]Offered, error) {
	t, err := r.currentTargets()
	if err != nil {
		return nil, err
	}
	return offered(t), nil
}

func offered(t *metadata.Metadata[metadata.TargetsType]) []Offered {
	seen := map[string]*Offered{}
	for _, f := range t.Signed.Targets {
		c, ok := custom(f)
		if !ok || c.Kind != update.KindProgram {
			continue
		}
		for name, ch := range c.Channels {
			key := name + "\x00" + c.Version
			if seen[key] == nil {
				seen[key] = &Offered{Version: c.Version, Channel: name, Standing: ch}
			}
			seen[key].Archs = append(seen[key].Archs, c.Arch)
		}
	}
	all := make([]Offered, 0, len(seen))
	for _, o := range seen {
		slices.Sort(o.Archs)
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b Offered) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), cmp.Compare(b.Standing.Order, a.Standing.Order))
	})
	return all
}
