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
			require.Equal(t, tc.want != 0, c.learn(tc.h, signed))
			require.Equal(t, stamp(tc.want), c.stamp())
			require.False(t, c.learn(tc.h, signed), "the same answer teaches nothing twice")
		})
	}
}
