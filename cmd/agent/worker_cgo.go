//go:build cgo && !embedworker

package main

import (
	"log/slog"
	"os/exec"

	"gardu/internal/keystore/worker"
)

const workerCommand = worker.Argument

// runWorker makes this process the token worker: a program built with cgo is its
// own worker.
func runWorker([]string) int { return worker.Main() }

// workerIdentity names the worker for gardu version.
func workerIdentity() string { return "self" }

// workerLauncher is none: the keystore then starts this program itself.
func (*settings) workerLauncher(*slog.Logger) func() (*exec.Cmd, error) { return nil }
