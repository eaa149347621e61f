package txn

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
