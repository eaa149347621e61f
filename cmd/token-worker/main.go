// Command token-worker is the process that loads the token's PKCS#11 module, as a
// program of its own. A release of gardu carries it inside and starts it (package
// internal/keystore/embedded); it is of no use by hand.
package main

import (
	"fmt"
	"os"

	"gardu/internal/keystore/worker"
)

func main() {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case worker.Argument:
			os.Exit(worker.Main())
		case "probe": // embedded.ProbeArgument: to have come here is the answer
			return
		}
	}
	_, _ = fmt.Fprintln(os.Stderr, "token-worker: gardu starts this program itself; to use the token, run 'gardu keys'")
	os.Exit(2)
}
