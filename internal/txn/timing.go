package txn

import (
	"math/rand/v2"
	"time"
)

// Timing is how patient the engine is. Zero fields take the defaults.
type Timing struct {
	RetryBase   time.Duration // first wait after a failure to send; doubles, with full jitter
	RetryMax    time.Duration // and never longer than this
	RetryAfter  time.Duration // a provider's Retry-After is honoured up to this
	Hold        time.Duration // how long a held provider is left alone
	ReadBase    time.Duration // first wait before a read-back of a doubt; doubles, with full jitter
	ReadMax     time.Duration //
	Call        time.Duration // one call to a provider, from the first byte to the last
	Probe       time.Duration // a link without traffic is looked at this often
	Drain       time.Duration // how long calls under way may finish when the engine stops
	Retain      time.Duration // finished requests are kept this long
	Unresolved  time.Duration // what nobody resolved is kept this long
	LinkStagger time.Duration // when a link returns, each kiosk waits a random part of this
}

func (t Timing) withDefaults() Timing {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.RetryBase, time.Second)
	def(&t.RetryMax, time.Minute)
	def(&t.RetryAfter, 10*time.Minute)
	def(&t.Hold, 15*time.Minute)
	def(&t.ReadBase, 5*time.Second)
	def(&t.ReadMax, time.Minute)
	def(&t.Call, 30*time.Second)
	def(&t.Probe, time.Minute)
	def(&t.Drain, 10*time.Second)
	def(&t.Retain, 48*time.Hour)
	def(&t.Unresolved, 90*24*time.Hour)
	return t
}

// backoff is full jitter: anything from almost nothing to base doubled n times.
// Kiosks that lost the same link at the same moment must not come back together.
func backoff(base, limit time.Duration, n int) time.Duration {
	d := limit
	if n < 30 && base<<n < limit {
		d = base << n
	}
	return base/8 + time.Duration(rand.Int64N(int64(d))) //nolint:gosec // jitter, nobody's secret
}

// patience is how long to wait after an answer: as long as it asks for, within
// bounds, else with backoff. A provider that asks for no wait at all is given one,
// since it would be asked again in a tight loop.
func patience(a Answer, t Timing, n int) time.Duration {
	if a.RetryAfter <= 0 {
		return backoff(t.RetryBase, t.RetryMax, n)
	}
	return max(min(a.RetryAfter, t.RetryAfter), t.RetryBase)
}
