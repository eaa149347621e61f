package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/update/publish"
)

func (t *tool) initCommand() *cobra.Command {
	var root, targets []string
	var snapshot, timestamp string
	c := &cobra.Command{
		Use: "init", Short: "Draft the first root of a new repository", Args: args(cobra.NoArgs),
		Long: `init drafts the root, which names all keys, and empty targets. Two of the three root
keys and both targets keys then sign them, and publish writes them.`,
		Example: "  gardu-release init --root a.pub --root b.pub --root c.pub --targets d.pub --targets e.pub --snapshot s.pub --timestamp t.pub",
		RunE: act(func(c *cobra.Command, _ []string) error {
			if len(root) != 3 || len(targets) != 2 || snapshot == "" || timestamp == "" {
				return usage("give three --root, two --targets, one --snapshot and one --timestamp, each the .pub file of another key")
			}
			return t.initialise(c.Context(), root, targets, snapshot, timestamp)
		}),
	}
	f := c.Flags()
	f.StringArrayVar(&root, "root", nil, "`PUBLIC KEY` of one of three root holders")
	f.StringArrayVar(&targets, "targets", nil, "`PUBLIC KEY` of one of two release signers")
	f.StringVar(&snapshot, "snapshot", "", "`PUBLIC KEY` of the snapshot")
	f.StringVar(&timestamp, "timestamp", "", "`PUBLIC KEY` of the timestamp")
	return c
}

func (t *tool) initialise(ctx context.Context, root, targets []string, snapshot, timestamp string) error {
	roles := publish.Roles{}
	for _, r := range []struct {
		role  string
		names []string
		needs int
	}{{publish.Root, root, 2}, {publish.Targets, targets, 2}, {publish.Snapshot, []string{snapshot}, 1}, {publish.Timestamp, []string{timestamp}, 1}} {
		k := publish.RoleKeys{Threshold: r.needs}
		for _, n := range r.names {
			pub, err := t.public(ctx, n)
			if err != nil {
				return fmt.Errorf("%s: %w", n, err)
			}
			k.Keys = append(k.Keys, pub)
		}
		roles[r.role] = k
	}
	if err := t.plan("draft root 1 in "+t.repo+": root 2 of 3, targets 2 of 2, snapshot 1, timestamp 1", "draft targets 1 without a release"); err != nil {
		return err
	}
	if err := t.open().Begin(roles); err != nil {
		return err
	}
	return t.next()
}

// next says what is still to be signed.
func (t *tool) next() error {
	ds, err := t.open().Drafts()
	if err != nil {
		return err
	}
	for _, d := range ds {
		state := "ready to be published"
		if !d.Enough() {
			state = "needs more signatures: gardu-release sign --key …"
		}
		_, _ = fmt.Fprintf(t.out, "draft of %s %d: %s\n", d.Role, d.Version, state)
		old := slices.DeleteFunc(slices.Clone(d.Old), func(id string) bool { return slices.Contains(d.Keys, id) })
		for _, id := range append(slices.Clone(d.Keys), old...) {
			mark := "        "
			if slices.Contains(d.Have, id) {
				mark = "signed  "
			}
			note := ""
			if slices.Contains(old, id) {
				note = "  (of the root before)"
			}
			_, _ = fmt.Fprintf(t.out, "  %s%s%s\n", mark, id, note)
		}
		_, _ = fmt.Fprintf(t.out, "  %d of these must sign", d.Threshold)
		if d.OldNeeds > 0 {
			_, _ = fmt.Fprintf(t.out, ", and %d of the root before", d.OldNeeds)
		}
		_, _ = fmt.Fprintln(t.out)
	}
	return nil
}

func (t *tool) releaseCommand() *cobra.Command {
	var programs, patches []string
	var older bool
	r := publish.Release{}
	c := &cobra.Command{
		Use: "release VERSION", Short: "Draft a release", Args: args(cobra.ExactArgs(1)),
		Long: `release copies programs into the repository, makes patches from earlier releases, and
drafts targets that offer them to a part of the kiosks of a channel.`,
		Example: "  gardu-release release 1.5.0 --program amd64=build/release/gardu-linux-amd64 --program arm64=build/release/gardu-linux-arm64 --percent 1 --patch-from 1.4.2",
		RunE: act(func(_ *cobra.Command, a []string) error {
			r.Version, r.Patches, r.Programs = a[0], patches, map[string]string{}
			repo, err := t.there()
			if err != nil {
				return err
			}
			if err := notOlder(repo, r.Version, r.Channel, older); err != nil {
				return err
			}
			for _, p := range programs {
				arch, file, ok := strings.Cut(p, "=")
				if !ok || arch == "" || file == "" {
					return usage("--program %q is not ARCH=FILE, such as amd64=gardu-linux-amd64", p)
				}
				if r.Programs[arch] != "" {
					return usage("--program names %s twice", arch)
				}
				if err := isProgram(file, arch, r.Version); err != nil {
					return err
				}
				r.Programs[arch] = file
			}
			lines := []string{fmt.Sprintf("draft release %s for channel %s, for %d%% of its kiosks", r.Version, r.Channel, r.Percent)}
			for _, arch := range slices.Sorted(maps.Keys(r.Programs)) {
				st, err := os.Stat(r.Programs[arch])
				if err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("copy %s (%s, %d bytes)", r.Programs[arch], arch, st.Size()))
			}
			for _, from := range patches {
				lines = append(lines, "make a patch from "+from)
			}
			if err := t.plan(lines...); err != nil {
				return err
			}
			if err := repo.AddRelease(r); err != nil {
				return err
			}
			return t.next()
		}),
	}
	f := c.Flags()
	f.StringArrayVar(&programs, "program", nil, "`ARCH=FILE`, once for each architecture")
	f.StringVar(&r.Channel, "channel", "stable", "the `CHANNEL`")
	f.IntVar(&r.Percent, "percent", 1, "the `PART` of the kiosks that gets it first")
	f.StringVar(&r.MinFrom, "min-from", "", "the oldest `VERSION` that may go straight to it")
	f.StringArrayVar(&patches, "patch-from", nil, "make a patch from this `VERSION`")
	f.BoolVar(&older, "older", false, "although the channel offers a higher version: kiosks that have it go back")
	return c
}

// drafting is a command that changes what is offered.
func (t *tool) drafting(use, short, example string, n int, say func(a []string) (string, error), do func(r *publish.Repo, a []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: args(cobra.ExactArgs(n)),
		RunE: act(func(_ *cobra.Command, a []string) error {
			r, err := t.there()
			if err != nil {
				return err
			}
			line, err := say(a)
			if err != nil {
				return err
			}
			if err := t.plan("draft: " + line); err != nil {
				return err
			}
			if err := do(r, a); err != nil {
				return err
			}
			return t.next()
		}),
	}
}

func percentOf(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil || n < 0 || n > 100 {
		return 0, usage("%q is not a percentage from 0 to 100", s)
	}
	return n, nil
}

func (t *tool) phaseCommand() *cobra.Command {
	var channel string
	var fewer bool
	c := t.drafting("phase VERSION PERCENT", "Give a release to more of the kiosks", "  gardu-release phase 1.5.0 25", 2,
		func(a []string) (string, error) {
			n, err := percentOf(a[1])
			return fmt.Sprintf("release %s goes to %d%% of the kiosks of channel %s", a[0], n, channel), err
		},
		func(r *publish.Repo, a []string) error {
			n, err := percentOf(a[1])
			if err != nil {
				return err
			}
			if err := notFewer(r, a[0], channel, n, fewer); err != nil {
				return err
			}
			return r.Phase(a[0], channel, n)
		})
	c.Flags().StringVar(&channel, "channel", "stable", "the `CHANNEL`")
	c.Flags().BoolVar(&fewer, "fewer", false, "although it is fewer than now: those that have it keep it")
	return c
}

func (t *tool) offerCommand() *cobra.Command {
	var channel string
	c := t.drafting("offer VERSION PERCENT", "Put a release into another channel", "  gardu-release offer 1.5.0 100 --channel stable", 2,
		func(a []string) (string, error) {
			n, err := percentOf(a[1])
			return fmt.Sprintf("release %s is also in channel %s, for %d%% of its kiosks", a[0], channel, n), err
		},
		func(r *publish.Repo, a []string) error {
			n, err := percentOf(a[1])
			if err != nil {
				return err
			}
			return r.Offer(a[0], channel, n)
		})
	c.Flags().StringVar(&channel, "channel", "stable", "the `CHANNEL`")
	return c
}

func (t *tool) holdCommand() *cobra.Command {
	var channel, why string
	c := t.drafting("hold VERSION", "Let no further kiosk begin to install a release", "  gardu-release hold 1.5.0 --reason 'prints twice in Bandung'", 1,
		func(a []string) (string, error) {
			return fmt.Sprintf("no further kiosk of channel %s installs %s; those that have it keep it; 'phase' lets it go on", channel, a[0]), nil
		},
		func(r *publish.Repo, a []string) error { return r.Hold(a[0], channel, why) })
	c.Flags().StringVar(&channel, "channel", "stable", "the `CHANNEL`")
	c.Flags().StringVar(&why, "reason", "", "`WHY`; kiosks show it")
	return c
}

func (t *tool) backCommand() *cobra.Command {
	var channel, why string
	c := t.drafting("back VERSION", "Make an older release the wanted one again, for everybody", "  gardu-release back 1.4.2 --reason 'prints twice'", 1,
		func(a []string) (string, error) {
			return fmt.Sprintf("every kiosk of channel %s goes to %s, also those that have a newer one", channel, a[0]), nil
		},
		func(r *publish.Repo, a []string) error { return r.GoBack(a[0], channel, why) })
	c.Flags().StringVar(&channel, "channel", "stable", "the `CHANNEL`")
	c.Flags().StringVar(&why, "reason", "", "`WHY`; kiosks show it")
	return c
}

func (t *tool) rotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate ROLE OLD NEW", Short: "Replace a key by another", Args: args(cobra.ExactArgs(3)),
		Long: `rotate drafts a root in which NEW, a .pub file, takes the place of OLD, a key's id or
its .pub file. For a root key enough holders of the old and of the new root must sign.
When an online key was stolen, replace snapshot and timestamp both, in one draft: kiosks
then forget how far a thief has counted their versions.`,
		Example: "  gardu-release rotate timestamp timestamp.key.pub timestamp-2.key.pub",
		RunE: act(func(c *cobra.Command, a []string) error {
			r, err := t.there()
			if err != nil {
				return err
			}
			old := a[1]
			if _, err := os.Stat(old); err == nil {
				pub, err := t.public(c.Context(), old)
				if err != nil {
					return err
				}
				if old, err = publish.KeyID(pub); err != nil {
					return err
				}
			}
			pub, err := t.public(c.Context(), a[2])
			if err != nil {
				return err
			}
			id, err := publish.KeyID(pub)
			if err != nil {
				return err
			}
			if err := t.plan(fmt.Sprintf("draft a root in which key %s takes the place of %s in role %s", id, old, a[0])); err != nil {
				return err
			}
			if err := r.Rotate(a[0], old, pub); err != nil {
				return err
			}
			return t.next()
		}),
	}
}

func (t *tool) renewCommand(name string) *cobra.Command {
	role := strings.TrimPrefix(name, "renew-")
	return &cobra.Command{
		Use: name, Short: "Draft the same " + role + " with a new expiry", Args: args(cobra.NoArgs),
		RunE: act(func(*cobra.Command, []string) error {
			r, err := t.there()
			if err != nil {
				return err
			}
			if err := t.plan("draft the same " + role + " with a new expiry"); err != nil {
				return err
			}
			do := r.RenewRoot
			if role == publish.Targets {
				do = r.RenewTargets
			}
			if err := do(); err != nil {
				return err
			}
			return t.next()
		}),
	}
}

func (t *tool) discardCommand() *cobra.Command {
	return &cobra.Command{
		Use: "discard", Short: "Throw the drafts away", Args: args(cobra.NoArgs),
		RunE: act(func(*cobra.Command, []string) error {
			r, err := t.there()
			if err != nil {
				return err
			}
			if err := t.plan("throw away all drafts in " + t.repo + " and their signatures"); err != nil {
				return err
			}
			if err := r.Discard(); err != nil {
				return err
			}
			return t.done("what is published stays as it is")
		}),
	}
}

func (t *tool) statusCommand() *cobra.Command {
	var soon map[string]int
	c := &cobra.Command{
		Use: "status", Short: "Show what is offered, what is drafted, who holds keys, and what expires", Args: args(cobra.NoArgs),
		Long: `status shows the repository. It ends with code 3 when something expires soon: the
root or the targets within 60 days, the snapshot within 10, the timestamp within 3.
Let a daily job run it and ring when the code is not 0.`,
		RunE: func(*cobra.Command, []string) error { return t.status(soon) },
	}
	soon = map[string]int{publish.Root: 60, publish.Targets: 60, publish.Snapshot: 10, publish.Timestamp: 3}
	return c
}

func (t *tool) status(soon map[string]int) error {
	r, err := t.there()
	if err != nil {
		return err
	}
	if err := t.showOffered(r); err != nil {
		return err
	}
	if _, err := t.showChanges(r); err != nil {
		return err
	}
	if err := t.next(); err != nil {
		return err
	}
	if half, err := r.Interrupted(); err != nil || half {
		return errors.Join(err, fmt.Errorf("%w: finish it with 'gardu-release publish' before anything is uploaded", publish.ErrInterrupted))
	}
	for _, role := range []string{publish.Root, publish.Targets, publish.Snapshot, publish.Timestamp} {
		ids, needs, err := r.Keys(role)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(t.out, "%s: %d of %d keys: %s\n", role, needs, len(ids), strings.Join(short(ids), " "))
	}
	all, err := r.Expiries()
	if errors.Is(err, publish.ErrNone) {
		_, err = fmt.Fprintln(t.out, "nothing is published yet")
		return err
	}
	if err != nil {
		return err
	}
	late := []string{}
	for _, e := range all {
		left := time.Until(e.Expires)
		_, _ = fmt.Fprintf(t.out, "%s %d expires %s (%s)\n", e.Role, e.Version, e.Expires.Format(time.DateOnly), within(left))
		if left < time.Duration(soon[e.Role])*day {
			late = append(late, fmt.Sprintf("%s expires %s; %s", e.Role, within(left), e.Who))
		}
	}
	if len(late) > 0 {
		return &codeError{exitSoon, errors.New(strings.Join(late, "; "))}
	}
	return nil
}

func short(ids []string) []string {
	all := make([]string, 0, len(ids))
	for _, id := range ids {
		all = append(all, id[:12])
	}
	return all
}
