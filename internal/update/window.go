package update

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a time in which a release may be installed: "01:00-04:30", or with
// days "sat,sun 22:00-06:00". One that ends before it begins ends on the next day.
type Window struct {
	days     []time.Weekday // on which it begins; none: every day
	from, to int            // minutes of the day
	text     string
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads a window.
func ParseWindow(s string) (Window, error) {
	w := Window{text: s}
	bad := func(what string) (Window, error) {
		return Window{}, fmt.Errorf("window %q: %s; write for example \"01:00-04:30\" or \"sat,sun 22:00-06:00\"", s, what)
	}
	f := strings.Fields(strings.ToLower(s))
	if len(f) == 2 {
		for _, part := range strings.Split(f[0], ",") {
			first, last, span := strings.Cut(part, "-")
			a, b := slices.Index(dayNames, first), slices.Index(dayNames, last)
			if a < 0 || span && b < 0 {
				return bad("days are mon, tue, wed, thu, fri, sat, sun")
			}
			if !span {
				b = a
			}
			for d := a; ; d = (d + 1) % 7 {
				w.days = append(w.days, time.Weekday(d))
				if d == b {
					break
				}
			}
		}
		f = f[1:]
	}
	if len(f) != 1 {
		return bad("it is not one span of time")
	}
	from, to, _ := strings.Cut(f[0], "-")
	var err error
	if w.from, err = minutes(from); err != nil {
		return bad(err.Error())
	}
	if w.to, err = minutes(to); err != nil {
		return bad(err.Error())
	}
	if w.from == w.to {
		return bad("it has no length")
	}
	return w, nil
}

func minutes(s string) (int, error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time of day", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// open reports whether t, in the kiosk's zone, is inside.
func (w Window) open(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	today, yesterday := w.on(t.Weekday()), w.on((t.Weekday()+6)%7)
	if w.from < w.to {
		return today && m >= w.from && m < w.to
	}
	return today && m >= w.from || yesterday && m < w.to
}

func (w Window) on(d time.Weekday) bool { return len(w.days) == 0 || slices.Contains(w.days, d) }

// String is the window as it was written.
func (w Window) String() string { return w.text }

// inWindow reports whether one of the windows is open; none at all means always.
func inWindow(ws []Window, t time.Time) bool {
	return len(ws) == 0 || slices.ContainsFunc(ws, func(w Window) bool { return w.open(t) })
}
