package txn

// SecretsHeld is how many secrets are in memory because they may not touch a disk.
func (e *Engine) SecretsHeld() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.volatile)
}
