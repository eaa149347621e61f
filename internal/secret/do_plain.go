//go:build !goexperiment.runtimesecret

package secret

// Erasing reports whether this program was built so that Do erases what it leaves:
// with GOEXPERIMENT=runtimesecret.
const Erasing = false

// Do calls f. Copies of a secret on the stack and in registers stay until they are
// overwritten; buffers are cleared by who made them, in every build.
func Do(f func()) { f() }
