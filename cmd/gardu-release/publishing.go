package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/update/publish"
)

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
