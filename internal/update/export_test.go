package update

import (
	"context"
	"time"
)

// WithStep has a function called at each point where a power cut is worth trying.
func (o Options) WithStep(fn func(string)) Options { o.step = fn; return o }

// WithPoll makes everything that waits come sooner.
func (o Options) WithPoll(d time.Duration) Options { o.poll, o.pause = d, d; return o }

// WithStall shortens how long a silent host is listened to.
func (s *Source) WithStall(d time.Duration) *Source { s.stall = d; return s }

// Download is what Run does to fetch a target.
func Download(ctx context.Context, src *Source, t Target, dir string) (string, error) {
	return download(ctx, src, t, dir, time.Millisecond)
}

// List gives the targets of a state.
func (w *World) List() []Target { return w.list() }

// Choose gives what a kiosk is to install.
func (w *World) Choose(q Wish) Choice { return w.choose(q) }

// ApplyPatch makes a program out of another and a patch.
func ApplyPatch(old, patch string, t Target, dir string) (string, error) {
	return applyPatch(old, patch, t, dir)
}

// InWindow reports whether a time is inside one of the windows.
func InWindow(ws []Window, t time.Time) bool { return inWindow(ws, t) }

// Install puts a program into its slot.
func (p Paths) Install(v, program string, t Target) error { return p.install(v, program, t) }

// SwitchTo makes the link name a version.
func (p Paths) SwitchTo(v string) error { return p.switchTo(v) }

// Save writes the state.
func (s *State) Save(p Paths) error { return s.save(p) }
