//go:build !embedworker

package embedded

// carried is empty: this program was not built as a release.
var carried = ""
