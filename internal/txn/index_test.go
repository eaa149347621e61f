package txn

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// An hour of requests may be many where the limits are wide. Each that leaves the
// window as another enters must cost the same, however many are in it.
func TestTheWindowOfLimitsIsNotQuadratic(t *testing.T) {
	const n = 60_000
	x := newIndex()
	now := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	began := cpuTime(t)
	for i := range 3 * n {
		now = now.Add(limitWindow / n)
		ofCustomer, ofKiosk := x.count(strconv.Itoa(i%n), now)
		if ofKiosk > n || ofCustomer > 1 {
			require.Fail(t, "the window keeps too much", "%d %d", ofKiosk, ofCustomer)
		}
		x.accepted(strconv.Itoa(i%n), now)
	}
	_, ofKiosk := x.count("", now)
	require.Equal(t, n, ofKiosk)
	require.Less(t, cpuTime(t)-began, 5*time.Second, "moving the whole window at each request takes many times that")
	require.LessOrEqual(t, cap(x.recent), 8*n)
	x.count("", now.Add(limitWindow))
	require.Empty(t, x.counts)
}

// cpuTime is what this process has used; other programs on the machine do not count.
func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestTheNewestOfACustomerIsTakenBack(t *testing.T) {
	x := newIndex()
	at := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	x.accepted("a", at)
	x.accepted("b", at.Add(time.Minute))
	x.accepted("a", at.Add(2*time.Minute))
	x.unaccept("a")
	a, all := x.count("a", at.Add(3*time.Minute))
	require.Equal(t, 1, a)
	require.Equal(t, 2, all)
	require.Equal(t, at.Add(limitWindow), x.freeAt("a", at))
	require.Equal(t, at.Add(time.Minute+limitWindow), x.freeAt("b", at))
}
