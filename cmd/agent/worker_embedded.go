//go:build embedworker

package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

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

// workerLauncher starts the worker that this program carries.
func (s *settings) workerLauncher(log *slog.Logger) func() (*exec.Cmd, error) {
	return embedded.New(embedded.Options{
		Dir:    filepath.Dir(s.Admin.Socket), // the runtime directory
		Helper: s.Token.HelperPath, TrustHelper: s.Token.TrustModulePath, Log: log,
	}).Command
}
