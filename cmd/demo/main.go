// Command demo shows the whole product on one machine: it makes a SoftHSM token,
// keys, certificates and a configuration in a folder of its own, starts the
// sandbox that plays the platforms, and the agent, as the programs they are.
//
//	demo up      set up what is missing, start, print the address, wait for Ctrl-C
//	demo check   the same without a person: drive every operation as the page does
//	demo clean   remove the folder
//
// It imports nothing of the agent: it sees what a branch sees, the screen's
// protocol, the gardu command and the platforms' side (package stage).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"gardu/cmd/demo/stage"
)

// The check's times are short, so that a doubt is settled while somebody waits,
// and its PINs and one-time passwords are long, so that finding one somewhere is no
// accident.
var (
	forPeople = stage.Plan{
		Delivery: stage.Delivery{
			RetryBase: "500ms", RetryMax: "5s", ReadBase: "2s", ReadMax: "10s",
			Quiet: "30s", Unresolved: "2m", Probe: "5s", Call: "10s",
		},
		PINMax: 6, Say: say,
	}
	forCheck = stage.Plan{
		Delivery: stage.Delivery{
			RetryBase: "200ms", RetryMax: "1s", ReadBase: "300ms", ReadMax: "1s",
			Quiet: "4s", Unresolved: "8s", Probe: "1s", Call: "10s",
		},
		PINMax: 12, OTP: "90471836", Say: say,
	}
)

func say(format string, a ...any) { fmt.Printf("· "+format+"\n", a...) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		_, _ = fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	verb := ""
	if len(args) == 1 {
		verb = args[0]
	}
	switch verb {
	case "up":
		return up(ctx)
	case "check":
		return check(ctx)
	case "clean":
		return clean()
	}
	return errors.New("say what to do: up, check or clean")
}

// folder is where everything of one demo lives. GARDU_DEMO names another.
func folder(name string) (string, error) {
	dir := os.Getenv("GARDU_DEMO")
	if dir == "" {
		dir = ".demo"
	}
	abs, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("find the demo's folder: %w", err)
	}
	return abs, nil
}

func up(ctx context.Context) error {
	dir, err := folder("up")
	if err != nil {
		return err
	}
	s, err := stage.SetUp(ctx, dir, forPeople)
	if err != nil {
		return err
	}
	p, err := s.Start(ctx)
	if err != nil {
		return err
	}
	defer p.Stop()
	front, err := openFront(ctx, s)
	if err != nil {
		return err
	}
	defer front.close()
	welcome(s, front.addr)
	select {
	case <-ctx.Done():
		fmt.Println("\nStopping. What is in", dir, "stays for the next start; make demo-clean removes it.")
		return nil
	case err := <-p.Ended():
		return err
	}
}

func clean() error {
	for _, name := range []string{"up", "check"} {
		dir, err := folder(name)
		if err != nil {
			return err
		}
		if err := stage.Remove(dir); err != nil {
			return err
		}
	}
	dir, err := folder("")
	if err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the demo's folder: %w", err)
	}
	fmt.Println("Removed", dir)
	return nil
}
