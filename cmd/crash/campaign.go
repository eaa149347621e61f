package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// plan is how many trials of which kind.
type plan struct {
	trials map[string]int
	lanes  int // rounds at a time
}

func shortPlan() plan {
	return plan{lanes: 2, trials: map[string]int{
		"kill": 40, "kill-slow": 15, "kill-silent": 15, "kill-lost": 15, "kill-flap": 15, "kill-drain": 20, "kill-operator": 15, "clock": 10,
		"kill-point": 40, "sync-error": 10, "disk-full": 8, "power": 10, "power-torn": 10, "power-sick": 6, "agent-kill": 10, "agent-power": 5,
	}}
}

func longPlan() plan {
	return plan{lanes: 2, trials: map[string]int{
		"kill": 500, "kill-slow": 200, "kill-silent": 200, "kill-lost": 200, "kill-flap": 200, "kill-drain": 200, "kill-operator": 150, "clock": 100,
		"kill-point": 400, "sync-error": 100, "disk-full": 75, "power": 120, "power-torn": 120, "power-sick": 80, "agent-kill": 150, "agent-power": 50,
	}}
}

func onePlan(name string, n int) (plan, error) {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	if !slices.Contains(names, name) {
		return plan{}, fmt.Errorf("there is no kind %q; there are %s", name, strings.Join(names, ", "))
	}
	return plan{lanes: 1, trials: map[string]int{name: n}}, nil
}

// job is one round to be made.
type job struct {
	kind   kind
	trials int
}

// campaign carries a plan out and prints the table.
func campaign(ctx context.Context, p plan) error {
	began := time.Now()
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails, see crypto/rand
	seed := binary.BigEndian.Uint64(raw[:])
	dir, err := os.MkdirTemp("", "gardu-crash-")
	if err != nil {
		return fmt.Errorf("make the campaign's folder: %w", err)
	}
	var jobs []job
	total := map[string]*tally{}
	for _, k := range kinds() {
		n := p.trials[k.name]
		if n == 0 {
			continue
		}
		t := &tally{Kind: k.name}
		total[k.name] = t
		if k.needs != nil {
			if err := k.needs(); err != nil {
				t.Skipped, t.Why = n, err.Error()
				fmt.Printf("%s: %d trials skipped: %v\n", k.name, n, err)
				continue
			}
		}
		for n > 0 {
			now := min(n, k.per)
			jobs = append(jobs, job{k, now})
			n -= now
		}
	}
	queue := make(chan job, len(jobs))
	for _, j := range byTurns(jobs) {
		queue <- j
	}
	close(queue)

	var mu sync.Mutex // guards total and errs
	var errs []error
	var lanes sync.WaitGroup
	for i := range min(p.lanes, len(jobs)) {
		lanes.Go(func() {
			err := lane(ctx, filepath.Join(dir, fmt.Sprint(i)), seed+uint64(i)<<32, queue, func(t *tally) { //nolint:gosec // G115: a count
				mu.Lock()
				defer mu.Unlock()
				total[t.Kind].add(t)
				progress(t, time.Since(began))
			})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	lanes.Wait()
	if ctx.Err() != nil {
		return errors.Join(errors.New("interrupted; nothing is shown by half a campaign"), os.RemoveAll(dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; everything is in %s", err, dir)
	}
	var rows []*tally
	for _, k := range kinds() {
		if t := total[k.name]; t != nil {
			rows = append(rows, t)
		}
	}
	if err := report(rows, time.Since(began)); err != nil {
		return fmt.Errorf("%w; everything is in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// lane makes one round after the other.
func lane(ctx context.Context, dir string, seed uint64, queue <-chan job, done func(*tally)) (err error) {
	g, err := newGround(ctx, dir, seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for j := range queue {
		t := &tally{Kind: j.kind.name}
		if err := j.kind.round(ctx, g, j.trials, t); err != nil {
			return fmt.Errorf("%s: %w", j.kind.name, err)
		}
		done(t)
	}
	return nil
}

// byTurns puts the first job of every kind first, then the second of every kind.
func byTurns(jobs []job) []job {
	turn := map[string]int{}
	type placed struct {
		job
		turn int
	}
	var all []placed
	for _, j := range jobs {
		all = append(all, placed{j, turn[j.kind.name]})
		turn[j.kind.name]++
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.turn - b.turn })
	out := make([]job, len(all))
	for i := range all {
		out[i] = all[i].job
	}
	return out
}

func progress(t *tally, after time.Duration) {
	verdict := "ok"
	if t.failed() {
		verdict = "FAILED"
	}
	fmt.Printf("%6.1f s  %-12s %3d trials, %4d acknowledged: %s\n", after.Seconds(), t.Kind, t.Trials, t.Acked, verdict)
	for _, d := range t.Details {
		fmt.Println("         ", d)
	}
}
