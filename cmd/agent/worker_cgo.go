//go:build cgo

package main

import "gardu/internal/keystore/worker"

const workerCommand = worker.Argument

// runWorker makes this process the token worker: a program built with cgo is its
// own worker.
func runWorker([]string) int { return worker.Main() }
