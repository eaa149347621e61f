package worker

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// anywhere is every processor that the worker may use.
const anywhere = -1

// seat is the processor of a goroutine. The zero value is anywhere.
type seat struct {
	taken  int // one more than the processor's number, 0 for anywhere
	all    unix.CPUSet
	denied bool
}

// take moves the calling goroutine, and the thread that it then keeps, to one
// processor or lets it go anywhere. Where that is not allowed nothing happens.
func (s *seat) take(cpu int) {
	if cpu+1 == s.taken || s.denied {
		return
	}
	if cpu == anywhere {
		_ = unix.SchedSetaffinity(0, &s.all)
		runtime.UnlockOSThread()
		s.taken = 0
		return
	}
	if s.taken == 0 {
		if s.denied = unix.SchedGetaffinity(0, &s.all) != nil; s.denied {
			return
		}
		runtime.LockOSThread()
	}
	var one unix.CPUSet
	one.Set(cpu)
	if unix.SchedSetaffinity(0, &one) == nil {
		s.taken = cpu + 1
		return
	}
	s.denied = true
	_ = unix.SchedSetaffinity(0, &s.all)
	runtime.UnlockOSThread()
	s.taken = 0
}
