//go:build goexperiment.runtimesecret

package secret

import "runtime/secret"

// Erasing reports whether this program was built so that Do erases what it leaves:
// with GOEXPERIMENT=runtimesecret.
const Erasing = true

// Do calls f and then erases the registers and the stack that it used, and its heap
// as soon as nothing refers to it any more. What f makes for others it must copy
// into memory that they made, else that is erased behind them when they drop it.
func Do(f func()) { secret.Do(f) }
