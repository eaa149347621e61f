//go:build embedworker

package embedded

import _ "embed" // for the line below

// carried is the program built from cmd/token-worker, compressed. The release build
// lays it beside this file by an overlay, so the tree itself never holds it.
//
//go:embed token-worker.gz
var carried string
