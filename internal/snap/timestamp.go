package snap

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// jakarta is the fixed +07:00 of every SNAP timestamp, whatever zone the machine
// is set to. Not a time zone by name: a kiosk may have no zone database.
var jakarta = time.FixedZone("WIB", 7*60*60)

// stampLayout is X-TIMESTAMP (SNAP standard, Keamanan 1.0.2): no milliseconds, an
// offset and never "Z".
const stampLayout = "2006-01-02T15:04:05-07:00"

// clock is the machine's clock with the correction learned from a provider. It is
// corrected only where the provider refuses our time: a gateway whose Date is wrong
// must not spoil what works.
type clock struct {
	now       func() time.Time
	tolerance time.Duration
	bound     time.Duration
	log       *slog.Logger

	mu     sync.Mutex    // guards what follows
	offset time.Duration // to add to the machine's time
	theirs time.Time     // the provider's time in its last answer; zero for none
	heard  time.Time     // and the machine's time when it came
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Add(c.offset)
}

func (c *clock) stamp() string { return c.time().In(jakarta).Format(stampLayout) }

// Time implements txn.Timekeeper, of the provider it is part of: the time of the
// last answer, and what has passed since.
func (c *clock) Time() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.theirs.Add(c.now().Sub(c.heard)), !c.theirs.IsZero()
}

// observe notes the time in any answer. A correction that is no longer needed,
// because the machine's clock was set right meanwhile, is given up.
func (c *clock) observe(h http.Header, signed string) {
	theirs, ok := answerTime(h, signed)
	if !ok {
		return
	}
	c.mu.Lock()
	now := c.now()
	c.theirs, c.heard = theirs, now
	right := theirs.Sub(now).Abs() <= c.tolerance
	wrong := theirs.Sub(now.Add(c.offset)).Abs() > c.tolerance
	over := c.offset != 0 && right && wrong
	if over {
		c.offset = 0
	}
	c.mu.Unlock()
	if over {
		c.log.Info("machine's clock agrees with the provider's again; the learned offset is dropped")
	}
}

// learn compares the time in an answer with ours and, where ours is off by more
// than the tolerance, corrects it and reports true. signed is the timestamp the
// refused call carried. A correction beyond the bound is not believed; alarm then
// says what to do.
func (c *clock) learn(h http.Header, signed string) (corrected bool, alarm string) {
	theirs, ok := answerTime(h, signed)
	if !ok {
		return false, ""
	}
	c.mu.Lock()
	now := c.now()
	offset := theirs.Sub(now)
	off := theirs.Sub(now.Add(c.offset)).Abs() > c.tolerance
	believed := offset.Abs() <= c.bound
	if off && believed {
		c.offset = offset
	}
	c.mu.Unlock()
	switch {
	case !off:
		return false, ""
	case !believed:
		return false, fmt.Sprintf("this machine's clock and the provider's are %s apart, too far to be believed; set this machine's date and time", offset.Abs().Round(time.Second))
	}
	c.log.Warn("clock offset learned from the provider; check this machine's time service", "offset", offset.Round(time.Second))
	return true, ""
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
