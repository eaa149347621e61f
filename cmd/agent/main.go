// Command agent is the gardu program: the agent beside a branch kiosk's or POS
// terminal's touchscreen. It reads the command line and the configuration, builds
// every part, passes each what it needs, and waits for a signal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	_ "time/tzdata" // a kiosk image may lack the zones that a provider's local time needs
)

// Exit codes of the commands; see docs/architecture.md, "Fixed names".
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitToken   = 3
	exitNetwork = 4
)

// version is set by the release build.
var version = "devel"

const defaultConfig = "/etc/gardu/gardu.toml"

func main() {
	if len(os.Args) > 1 && os.Args[1] == workerCommand {
		os.Exit(runWorker(os.Args[2:]))
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// app is what every command shares.
type app struct {
	config string
	// Of tests: a folder that all paths of the updater lie below, what stands in for
	// systemctl, and how long a new version is watched below that folder.
	prefix, manager string
	trial           time.Duration

	json bool
	in   io.Reader
	out  io.Writer
	err  io.Writer
}

// codeError ends the program with a code other than 1.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &codeError{code, err}
}

func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// The first signal drains; the second, with the handler gone, ends the program.
	context.AfterFunc(ctx, stop)
	a := &app{in: in, out: out, err: errOut}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintf(errOut, "gardu: %v\n", err)
	var c *codeError
	if errors.As(err, &c) {
		return c.code
	}
	return exitFailed
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "gardu",
		Short: "The agent beside a branch kiosk's touchscreen",
		Long: `gardu runs beside a branch kiosk's or POS terminal's touchscreen. It keeps the keys
in a PKCS#11 token, never loses or doubles a request when the link or the power
goes, signs and sends it, and tells the screen the truth about it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the token, 4 the network.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.PersistentFlags().StringVar(&a.config, "config", defaultConfig, "configuration `FILE`")
	root.PersistentFlags().StringVar(&a.prefix, "prefix", "", "")
	root.PersistentFlags().StringVar(&a.manager, "systemctl", "", "")
	root.PersistentFlags().DurationVar(&a.trial, "trial", 0, "")
	for _, name := range []string{"prefix", "systemctl", "trial"} {
		_ = root.PersistentFlags().MarkHidden(name)
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print data as JSON")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withCode(exitUsage, fmt.Errorf("%w; see '%s --help'", err, c.CommandPath()))
	})
	root.AddCommand(a.runCommand(), a.checkCommand(), a.initCommand(), a.keysCommand(), a.queueCommand(),
		a.uiCommand(), a.auditCommand(), a.versionCommand(),
		a.updateCommand(),
		a.diagCommand())
	return root
}

// usage makes a wrong number of arguments exit with code 2.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return withCode(exitUsage, fmt.Errorf("%w; see '%s --help'", err, c.CommandPath()))
		}
		return nil
	}
}

// group is a command that only has subcommands.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return withCode(exitUsage, fmt.Errorf("say what to do with %s; see '%s --help'", use, c.CommandPath()))
		},
	}
	c.AddCommand(sub...)
	return c
}
