package snap

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStampIsAlwaysJakarta(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("x", -10*3600), jakarta} {
		c := &clock{now: func() time.Time { return time.Date(2026, 12, 31, 18, 4, 5, 999, time.UTC).In(zone) }}
		require.Equal(t, "2027-01-01T01:04:05+07:00", c.stamp())
	}
}

func TestClockLearns(t *testing.T) {
	now := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	stamp := func(d time.Duration) string { return now.Add(d).In(jakarta).Format(stampLayout) }
	signed := stamp(0)
	for _, tc := range []struct {
		name string
		h    http.Header
		want time.Duration
	}{
		{"nothing to learn from", http.Header{}, 0},
		{"in step", http.Header{"Date": {at(30 * time.Second)}}, 0},
		{"ahead", http.Header{"Date": {at(-2 * time.Hour)}}, -2 * time.Hour},
		{"behind", http.Header{"Date": {at(5 * time.Minute)}}, 5 * time.Minute},
		{"X-TIMESTAMP before Date", http.Header{"X-Timestamp": {stamp(time.Hour)}, "Date": {at(0)}}, time.Hour},
		{"X-TIMESTAMP with milliseconds", http.Header{"X-Timestamp": {"2026-11-20T11:00:00.000+07:00"}}, time.Hour},
		{"X-TIMESTAMP that repeats ours", http.Header{"X-Timestamp": {signed}, "Date": {at(time.Hour)}}, time.Hour},
		{"X-TIMESTAMP that is none", http.Header{"X-Timestamp": {"now"}, "Date": {at(time.Hour)}}, time.Hour},
		{"beyond the bound", http.Header{"Date": {at(25 * time.Hour)}}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &clock{now: func() time.Time { return now }, tolerance: time.Minute, bound: 24 * time.Hour, log: newLog(t)}
			corrected, alarm := c.learn(tc.h, signed)
			require.Equal(t, tc.want != 0, corrected)
			require.Equal(t, tc.name == "beyond the bound", alarm != "")
			require.Equal(t, stamp(tc.want), c.stamp())
			corrected, _ = c.learn(tc.h, signed)
			require.False(t, corrected, "the same answer teaches nothing twice")
		})
	}
}

// TestStampAtMidnight: the day of an external id ends at 17:00 UTC, and a stamp and
// the day that a provider counts are of the same clock.
func TestStampAtMidnight(t *testing.T) {
	for _, tc := range []struct{ utc, want string }{
		{"2026-03-31T16:59:59Z", "2026-03-31T23:59:59+07:00"},
		{"2026-03-31T17:00:00Z", "2026-04-01T00:00:00+07:00"},
		{"2028-02-28T17:00:00Z", "2028-02-29T00:00:00+07:00"},
		{"2026-12-31T17:00:00Z", "2027-01-01T00:00:00+07:00"},
	} {
		at, err := time.Parse(time.RFC3339, tc.utc)
		require.NoError(t, err)
		require.Equal(t, tc.want, (&clock{now: func() time.Time { return at }}).stamp())
	}
}

// TestClockIsTold: any answer tells the provider's time, and a correction that is
// needed no more is given up.
func TestClockIsTold(t *testing.T) {
	now := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	c := &clock{now: func() time.Time { return now }, tolerance: time.Minute, bound: 24 * time.Hour, log: newLog(t)}
	_, ok := c.Time()
	require.False(t, ok, "nothing was answered yet")
	date := func(d time.Duration) http.Header { return http.Header{"Date": {now.Add(d).Format(http.TimeFormat)}} }
	c.observe(http.Header{}, "")
	_, ok = c.Time()
	require.False(t, ok)

	c.observe(date(2*time.Hour), "")
	got, ok := c.Time()
	require.True(t, ok)
	require.Equal(t, now.Add(2*time.Hour), got.UTC())
	require.Equal(t, now, c.time(), "being told corrects nothing: nobody refused our time")
	now = now.Add(time.Minute)
	got, _ = c.Time()
	require.Equal(t, now.Add(2*time.Hour), got.UTC(), "and it goes on")

	corrected, _ := c.learn(date(2*time.Hour), "")
	require.True(t, corrected)
	require.Equal(t, now.Add(2*time.Hour), c.time())
	c.observe(date(2*time.Hour), "")
	require.Equal(t, now.Add(2*time.Hour), c.time(), "still needed")
	now = now.Add(2 * time.Hour) // somebody set the clock right
	c.observe(date(0), "")
	require.Equal(t, now, c.time())
	c.observe(date(0), "")
	require.Equal(t, now, c.time())
}
