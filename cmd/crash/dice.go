package main

import (
	"math/rand/v2"
	"sync"
	"time"
)

// dice decides what is left to chance. It is safe for concurrent use.
type dice struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func newDice(seed uint64) *dice {
	return &dice{r: rand.New(rand.NewPCG(seed, 1))} //nolint:gosec // G404: trials, not secrets
}

// IntN is a number from 0 to n-1.
func (d *dice) IntN(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// oneIn is true once in n times.
func (d *dice) oneIn(n int) bool { return d.IntN(n) == 0 }

// between is a time from least to most.
func (d *dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.IntN(int(most-least)+1))
}
