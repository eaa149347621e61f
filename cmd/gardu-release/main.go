// Command gardu-release is the publisher's side of updates: it makes keys, drafts
// and signs releases, and writes the folder of static files that kiosks fetch. It is
// not in any package for kiosks.
//
// docs/release.md is the playbook.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/update/publish"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
	exitSoon   = 3 // status: something expires soon
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == workerCommand {
		os.Exit(runWorker())
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// tool is what every command shares.
type tool struct {
	in       *bufio.Reader
	terminal *os.File // where passphrases are asked for, if it is one
	out, err io.Writer

	repo   string
	dryRun bool
	yes    bool
	keys   keyOptions
	opened []func()
}

type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	t := &tool{in: bufio.NewReader(in), out: out, err: errOut}
	t.terminal, _ = in.(*os.File)
	defer t.close()
	root := t.command()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintf(errOut, "gardu-release: %v\n", err)
	var c *codeError
	if errors.As(err, &c) {
		return c.code
	}
	return exitFailed
}

func (t *tool) close() {
	for _, f := range t.opened {
		f()
	}
}

func usage(format string, a ...any) error { return &codeError{exitUsage, fmt.Errorf(format, a...)} }

func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return usage("%w; see '%s --help'", err, c.CommandPath())
		}
		return nil
	}
}

func (t *tool) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "gardu-release",
		Short: "Sign releases and publish them as a folder of files",
		Long: `gardu-release makes the folder of files that kiosks fetch releases from. Releases need
the signatures of two people, a change of keys those of two of three. Each command
says what it will do before it does it; --dry-run stops there, --yes does not ask.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something expires soon (status).`,
		SilenceErrors: true, SilenceUsage: true, Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage("%w; see '%s --help'", err, c.CommandPath()) })
	f := root.PersistentFlags()
	f.StringVar(&t.repo, "repo", ".", "the repository's `FOLDER`")
	f.BoolVar(&t.dryRun, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&t.yes, "yes", false, "do it without asking")
	t.keys.flags(root)
	root.AddCommand(t.keysCommand(), t.initCommand(), t.releaseCommand(), t.phaseCommand(), t.holdCommand(), t.offerCommand(), t.backCommand(),
		t.rotateCommand(), t.renewCommand("renew-root"), t.renewCommand("renew-targets"), t.signCommand(), t.publishCommand(), t.cutCommand(),
		t.discardCommand(), t.statusCommand())
	return root
}

func (t *tool) open() *publish.Repo { return publish.Open(t.repo) }

// plan says what will be done and asks. errStop where nothing is to be done.
func (t *tool) plan(lines ...string) error {
	for _, l := range lines {
		_, _ = fmt.Fprintln(t.out, "will "+l)
	}
	if t.dryRun {
		_, _ = fmt.Fprintln(t.out, "dry run: nothing was done")
		return errStop
	}
	if t.yes {
		return nil
	}
	_, _ = fmt.Fprint(t.err, "type yes to do this: ")
	answer, err := t.in.ReadString('\n')
	if strings.TrimSpace(answer) == "yes" {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return errors.New("not done; nothing was changed")
}

// errStop ends a command without an error.
var errStop = errors.New("stop")

// act wraps what a command does so that a dry run is no error.
func act(fn func(c *cobra.Command, a []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, a []string) error {
		if err := fn(c, a); !errors.Is(err, errStop) {
			return err
		}
		return nil
	}
}

func (t *tool) done(format string, a ...any) error {
	_, err := fmt.Fprintf(t.out, "done: "+format+"\n", a...)
	return err
}

const day = 24 * time.Hour

// within says how far away a time is.
func within(d time.Duration) string {
	switch {
	case d < 0:
		return fmt.Sprintf("EXPIRED %d days ago", int(-d/day))
	case d < 2*day:
		return fmt.Sprintf("in %d hours", int(d/time.Hour))
	}
	return fmt.Sprintf("in %d days", int(d/day))
}
