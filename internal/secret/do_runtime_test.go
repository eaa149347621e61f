//go:build goexperiment.runtimesecret

package secret_test

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
)

// TestDoLeavesNothingOnTheStack has f keep a secret in a local array, and looks at
// the deep end of the place where that array was, which nothing since has reached.
func TestDoLeavesNothingOnTheStack(t *testing.T) {
	require.True(t, secret.Erasing)
	var at uintptr
	onStack := func() {
		var local [8192]byte
		for i := range local {
			local[i] = byte(0xA5 ^ i)
		}
		at = uintptr(unsafe.Pointer(&local[0])) //nolint:gosec // G103: the stack itself is looked at
		runtime.KeepAlive(&local)
	}
	left := func() (same int) {
		for i, b := range bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(at)), 1024)) { //nolint:govet,gosec // likewise
			if b == byte(0xA5^i) {
				same++
			}
		}
		return same
	}
	onStack()
	require.Greater(t, left(), 1000, "without Do it would be found there")
	secret.Do(onStack)
	require.Less(t, left(), 64, "what f had on its stack is still there")
}
