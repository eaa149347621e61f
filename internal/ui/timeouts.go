package ui

import "time"

// Timeouts are all time limits of the screen. Zero fields take the defaults; the
// limits of the screens come from the table. Only tests have a reason to change them.
type Timeouts struct {
	Screens    map[State]time.Duration // in place of Screen.Limit
	StillThere time.Duration           // how long the question stays (20 s)
	Cap        time.Duration           // a screen with a question stays no longer than this, whatever is touched (5 min)
	Asks       int                     // how often the question is asked in one session (10)
	ScreenLost time.Duration           // a session whose screen is not connected ends after this (30 s)
	Call       time.Duration           // one call to the engine or the staff verifier (15 s)
	StoreAgain time.Duration           // first pause before asking a journal again that did not know; doubles (250 ms)
	Hello      time.Duration           // a connection's first frame (2 s)
	Tick       time.Duration           // (5 s)
	Ping       time.Duration           // (5 s)
	Pong       time.Duration           // (15 s)
	Write      time.Duration           // one frame (3 s)
	Close      time.Duration           // the other side's closing frame (1 s)
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.StillThere, 20*time.Second)
	def(&t.Cap, 5*time.Minute)
	def(&t.ScreenLost, 30*time.Second)
	def(&t.Call, 15*time.Second)
	def(&t.StoreAgain, 250*time.Millisecond)
	def(&t.Hello, 2*time.Second)
	def(&t.Tick, 5*time.Second)
	def(&t.Ping, 5*time.Second)
	def(&t.Pong, 15*time.Second)
	def(&t.Write, 3*time.Second)
	def(&t.Close, time.Second)
	if t.Asks <= 0 {
		t.Asks = 10
	}
	return t
}

// limit is how long a screen stays without activity.
func (t *Timeouts) limit(s State) time.Duration {
	if d, ok := t.Screens[s]; ok {
		return d
	}
	return screenTable[s].Limit
}

// agentClock is the time of the protocol: milliseconds that start at the wall
// clock and then run with the monotonic one, so that a clock that is set does not
// move a countdown.
type agentClock struct{ start time.Time }

func (c agentClock) now() int64 {
	return c.start.UnixMilli() + time.Since(c.start).Milliseconds()
}

// at puts a wall-clock deadline on the protocol's time. The difference of the two
// clocks is taken in whole seconds, so that the same deadline stays the same number.
func (c agentClock) at(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	drift := c.now() - time.Now().UnixMilli()
	drift = (drift + 500*sign(drift)) / 1000 * 1000
	return t.UnixMilli() + drift
}

func sign(n int64) int64 {
	if n < 0 {
		return -1
	}
	return 1
}
