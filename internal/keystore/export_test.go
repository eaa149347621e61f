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

// WorkerArgument is the argument of the default Launcher.
const WorkerArgument = workerArgument

// Environment is what the worker sees of all.
func Environment(o *Options, all []string) []string { return o.environment(all) }

// Explain is explain.
var Explain = explain

// Sentinels are all of them.
func Sentinels() []error {
	var all []error
	for _, k := range kinds {
		all = append(all, k.sentinel)
	}
	return all
}
