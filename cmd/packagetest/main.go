// Command packagetest installs the packages in a container that runs a whole
// systemd, and does to them there what happens to them in a branch: it provisions,
// starts, updates, breaks, cuts the power, removes and purges, and says of each
// whether it held.
//
//	packagetest [-rows REGEXP] [-keep]   the test; as root, on Debian, at the top of the tree
//	packagetest visit …                  the same program inside the container: a customer, and the platforms
//
// It imports nothing of the agent: it sees what field operations see.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "packagetest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "visit" {
		return visit(ctx, args[1:])
	}
	flags := flag.NewFlagSet("packagetest", flag.ContinueOnError)
	pattern := flags.String("rows", "", "only rows whose name matches the `REGEXP` (and what they need)")
	keep := flags.Bool("keep", false, "leave the container's folder for looking into")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-rows: %w", err)
	}
	return test(ctx, only, *keep)
}
