package txn

import (
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Reading is one look at the machine's clocks. A record carries the one of its
// last writing, and its other times are by that one's wall clock: what they are
// worth now follows from how long ago it was, and not from what the wall clock
// says by now.
type Reading struct {
	Wall time.Time     `json:"wall"` // the wall clock; anybody may have set it
	Boot string        `json:"boot"` // which run of the kernel (boot_id)
	Up   time.Duration `json:"up"`   // how long that ran, time asleep included (CLOCK_BOOTTIME)
	Kept bool          `json:"kept"` // the wall clock is right, by a provider's or the kernel's word (adjtimex)
}

// MachineClock returns what reads the clocks of this machine.
func MachineClock() func() Reading {
	boot := rand.Text() // where the kernel does not say, every start counts as another boot
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		boot = strings.TrimSpace(string(b))
	}
	var kept atomic.Pointer[keptAt]
	return func() Reading {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for no kernel since 2.6.39
		up := time.Duration(ts.Nano())
		wall := time.Now().Round(0)
		k := kept.Load()
		if k.over(wall, up) {
			k = &keptAt{wall, up, synchronised()}
			kept.Store(k)
		}
		return Reading{Wall: wall, Boot: boot, Up: up, Kept: k.kept}
	}
}

// keptAt is what the kernel said of the wall clock, and when. Asking costs more
// than the clocks themselves, which are read several times for each transition.
type keptAt struct {
	wall time.Time
	up   time.Duration
	kept bool
}

const keptEvery = time.Second

// over reports whether the kernel is to be asked anew: after a while, and at once
// where somebody has set the wall clock since, of which the kernel thinks less.
func (k *keptAt) over(wall time.Time, up time.Duration) bool {
	if k == nil || up-k.up >= keptEvery {
		return true
	}
	return (wall.Sub(k.wall) - (up - k.up)).Abs() > slack/4
}

// synchronised asks the kernel whether a time service keeps the wall clock
// (adjtimex(2)): TIME_ERROR and STA_UNSYNC say that none does. A service that may
// not touch the clock may not ask either (ProtectClock in gardu.service); there the
// word of systemd's time service counts, which makes a file when it has set the
// clock since this boot (systemd-timesyncd(8)).
func synchronised() bool {
	var x unix.Timex
	state, err := unix.Adjtimex(&x)
	if errors.Is(err, unix.EPERM) {
		_, err = os.Stat("/run/systemd/timesync/synchronized")
		return err == nil
	}
	return err == nil && state != unix.TIME_ERROR && x.Status&unix.STA_UNSYNC == 0
}

// since is how long ago a reading was taken. Within one boot that is certain.
// Over a reboot it is where the wall clock was right both times; else it is at
// least as long as the machine has been up, and sure is false.
func (now Reading) since(then Reading) (d time.Duration, sure bool) {
	switch {
	case then.Wall.IsZero():
		return 0, true // never stamped: its times are by the present wall clock
	case then.Boot == now.Boot:
		return max(0, now.Up-then.Up), true
	case then.Kept && now.Kept && !now.Wall.Before(then.Wall):
		return max(now.Wall.Sub(then.Wall), now.Up), true
	}
	return now.Up, false
}

// clock is the engine's time. Its own axis begins at the wall clock and runs with
// the boot clock: nothing moves it, so what is compared on it stays in order.
type clock struct {
	read  func() Reading
	start Reading

	mu    sync.Mutex // guards what follows
	told  time.Time  // a provider's time,
	asOf  Reading    // when it said so
	warns bool       // the difference has been logged
}

func newClock(read func() Reading) *clock {
	c := &clock{read: read}
	c.start = read()
	return c
}

// clockTolerance is how far a provider's time, which has whole seconds and comes
// with a delay, and ours may be apart.
const clockTolerance = 2 * time.Minute

// look reads the clocks. A provider's word on the time goes before the kernel's.
func (c *clock) look() Reading {
	r := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.told.IsZero() && c.asOf.Boot == r.Boot {
		r.Kept = r.Wall.Sub(c.told.Add(r.Up-c.asOf.Up)).Abs() <= clockTolerance
	}
	return r
}

// hear takes a provider's time and returns by how much the wall clock is off,
// where that is too much and was not returned before.
func (c *clock) hear(t time.Time) (off time.Duration, news bool) {
	r := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told, c.asOf = t, r
	off = r.Wall.Sub(t)
	wrong := off.Abs() > clockTolerance
	news = wrong && !c.warns
	c.warns = wrong
	return off, news
}

// now is the present on the engine's own axis.
func (c *clock) now() time.Time { return c.steady(c.read()) }

func (c *clock) steady(r Reading) time.Time { return c.start.Wall.Add(r.Up - c.start.Up) }

// shown puts a moment of the engine's axis on the wall clock, for people.
func (c *clock) shown(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	r := c.read()
	return r.Wall.Add(t.Sub(c.steady(r)))
}

// moment is the present as one record sees it.
type moment struct {
	Reading
	steady time.Time // on the engine's axis
	now    time.Time // by the record's own wall clock
	sure   bool      // false: more time may have passed than that
}

func (c *clock) at(r *Request) moment { return c.when(c.look(), r) }

// when is at for clocks that were read before.
func (c *clock) when(look Reading, r *Request) moment {
	m := moment{Reading: look}
	m.steady = c.steady(m.Reading)
	d, sure := m.since(r.At)
	m.now, m.sure = r.At.Wall.Add(d), sure
	if r.At.Wall.IsZero() {
		m.now = m.Wall
	}
	return m
}

// on puts one of the record's times on the engine's axis.
func (m *moment) on(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return m.steady.Add(t.Sub(m.now))
}

// plausible is how long a machine may have been off by the word of a wall clock
// that nobody keeps.
const plausible = 30 * 24 * time.Hour

// likely is the present by the record's wall clock where acting early does little
// harm: over a reboot the wall clock is then believed if what it says is plausible.
// Else a machine that is switched off every night would keep its records for ever.
func (m *moment) likely(r *Request) time.Time {
	if off := m.Wall.Sub(r.At.Wall); !m.sure && m.Wall.After(m.now) && off < plausible {
		return m.Wall
	}
	return m.now
}

// slack is how far a record's wall clock may be from the present one before its
// times are moved: clocks that are kept are slewed by a little all the time.
const slack = time.Second

// stamp makes the record's times be by the present wall clock. A request that
// waits to be sent while its age is not sure is never written as such, so nothing
// gets younger by it; of others it is noted.
func (c *clock) stamp(r *Request) {
	m := c.at(r)
	r.Undated = r.Undated || !m.sure
	shift := m.Wall.Sub(m.now)
	r.At = m.Reading
	if shift.Abs() < slack {
		r.At.Wall = m.now
		return
	}
	r.shift(shift)
}

// shift moves all times of a record.
func (r *Request) shift(d time.Duration) {
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Add(d)
		}
	}
	for _, t := range []*time.Time{&r.Created, &r.Expires, &r.AwaitTill, &r.NotBefore, &r.DoubtFrom, &r.Closed, &r.Cooldown} {
		move(t)
	}
	for i := range r.Attempts {
		move(&r.Attempts[i].Began)
		move(&r.Attempts[i].Ended)
	}
}
