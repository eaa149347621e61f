package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
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

func (t *tool) signCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use: "sign", Short: "Sign the drafts with one key", Args: args(cobra.NoArgs),
		Long: `sign adds one key's signature to every draft that it counts for. It shows what the
drafts change, and of each new program the SHA-256: compare that with a build of your
own before you agree. The folder may travel between the signers.`,
		Example: "  gardu-release sign --key targets-a.key\n  gardu-release sign --key 'pkcs11:token=release;object=targets-b' --module … --pin-file …",
		RunE: act(func(c *cobra.Command, _ []string) error {
			if key == "" {
				return usage("name the key with --key")
			}
			r, err := t.there()
			if err != nil {
				return err
			}
			ds, err := r.Drafts()
			if err != nil {
				return err
			}
			if len(ds) == 0 {
				return fmt.Errorf("there is no draft to sign in %s; 'gardu-release status' shows what is there", t.repo)
			}
			s, err := t.signer(c.Context(), key)
			if err != nil {
				return err
			}
			lines := []string{}
			for _, d := range ds {
				lines = append(lines, fmt.Sprintf("sign the draft of %s %d, if %s counts for it", d.Role, d.Version, key))
			}
			if err := t.showOffered(r); err != nil {
				return err
			}
			seen, err := t.showChanges(r)
			if err != nil {
				return err
			}
			if err := t.plan(lines...); err != nil {
				return err
			}
			if now, err := r.Changes(); err != nil || !slices.Equal(now, seen) {
				return errors.Join(err, errors.New("the drafts were changed meanwhile; nothing was signed; look at them again"))
			}
			roles, err := r.Sign(s)
			if errors.Is(err, publish.ErrWrongKey) {
				return fmt.Errorf("%w; 'gardu-release status' lists whose signatures are missing", err)
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(t.out, "signed: %s\n", strings.Join(roles, ", "))
			return t.next()
		}),
	}
	c.Flags().StringVar(&key, "key", "", "the `KEY`: a file, or pkcs11:token=…;object=…")
	return c
}

func (t *tool) showOffered(r *publish.Repo) error {
	all, err := r.Releases()
	if err != nil {
		return err
	}
	for i, o := range all {
		note := ""
		switch {
		case o.Standing.Withdrawn:
			note = "  withdrawn"
		case o.Standing.Held:
			note = "  held"
		case i == 0 || all[i-1].Channel != o.Channel:
			note = "  wanted"
		}
		if o.Standing.Why != "" {
			note += ": " + o.Standing.Why
		}
		_, _ = fmt.Fprintf(t.out, "channel %s  %-12s %3d%%  %s%s\n", o.Channel, o.Version, o.Standing.Percent, strings.Join(o.Archs, " "), note)
	}
	return nil
}

// showChanges prints what the drafts change, and returns it.
func (t *tool) showChanges(r *publish.Repo) ([]string, error) {
	lines, err := r.Changes()
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		_, _ = fmt.Fprintln(t.out, "change of "+l)
	}
	return lines, nil
}

// onlineKeys opens the snapshot's and the timestamp's keys.
func (t *tool) onlineKeys(ctx context.Context, snapshot, timestamp string) (on publish.Online, err error) {
	if snapshot == "" || timestamp == "" {
		return on, usage("name both online keys with --snapshot-key and --timestamp-key")
	}
	if on.Snapshot, err = t.signer(ctx, snapshot); err != nil {
		return on, err
	}
	on.Timestamp, err = t.signer(ctx, timestamp)
	return on, err
}

func (t *tool) publishCommand() *cobra.Command {
	var snapshot, timestamp string
	var renew bool
	c := &cobra.Command{
		Use: "publish", Short: "Take the drafts over and renew snapshot and timestamp", Args: args(cobra.NoArgs),
		Long: `publish takes drafts over that enough keys have signed, signs a snapshot and a timestamp
with the online keys, verifies all of it as a kiosk would, and writes it. --renew
leaves drafts to their signers and renews what is published: run that every day. Then
upload the folder, timestamp.json last; never upload draft/.`,
		Example: "  gardu-release publish --snapshot-key snapshot.key --timestamp-key timestamp.key\n  gardu-release publish --renew --yes --passphrase-file online/passphrase --snapshot-key snapshot.key --timestamp-key timestamp.key",
		RunE: act(func(c *cobra.Command, _ []string) error {
			r, err := t.there()
			if err != nil {
				return err
			}
			lines, do := []string{}, r.Renew
			if !renew {
				do = r.Publish
				ds, err := r.Drafts()
				if err != nil {
					return err
				}
				for _, d := range ds {
					lines = append(lines, fmt.Sprintf("publish %s %d", d.Role, d.Version))
				}
			}
			lines = append(lines, fmt.Sprintf("sign a snapshot for %d days and a timestamp for %d days", int(r.Lives.Snapshot/day), int(r.Lives.Timestamp/day)))
			if err := t.plan(lines...); err != nil {
				return err
			}
			on, err := t.onlineKeys(c.Context(), snapshot, timestamp)
			if err != nil {
				return err
			}
			files, err := do(on)
			if err != nil {
				return err
			}
			return t.done("wrote %s; now upload targets/, then metadata/, timestamp.json last", strings.Join(files, ", "))
		}),
	}
	c.Flags().StringVar(&snapshot, "snapshot-key", "", "the snapshot's `KEY`")
	c.Flags().StringVar(&timestamp, "timestamp-key", "", "the timestamp's `KEY`")
	c.Flags().BoolVar(&renew, "renew", false, "renew what is published, and leave drafts as they are")
	return c
}

func (t *tool) cutCommand() *cobra.Command {
	var snapshot, timestamp string
	var life int
	c := &cobra.Command{
		Use: "cut FOLDER", Short: "Write a copy for a USB stick, which lives longer", Args: args(cobra.ExactArgs(1)),
		Long: `cut writes a copy of the repository whose snapshot and timestamp live longer, for kiosks
that are updated by a stick. Whoever has the stick can show a kiosk this state until it
expires, and nothing older than what the kiosk has seen.`,
		Example: "  gardu-release cut /media/usb/gardu --days 90 --snapshot-key snapshot.key --timestamp-key timestamp.key",
		RunE: act(func(c *cobra.Command, a []string) error {
			if life < 1 || life > 400 {
				return usage("--days %d is not from 1 to 400", life)
			}
			r, err := t.there()
			if err != nil {
				return err
			}
			if err := t.plan(fmt.Sprintf("write a copy that lives %d days to %s", life, a[0]), "renew the repository's own snapshot and timestamp"); err != nil {
				return err
			}
			on, err := t.onlineKeys(c.Context(), snapshot, timestamp)
			if err != nil {
				return err
			}
			dir, err := filepath.Abs(a[0])
			if err != nil {
				return err
			}
			if err := r.Cut(dir, time.Duration(life)*day, on); err != nil {
				return err
			}
			return t.done("on the kiosk: sudo gardu update apply --from FOLDER; and upload the repository, which was renewed")
		}),
	}
	c.Flags().StringVar(&snapshot, "snapshot-key", "", "the snapshot's `KEY`")
	c.Flags().StringVar(&timestamp, "timestamp-key", "", "the timestamp's `KEY`")
	c.Flags().IntVar(&life, "days", 90, "how many `DAYS` it lives")
	return c
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
