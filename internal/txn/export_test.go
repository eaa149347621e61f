package txn

import "time"

// SecretsHeld is how many secrets are in memory because they may not touch a disk.
func (e *Engine) SecretsHeld() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.volatile)
}

// Remembered is how many things the index still holds.
func (e *Engine) Remembered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := &e.ix
	return len(x.seqs) + len(x.keys) + len(x.open) + len(x.line) + len(x.wakes) + len(x.cooldown) +
		len(x.recent) + len(x.counts) + len(x.kept) + len(x.unres) + len(e.volatile) + len(e.limbo)
}

// KeptOver reports whether the kernel's word on the wall clock has to be asked for
// anew when both clocks have gone on by so much.
func KeptOver(wall, up time.Duration) bool {
	then := time.Date(2026, 5, 4, 9, 30, 0, 0, time.UTC)
	return (&keptAt{wall: then, up: time.Hour}).over(then.Add(wall), time.Hour+up)
}
