//go:build cgo && !embedworker

package main

import (
	"log/slog"
	"os/exec"
	"syscall"

	"gardu/internal/keystore/worker"
)

const workerCommand = worker.Argument

// runWorker makes this process the token worker: a program built with cgo is its
// own worker.
func runWorker([]string) int { return worker.Main() }

// workerIdentity names the worker for gardu version.
func workerIdentity() string { return "self" }

// workerLauncher is none where the worker is to run as this user: the keystore then
// starts this program itself.
func (s *settings) workerLauncher(*slog.Logger) func() (*exec.Cmd, error) {
	if s.worker == nil {
		return nil
	}
	return func() (*exec.Cmd, error) {
		c := exec.Command("/proc/self/exe", workerCommand) //nolint:noctx // the worker outlives the call that needs it first
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.worker}
		return c, nil
	}
}
