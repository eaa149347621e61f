package keystore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// walk has a pace choose for n requests, each of which costs what its way costs,
// and returns how many went each way.
func (p *pace) walk(n int, cost func(i, way int) time.Duration) (gone [2]int) {
	for i := range n {
		together := p.together()
		gone[wayOf(together)]++
		p.took(together, cost(i, wayOf(together)))
	}
	return gone
}

func TestRequestsGoTheWayThatCostsLess(t *testing.T) {
	const n = 100_000
	fixed := func(apart, together time.Duration) func(int, int) time.Duration {
		return func(_, way int) time.Duration { return [...]time.Duration{apart, together}[way] }
	}
	var p pace
	gone := p.walk(n, fixed(60*time.Microsecond, 30*time.Microsecond))
	require.Less(t, gone[0], n/100, "an idle processor: together from the first try on")

	p = pace{}
	gone = p.walk(n, fixed(30*time.Microsecond, 3*time.Millisecond))
	require.Less(t, gone[1], 20, "a processor that is taken: hardly a try costs more than its first request")
	require.Positive(t, gone[1])

	// The machine changes, and the pace with it.
	gone = p.walk(n, fixed(60*time.Microsecond, 30*time.Microsecond))
	require.Greater(t, gone[1], n*8/10)
	gone = p.walk(n, fixed(30*time.Microsecond, 90*time.Microsecond))
	require.Greater(t, gone[0], n*9/10)

	// A single request that takes a thousand times as long, whatever its way.
	p = pace{}
	gone = p.walk(n, func(i, way int) time.Duration {
		if i%1000 == 999 {
			return 30 * time.Millisecond
		}
		return fixed(60*time.Microsecond, 30*time.Microsecond)(i, way)
	})
	require.Greater(t, gone[1], n*8/10)
}
