package txn

// UnderWay is how many customers' calls to providers are under way at this moment.
// Requests that wait do not count.
func (e *Engine) UnderWay() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inFlight
}
