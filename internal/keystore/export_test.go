package keystore

// WorkerPID returns the process id of the running worker, 0 when there is none.
func WorkerPID(s *Store) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// CheckModule is checkModule.
var CheckModule = checkModule
