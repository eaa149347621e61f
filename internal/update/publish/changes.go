package publish

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Changes says what the drafts change of what is published, a line each: what a signer
// answers for. Of a program it names the SHA-256, to be compared with a build of one's
// own.
func (r *Repo) Changes() ([]string, error) {
	b, err := r.drafted(Root)
	if err != nil {
		return nil, err
	}
	var lines []string
	if b != nil {
		next, err := metadata.Root().FromBytes(b)
		if err != nil {
			return nil, err
		}
		now, err := r.currentRoot()
		if err != nil && !errors.Is(err, ErrNone) {
			return nil, err
		}
		if errors.Is(err, ErrNone) {
			now = metadata.Root()
		}
		lines = rootChanges(now, next)
	}
	if b, err = r.drafted(Targets); err != nil || b == nil {
		return lines, err
	}
	next, err := metadata.Targets().FromBytes(b)
	if err != nil {
		return nil, err
	}
	more, err := r.targetsChanges(next)
	return append(lines, more...), err
}

func rootChanges(now, next *metadata.Metadata[metadata.RootType]) []string {
	var lines []string
	for _, role := range []string{Root, Targets, Snapshot, Timestamp} {
		was, is := now.Signed.Roles[role], next.Signed.Roles[role]
		if is == nil {
			continue
		}
		var old []string
		needed := 0
		if was != nil {
			old, needed = was.KeyIDs, was.Threshold
		}
		for _, id := range is.KeyIDs {
			if !slices.Contains(old, id) {
				lines = append(lines, fmt.Sprintf("root: role %s gets key %s", role, id))
			}
		}
		for _, id := range old {
			if !slices.Contains(is.KeyIDs, id) {
				lines = append(lines, fmt.Sprintf("root: role %s loses key %s", role, id))
			}
		}
		if needed != is.Threshold {
			lines = append(lines, fmt.Sprintf("root: role %s needs %d of %d keys", role, is.Threshold, len(is.KeyIDs)))
		}
	}
	return append(lines, "root: is believed until "+next.Signed.Expires.Format(time.DateOnly))
}

func (r *Repo) targetsChanges(next *metadata.Metadata[metadata.TargetsType]) ([]string, error) {
	added, err := r.added(next)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, name := range added {
		t := next.Signed.Targets[name]
		lines = append(lines, fmt.Sprintf("targets: new %s  %s, %d bytes", hex.EncodeToString(t.Hashes["sha256"]), name, t.Length))
	}
	now, err := r.currentTargets()
	if err != nil && !errors.Is(err, ErrNone) {
		return nil, err
	}
	var was []Offered
	if err == nil {
		was = offered(now)
		for name := range now.Signed.Targets {
			if next.Signed.Targets[name] == nil {
				lines = append(lines, "targets: no longer there: "+name)
			}
		}
	}
	for _, o := range offered(next) {
		i := slices.IndexFunc(was, func(w Offered) bool { return w.Version == o.Version && w.Channel == o.Channel })
		switch {
		case i < 0:
			lines = append(lines, fmt.Sprintf("targets: channel %s offers %s, to %d%%", o.Channel, o.Version, o.Standing.Percent))
		case was[i].Standing != o.Standing:
			lines = append(lines, fmt.Sprintf("targets: channel %s, %s: %s; until now %s", o.Channel, o.Version, standing(o), standing(was[i])))
		}
	}
	return append(lines, "targets: are believed until "+next.Signed.Expires.Format(time.DateOnly)), nil
}

// standing is a release's standing in words.
func standing(o Offered) string {
	s := o.Standing
	text := fmt.Sprintf("%d%%", s.Percent)
	switch {
	case s.Withdrawn:
		text = "withdrawn"
	case s.Held:
		text += ", held"
	}
	return text + fmt.Sprintf(", place %d", s.Order)
}
