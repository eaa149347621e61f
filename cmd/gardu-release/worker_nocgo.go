//go:build !cgo

package main

import (
	"fmt"
	"os"
)

const workerCommand = "token-worker"

// runWorker says that a program built without cgo cannot load a PKCS#11 module.
func runWorker() int {
	_, _ = fmt.Fprintln(os.Stderr, "gardu-release: this build cannot load a PKCS#11 module; build it with CGO_ENABLED=1")
	return exitFailed
}
