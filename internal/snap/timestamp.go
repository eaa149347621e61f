package snap

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"
)

// jakarta is the fixed +07:00 of every SNAP timestamp, whatever zone the machine
// is set to. Not a time zone by name: a kiosk may have no zone database.
var jakarta = time.FixedZone("WIB", 7*60*60)

// stampLayout is X-TIMESTAMP (SNAP standard, Keamanan 1.0.2): no milliseconds, an
// offset and never "Z".
const stampLayout = "2006-01-02T15:04:05-07:00"

// clock is the machine's clock with the correction learned from a provider.
type clock struct {
	now       func() time.Time
	tolerance time.Duration
	bound     time.Duration
	log       *slog.Logger
	offset    atomic.Int64 // nanoseconds to add to the machine's time
}

func (c *clock) time() time.Time { return c.now().Add(time.Duration(c.offset.Load())) }

func (c *clock) stamp() string { return c.time().In(jakarta).Format(stampLayout) }

// learn compares the time in an answer with ours and, where ours is off by more
// than the tolerance, corrects it and reports true. signed is the timestamp the
// refused call carried. A correction beyond the bound is not believed.
func (c *clock) learn(h http.Header, signed string) bool {
	theirs, ok := answerTime(h, signed)
	if !ok {
		return false
	}
	if off := theirs.Sub(c.time()); off.Abs() <= c.tolerance {
		return false
	}
	offset := theirs.Sub(c.now())
	if offset.Abs() > c.bound {
		c.log.Error("provider's clock is too far from ours to be believed; set this machine's date and time", "difference", offset.Round(time.Second))
		return false
	}
	c.offset.Store(int64(offset))
	c.log.Warn("clock offset learned from the provider; check this machine's time service", "offset", offset.Round(time.Second))
	return true
}

// answerTime reads the provider's time. An X-TIMESTAMP that only repeats ours
// tells nothing, so Date counts then.
func answerTime(h http.Header, signed string) (time.Time, bool) {
	if s := h.Get("X-Timestamp"); s != "" && s != signed {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t, true
		}
	}
	t, err := http.ParseTime(h.Get("Date"))
	return t, err == nil
}
