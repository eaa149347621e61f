// Command crash breaks gardu on purpose and counts what became of every request:
// it kills it at random moments and at chosen system calls, lets its disk fail,
// fill up and lose power, and lets the platforms be slow, silent and away.
//
//	crash short        at least 100 kills in three minutes or less
//	crash long         at least 2,000 kills and 200 power cuts
//	crash one KIND [N] N trials (default 20) of one kind, to look at something closely
//
// What was acknowledged before a kill is remembered outside of the killed process
// and compared afterwards with the journal and with what the platforms did. The
// last line of the table says whether every acknowledged request came to exactly
// one honest end; if not, crash exits with 1.
//
// Most trials break a booth (package booth): the product without screen and token,
// which starts in milliseconds. Others break the gardu program itself, driven over
// the screen's protocol. The sandbox carries out repetitions, so that a request
// that is sent twice counts twice. Kinds that need root, loop devices, FUSE or
// strace are skipped with a message where these are missing.
//
// The clock that jumps is the booth's own reading of it, by which the engine times
// requests: a time namespace does not cover the wall clock, and the machine's own is
// left alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"gardu/cmd/crash/booth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == boothVerb {
		// A booth is ended by its standard input or by a kill, not by Ctrl-C.
		return booth.Run(context.WithoutCancel(ctx), args[1], os.Stdin, os.Stdout, os.Stderr)
	}
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "short" && len(args) == 1:
		return campaign(ctx, shortPlan())
	case verb == "long" && len(args) == 1:
		return campaign(ctx, longPlan())
	case verb == "one" && (len(args) == 2 || len(args) == 3):
		n := 20
		if len(args) == 3 {
			var err error
			if n, err = strconv.Atoi(args[2]); err != nil || n < 1 {
				return fmt.Errorf("the number of trials is %q; give one from 1 on", args[2])
			}
		}
		p, err := onePlan(args[1], n)
		if err != nil {
			return err
		}
		return campaign(ctx, p)
	}
	return errors.New("say what to do: short, long, or one KIND [N]")
}
