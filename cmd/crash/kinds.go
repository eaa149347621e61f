package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// kind is one way to break things.
type kind struct {
	name  string
	what  string
	needs func() error // nil: nothing but this program
	per   int          // trials on one journal at most
	round func(ctx context.Context, g *ground, trials int, t *tally) error
}

// kinds are all of them, in the order of the table.
func kinds() []kind {
	return []kind{
		{"kill", "kill -9 at random moments under load", nil, 25, kills(calm, easy)},
		{"kill-slow", "the same, platforms answer and act late", nil, 20, kills(slow, easy)},
		{"kill-silent", "the same, platforms do not answer, with and without effect", nil, 20, kills(silent, easy)},
		{"kill-lost", "the same, answers are cut, broken or errors after the effect", nil, 20, kills(lost, easy)},
		{"kill-flap", "the same, platforms come and go", nil, 20, kills(calm, flapping)},
		{"kill-drain", "enqueueing, also again for the same customer, while the queue drains", nil, 20, drains},
		{"kill-operator", "operators cancel, ask and retry while the queue drains", nil, 20, operated},
		{"clock", "the wall clock jumps to 1970, 2040 and back, then kill -9", nil, 10, clocked},
		{"kill-point", "kill -9 on entry to a chosen system call", needStrace, 20, kills(mixed, atPoint)},
		{"sync-error", "every so many syncs or writes fail with EIO, then kill -9", needStrace, 10, kills(mixed, failing)},
		{"disk-full", "others fill the disk now and then, kill -9", needRoot, 15, fulls},
		{"power", "power cut: ext4 stops without writing out (EXT4_IOC_SHUTDOWN)", needLoop, 20, cuts(ext4, false)},
		{"power-torn", "power cut: a disk loses its write cache, sector by sector", needFUSE, 20, cuts(volatile, false)},
		{"power-sick", "the same, and before it the disk takes no writes for moments (EIO)", needFUSE, 20, cuts(volatile, true)},
		{"agent-kill", "kill -9 of the gardu program itself, driven over its screen", nil, 25, agents},
		{"agent-power", "the same with power cuts as in power-torn", needFUSE, 25, agentCuts},
	}
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	return nil
}

func needLoop() error {
	if err := needRoot(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return errors.New("needs loop devices")
	}
	return nil
}

func needFUSE() error {
	if err := needLoop(); err != nil {
		return err
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return errors.New("needs FUSE")
	}
	return nil
}

func needStrace() error {
	if _, err := exec.LookPath("strace"); err != nil {
		return errors.New("needs strace")
	}
	out, err := exec.Command("strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=getppid:error=EIO", "true").CombinedOutput() //nolint:noctx // ends by itself
	if err != nil {
		return fmt.Errorf("strace does not work here: %w: %s", err, out)
	}
	return nil
}
