package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/update"
)

func (a *app) paths() update.Paths { return update.SystemPaths(a.prefix) }

// hidden is a command for units and not for people.
func hidden(c *cobra.Command) *cobra.Command {
	c.Hidden = true
	return c
}

func (a *app) updateCommand() *cobra.Command {
	c := group("update", "Fetch, verify, install and take back releases",
		a.updateStatusCommand(), a.updateCheckCommand(), a.updateApplyCommand(), a.updateHoldCommand(), a.updateResumeCommand(),
		a.updateRollbackCommand(), hidden(a.updateRunCommand()), hidden(a.updateFetchCommand()), hidden(a.updateBootCountCommand()), hidden(a.updateLaunchCommand()))
	c.Long = `update brings signed releases to this kiosk. By itself it looks for them now and then,
installs one while no customer is there and the window is open, watches whether it
works, and takes it back when it does not. These commands show that and do it by hand.`
	return c
}

// needRoot says so before something is half done.
func (a *app) needRoot() error {
	if os.Geteuid() != 0 && a.prefix == "" {
		return errors.New("this changes what is installed: run it as root, with 'sudo'")
	}
	return nil
}

func (a *app) updateCheckCommand() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use: "check", Short: "Ask the repository now, and install nothing", Args: usage(cobra.NoArgs),
		Long: `check asks the repository what there is, verifies what it says, and tells why nothing
is installed or what will be. It changes nothing but what is remembered of the
repository.`,
		Example: "  sudo gardu update check\n  sudo gardu update check --from /media/usb/gardu",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.runUpdater(c.Context(), from, update.How{CheckOnly: true, Who: whoami()})
		},
	}
	c.Flags().StringVar(&from, "from", "", "a repository in a `FOLDER`, such as a USB stick, instead of the configured one")
	return c
}

func (a *app) updateApplyCommand() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use: "apply", Short: "Install what the repository wants now, without waiting for the window", Args: usage(cobra.NoArgs),
		Long: `apply does at once what would be done in the next window: it fetches the wanted release,
verifies it, has it judge the configuration, installs it, and watches for some
minutes whether it works. It still does not install while a customer is there, and
not against a hold. When the release does not work, the one before comes back by itself.

Who is not root but an operator asks the updater by it, which then does what it does
by itself now and then: it waits for the window.`,
		Example: "  sudo gardu update apply\n  sudo gardu update apply --from /media/usb/gardu",
		RunE: func(c *cobra.Command, _ []string) error {
			if a.needRoot() != nil && from == "" {
				return a.askForUpdate(c.Context())
			}
			return a.runUpdater(c.Context(), from, update.How{Now: true, Who: whoami()})
		},
	}
	c.Flags().StringVar(&from, "from", "", "a repository in a `FOLDER`, such as a USB stick, instead of the configured one")
	return c
}

// askForUpdate has the agent ask for a run of the updater, which an operator may who
// is not root.
func (a *app) askForUpdate(ctx context.Context) error {
	if err := a.ask(ctx, verbUpdateRequest, nil, nil); err != nil {
		return fmt.Errorf("%w; or run it as root, with 'sudo'", err)
	}
	if a.json {
		return a.printJSON(map[string]bool{"asked": true})
	}
	_, err := fmt.Fprintln(a.out, "the updater was asked and looks for a release now; 'gardu update status' says what came of it")
	return err
}

// runUpdater is check and apply.
func (a *app) runUpdater(ctx context.Context, from string, how update.How) error {
	u, err := a.updater(ctx, from)
	if err != nil {
		return err
	}
	defer u.close()
	if err := a.needRoot(); err != nil {
		return err
	}
	if !how.CheckOnly {
		_, _ = fmt.Fprintln(a.err, "gardu: fetching and installing what the repository wants; this takes some minutes, and the screen is away for a moment")
	}
	rep, err := u.Run(ctx, how)
	if err != nil {
		return networkCode(err)
	}
	if a.json {
		if err := a.printJSON(rep); err != nil {
			return err
		}
	} else {
		_, _ = fmt.Fprintln(a.out, rep.Reason.Text)
	}
	waits := !how.CheckOnly && rep.Reason.Code != update.CodeUpToDate
	if waits {
		return fmt.Errorf("nothing was installed (%s); 'gardu update status' shows more", rep.Reason.Code)
	}
	return nil
}

func networkCode(err error) error {
	if errors.Is(err, update.ErrToken) {
		return withCode(exitToken, err)
	}
	if errors.Is(err, update.ErrNetwork) {
		return withCode(exitNetwork, err)
	}
	return err
}

func (a *app) updateHoldCommand() *cobra.Command {
	var why string
	var lasts time.Duration
	c := &cobra.Command{
		Use: "hold", Short: "Install nothing until 'gardu update resume'", Args: usage(cobra.NoArgs),
		Example: "  sudo gardu update hold --reason 'audit visit' --for 48h",
		RunE: func(*cobra.Command, []string) error {
			if err := a.needRoot(); err != nil {
				return err
			}
			if lasts < 0 {
				return withCode(exitUsage, errors.New(`--for is negative; give a duration such as "48h"`))
			}
			h := update.Hold{Who: whoami(), Reason: why, At: time.Now().UTC().Truncate(time.Second)}
			if lasts > 0 {
				h.Until = h.At.Add(lasts)
			}
			rec := a.recorder()
			defer rec.close()
			if err := update.SetHold(a.paths(), h, rec.record); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(h)
			}
			_, err := fmt.Fprintln(a.out, "held: nothing is installed until 'gardu update resume'"+until(h.Until))
			return err
		},
	}
	c.Flags().StringVar(&why, "reason", "", "`WHY`; status shows it")
	c.Flags().DurationVar(&lasts, "for", 0, "`HOW LONG`, such as 48h; without it until resumed")
	return c
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " or " + t.Local().Format("2006-01-02 15:04")
}

func (a *app) updateResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resume", Short: "End a hold, and try again what did not work before", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := a.needRoot(); err != nil {
				return err
			}
			rec := a.recorder()
			defer rec.close()
			was, err := update.Resume(a.paths(), whoami(), rec.record)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"hold_ended": was.Hold != nil, "forgiven": len(was.Bad), "page_ended": was.OutOfService != nil})
			}
			if was.OutOfService != nil {
				_, _ = fmt.Fprintln(a.out, "the page OUT OF SERVICE ends with the next start: systemctl restart gardu")
			}
			_, err = fmt.Fprintf(a.out, "updates go on; %d versions that did not work here may be tried again\n", len(was.Bad))
			return err
		},
	}
}

func (a *app) updateRollbackCommand() *cobra.Command {
	var why, to string
	var force, automatic bool
	c := &cobra.Command{
		Use: "rollback", Short: "Go back to the version before", Args: usage(cobra.NoArgs),
		Long: `rollback goes back to the version that ran before this one, or to the factory copy that
came with the package. What it replaces is not installed again until 'gardu update
resume' or a newer release. The journal stays: no request is lost or sent again.`,
		Example: "  sudo gardu update rollback --reason 'screen stays black'\n  sudo gardu update rollback --to factory",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needRoot(); err != nil {
				return err
			}
			if automatic {
				return a.rollbackAutomatic(c.Context())
			}
			u, err := a.updater(c.Context(), "")
			if err != nil {
				return err
			}
			defer u.close()
			got, wait, err := u.Back(c.Context(), to, whoami(), why, force)
			switch {
			case err != nil:
				return err
			case wait.Code != "":
				return fmt.Errorf("%s; wait a moment, or give --force", wait.Text)
			case a.json:
				return a.printJSON(map[string]string{"version": got})
			}
			_, err = fmt.Fprintf(a.out, "version %s runs and works\n", got)
			return err
		},
	}
	c.Flags().StringVar(&to, "to", "", "the `VERSION`, or factory; without it the one before")
	c.Flags().StringVar(&why, "reason", "", "`WHY`, for the audit record")
	c.Flags().BoolVar(&force, "force", false, "also while a customer is there, and also when that version refuses the configuration")
	c.Flags().BoolVar(&automatic, "automatic", false, "")
	_ = c.Flags().MarkHidden("automatic")
	return c
}

// rollbackAutomatic is what gardu-rollback.service runs when systemd has given up on
// the agent. The unit must never stay failed, so the agent is started again
// whatever went wrong here.
func (a *app) rollbackAutomatic(ctx context.Context) error {
	g, rec := a.guard()
	defer rec.close()
	g.Config = a.judgeConfig
	next, err := g.Rollback(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(a.err, "gardu: %v\n", err)
	}
	_, _ = fmt.Fprintf(a.err, "gardu: starting again with %s\n", next)
	// An unit that failed too often is not started before it is told to forget that.
	_ = a.systemctl(ctx, "reset-failed", unitName)
	return a.systemctl(ctx, "--no-block", "start", unitName)
}

func (a *app) updateRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "What gardu-update.service does", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needRoot(); err != nil {
				return err
			}
			if err := a.becomeCommitted(); err != nil {
				_, _ = fmt.Fprintf(a.err, "gardu: the committed version does not run the updater (%v); this copy does\n", err)
			}
			// The request is taken before it is looked at: one that comes meanwhile counts.
			_ = os.Remove(a.paths().Request)
			u, err := a.updater(c.Context(), "")
			if err != nil {
				return err
			}
			defer u.close()
			_, err = u.Run(c.Context(), update.How{})
			if errors.Is(err, update.ErrBusy) {
				return nil
			}
			return networkCode(err)
		},
	}
}

// updaterMark tells the committed version that it was started by the factory copy.
const updaterMark = "GARDU_UPDATE_COMMITTED"

// becomeCommitted replaces this program by the committed version: a version that is
// only being tried must not be the one that judges itself.
func (a *app) becomeCommitted() error {
	p := a.paths()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	v := p.Committed()
	if update.SlotOf(self) == v || os.Getenv(updaterMark) != "" {
		return nil
	}
	program := p.Program(v)
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), append(os.Environ(), updaterMark+"="+v)) //nolint:gosec // G204: a verified version of ourselves
}

func (a *app) updateBootCountCommand() *cobra.Command {
	return &cobra.Command{
		Use: "boot-count", Short: "What runs before each start of the agent", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			g, rec := a.guard()
			defer rec.close()
			if err := g.BootCount(); err != nil {
				_, _ = fmt.Fprintf(a.err, "gardu: %v\n", err)
			}
			return nil // whatever it was, the start goes on
		},
	}
}

func (a *app) updateLaunchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "launch -- COMMAND", Short: "Become the version that is installed, or stay the factory copy", Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			p := a.paths()
			program := p.Program(p.Start())
			argv := append([]string{program}, args...)
			err := syscall.Exec(program, argv, os.Environ()) //nolint:gosec // G204: the version that root installed
			_, _ = fmt.Fprintf(a.err, "gardu: %s does not start (%v); the factory copy does\n", program, err)
			if p.Start() == update.Factory {
				return err
			}
			return syscall.Exec(p.Factory, append([]string{p.Factory}, args...), os.Environ()) //nolint:gosec // G204: likewise
		},
	}
}

const unitName = "gardu.service"

// systemctl speaks to the service manager, or to what a test put in its place.
func (a *app) systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	program := a.manager
	if program == "" {
		program = "systemctl"
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput() //nolint:gosec // G204: fixed, or a test's own
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", program, args, err, firstLine(out))
	}
	return nil
}

func firstLine(b []byte) string {
	for i, c := range b {
		if c == '\n' {
			return string(b[:i])
		}
	}
	return string(b)
}
