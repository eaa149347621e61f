//go:build embedworker

package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"

	"gardu/internal/keystore/embedded"
)

const workerCommand = embedded.ServeArgument

// runWorker says that a release carries its worker as a program of its own.
func runWorker([]string) int {
	_, _ = fmt.Fprintln(os.Stderr, "gardu: the token worker of a release is started by gardu itself; to use the token, run 'gardu keys'")
	return exitUsage
}

// workerIdentity names the worker that this program carries by the start of its
// SHA-256, as in SHA256SUMS of the release.
func workerIdentity() string { return "sha256:" + embedded.Sum()[:16] }

// workerLauncher starts the worker that this program carries, from dir where it
// cannot be started from memory.
func (s *settings) workerLauncher(dir string, log *slog.Logger) (func() (*exec.Cmd, error), error) {
	l, err := embedded.New(embedded.Options{
		Dir: dir, Helper: s.Token.HelperPath, TrustHelper: s.Token.TrustModulePath, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return l.Command, nil
}
