//go:build !cgo && !embedworker

package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
)

const workerCommand = "token-worker"

// runWorker says that a program built without cgo cannot load a PKCS#11 module.
func runWorker([]string) int {
	_, _ = fmt.Fprintln(os.Stderr, "gardu: this build cannot load a PKCS#11 module; build it with CGO_ENABLED=1, or take a release")
	return exitToken
}

// workerIdentity names the worker for gardu version.
func workerIdentity() string { return "none" }

// workerLauncher is none: the keystore then starts this program itself, which
// says what is wrong with it.
func (*settings) workerLauncher(*slog.Logger) func() (*exec.Cmd, error) { return nil }
