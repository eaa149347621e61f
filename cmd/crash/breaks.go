package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gardu/cmd/crash/booth"
	"gardu/cmd/crash/disk"
)

// easy is a short life that ends at a random moment.
func easy(*round, int) manner {
	return manner{ask: 60, least: 0, most: 300 * time.Millisecond, early: true}
}

func flapping(r *round, _ int) manner {
	return manner{ask: 60, least: 50 * time.Millisecond, most: 400 * time.Millisecond, while: r.flapping}
}

// points are system calls between which a journal, an audit record or a request on
// its way can be cut in two.
var points = []struct {
	call string
	most int // its nth entry in a thread, from 1
}{
	{"pwrite64", 24}, {"fdatasync", 10}, {"write", 60}, {"renameat", 3}, {"unlinkat", 6}, {"read", 80}, {"fsync", 2}, {"openat", 20},
}

func strace(rule string) []string {
	// -D: the booth stays our own child, and strace watches it from aside.
	return []string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=" + rule}
}

func atPoint(r *round, _ int) manner {
	p := points[r.dice.IntN(len(points))]
	return manner{
		wrap: strace(p.call + ":signal=SIGKILL:when=" + strconv.Itoa(1+r.dice.IntN(p.most))),
		ask:  100, least: 1500 * time.Millisecond, most: 1500 * time.Millisecond, point: true,
	}
}

func failing(r *round, _ int) manner {
	// fdatasync is the journal's, fsync that of folders, the witness and the audit record.
	call, first := []string{"fdatasync", "fdatasync", "pwrite64", "fsync"}[r.dice.IntN(4)], 3+r.dice.IntN(30)
	if call == "fsync" {
		first = 1 + r.dice.IntN(3) // there are few
	}
	return manner{
		wrap: strace(fmt.Sprintf("%s:error=EIO:when=%d+%d", call, first, 2+r.dice.IntN(30))),
		ask:  40, least: 300 * time.Millisecond, most: 2 * time.Second, mayNotStart: true,
	}
}

// kills makes a round of lives that end by a kill.
func kills(w weather, how func(*round, int) manner) func(context.Context, *ground, int, *tally) error {
	return func(ctx context.Context, g *ground, trials int, t *tally) error {
		return g.onPlainDisk(ctx, t, func(r *round) error {
			for i := range trials {
				if err := errors.Join(g.up.Clear(ctx), w(ctx, r)); err != nil {
					return err
				}
				m := how(r, i)
				hit, err := r.live(ctx, m)
				if err != nil {
					return err
				}
				t.Trials++
				if m.point && !hit {
					t.Missed++
				}
			}
			return nil
		})
	}
}

// onPlainDisk lets fn break what it likes on an ordinary file system.
func (g *ground) onPlainDisk(ctx context.Context, t *tally, fn func(*round) error) error {
	r, err := g.newRound(g.journal())
	if err != nil {
		return err
	}
	if err := fn(r); err != nil {
		return err
	}
	if err := errors.Join(r.settle(ctx), r.verdict(ctx, t)); err != nil {
		return err
	}
	return r.clear(ctx, t)
}

// drains lets a backlog grow while the platforms are away and asks on while it
// drains, some of it for customers who have asked before.
func drains(ctx context.Context, g *ground, trials int, t *tally) error {
	return g.onPlainDisk(ctx, t, func(r *round) error {
		for i := range trials {
			if err := errors.Join(g.up.Clear(ctx), away(ctx, r)); err != nil {
				return err
			}
			m := manner{ask: 30, twice: true, least: 30 * time.Millisecond, most: 250 * time.Millisecond}
			if i%2 == 1 {
				m.least, m.most = 200*time.Millisecond, 700*time.Millisecond
				m.while = func(ctx context.Context) {
					sleep(ctx, r.dice.between(0, 100*time.Millisecond))
					_ = g.up.Clear(context.WithoutCancel(ctx))
				}
			}
			if _, err := r.live(ctx, m); err != nil {
				return err
			}
			t.Trials++
		}
		return nil
	})
}

// operated lets operators cancel, ask and retry, whatever is there, while a backlog
// grows and drains.
func operated(ctx context.Context, g *ground, trials int, t *tally) error {
	return g.onPlainDisk(ctx, t, func(r *round) error {
		for range trials {
			if err := errors.Join(g.up.Clear(ctx), away(ctx, r)); err != nil {
				return err
			}
			m := manner{ask: 30, twice: true, least: 150 * time.Millisecond, most: 600 * time.Millisecond}
			m.while = func(ctx context.Context) {
				sleep(ctx, r.dice.between(0, 200*time.Millisecond))
				_ = g.up.Clear(context.WithoutCancel(ctx))
			}
			m.hands = r.operators
			if _, err := r.live(ctx, m); err != nil {
				return err
			}
			t.Trials++
		}
		return nil
	})
}

// operators do something to one request after the other.
func (r *round) operators(ctx context.Context, l *life) {
	acts := []string{"cancel", "cancel", "inquire", "retry"}
	for ctx.Err() == nil {
		open := r.book.pick(func(q *request) bool { return q.ID != "" && !ended(q.State) })
		if len(open) > 0 {
			q := open[r.dice.IntN(len(open))]
			if l.send(booth.Command{Do: booth.DoAct, ID: q.ID, Act: acts[r.dice.IntN(len(acts))]}) != nil {
				return
			}
		}
		sleep(ctx, r.dice.between(0, 20*time.Millisecond))
	}
}

// clocked sets the wall clock to 1970, 2040 and back while nothing runs and in the
// middle of a life.
func clocked(ctx context.Context, g *ground, trials int, t *tally) (err error) {
	r, err := g.newRound(g.journal())
	if err != nil {
		return err
	}
	r.wrongClock = true
	jump := func() error {
		to := []time.Time{time.Now(), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
		return g.setClock(time.Until(to[r.dice.IntN(len(to))]).Round(time.Second))
	}
	defer func() { err = errors.Join(err, g.setClock(0)) }()
	for range trials {
		if err := errors.Join(g.up.Clear(ctx), mixed(ctx, r), jump()); err != nil {
			return err
		}
		m := manner{ask: 30, twice: true, least: 50 * time.Millisecond, most: 500 * time.Millisecond}
		var stuck error
		m.while = func(ctx context.Context) {
			for ctx.Err() == nil && stuck == nil {
				sleep(ctx, r.dice.between(10*time.Millisecond, 150*time.Millisecond))
				stuck = jump()
			}
		}
		if _, err := r.live(ctx, m); errors.Join(err, stuck) != nil {
			return errors.Join(err, stuck)
		}
		t.Trials++
	}
	if err := errors.Join(jump(), r.settle(ctx)); err != nil {
		return err
	}
	r.book.forEach(func(q *request) {
		if q.Reason == tooOld {
			q.fault("called too old after seconds")
		}
	})
	return errors.Join(r.verdict(ctx, t), r.clear(ctx, t))
}

// tooOld is the reason of what waited longer than it may.
const tooOld = "waited_too_long"

// fulls lets others fill the journal's disk and free it again.
func fulls(ctx context.Context, g *ground, trials int, t *tally) (err error) {
	d, err := disk.NewSmall(filepath.Join(g.dir, "small"), 6<<20)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	r, err := g.newRound(filepath.Join(g.dir, "small", "journal"))
	if err != nil {
		return err
	}
	for range trials {
		if err := errors.Join(g.up.Clear(ctx), mixed(ctx, r)); err != nil {
			return err
		}
		m := manner{ask: 60, least: 200 * time.Millisecond, most: 800 * time.Millisecond, early: true}
		m.while = func(ctx context.Context) {
			for ctx.Err() == nil {
				sleep(ctx, r.dice.between(0, 150*time.Millisecond))
				_ = d.Fill()
				sleep(ctx, r.dice.between(50*time.Millisecond, 300*time.Millisecond))
				if r.dice.oneIn(2) {
					_ = d.Free()
				}
			}
		}
		_, err := r.live(ctx, m)
		if err := errors.Join(err, d.Free()); err != nil {
			return err
		}
		t.Trials++
	}
	if err := errors.Join(r.settle(ctx), r.verdict(ctx, t)); err != nil {
		return err
	}
	return r.clear(ctx, t)
}

// opener makes a disk whose power can be cut.
type opener func(dir string, d *dice) (disk.Power, error)

func ext4(dir string, _ *dice) (disk.Power, error) { return disk.NewExt4(dir) }

func volatile(dir string, d *dice) (disk.Power, error) { return disk.NewVolatile(dir, d.IntN) }

// onPower lets fn break what it likes on a disk that is mounted where the journals
// are, and then looks for secrets in what the disk holds, files or not.
func (g *ground) onPower(open opener, t *tally, fn func(disk.Power) (*round, error)) (err error) {
	dir := g.diskDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the disk's folder: %w", err)
	}
	defer func() {
		if t.failed() {
			kept := fmt.Sprintf("%s-kept-%d", dir, g.n)
			t.detail("kept: %s", kept)
			err = errors.Join(err, os.Rename(dir, kept))
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	d, err := open(dir, newDice(g.seed+uint64(g.n)<<16)) //nolint:gosec // G115: a count
	if err != nil {
		return err
	}
	r, err := fn(d)
	if err := errors.Join(err, d.Close()); err != nil {
		return err
	}
	r.secretsIn(t, 1, d.Image())
	return nil
}

// cuts takes the power away from under the booths. On a sick disk it takes no
// writes now and then before that.
func cuts(open opener, sick bool) func(context.Context, *ground, int, *tally) error {
	return func(ctx context.Context, g *ground, trials int, t *tally) error {
		return g.onPower(open, t, func(d disk.Power) (*round, error) {
			r, err := g.newRound(g.journal())
			if err != nil {
				return nil, err
			}
			for range trials {
				if err := errors.Join(g.up.Clear(ctx), mixed(ctx, r)); err != nil {
					return nil, err
				}
				var cut error
				m := manner{ask: 60, twice: true, least: 20 * time.Millisecond, most: 400 * time.Millisecond}
				if v, ok := d.(*disk.Volatile); ok && sick {
					m.least, m.most = 200*time.Millisecond, time.Second
					m.while = func(ctx context.Context) { r.sicken(ctx, v) }
				}
				m.end = func(l *life) {
					cut = d.Cut()
					l.kill()
				}
				_, err := r.live(ctx, m)
				if err := errors.Join(err, cut, d.Restore(), emptyKeys(r.keyDir)); err != nil {
					return nil, err
				}
				t.Trials++
				t.Cuts++
			}
			return r, errors.Join(r.settle(ctx), r.verdict(ctx, t), g.up.Reset(ctx), os.RemoveAll(r.keyDir))
		})
	}
}

// sicken lets the disk fail for moments.
func (r *round) sicken(ctx context.Context, d *disk.Volatile) {
	for ctx.Err() == nil {
		sleep(ctx, r.dice.between(10*time.Millisecond, 150*time.Millisecond))
		d.Fail(true)
		sleep(ctx, r.dice.between(time.Millisecond, 40*time.Millisecond))
		d.Fail(false)
	}
}
