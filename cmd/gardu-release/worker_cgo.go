//go:build cgo

package main

import "gardu/internal/keystore/worker"

const workerCommand = worker.Argument

// runWorker makes this process the token worker.
func runWorker() int { return worker.Main() }
