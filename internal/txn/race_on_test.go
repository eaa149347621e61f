//go:build race

package txn_test

// raceDetector is whether this test binary has the race detector, which makes
// everything some ten times slower.
const raceDetector = true
