package protocol

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Anywhere is every processor that this process may use.
const Anywhere = -1

// everywhere is the set of them, as it is before a thread first chooses.
var everywhere = sync.OnceValues(func() (set unix.CPUSet, err error) {
	err = unix.SchedGetaffinity(0, &set)
	return set, err
})

// Seat is the processor that a goroutine has chosen. The zero value is Anywhere.
type Seat struct {
	taken  int // one more than the processor's number, 0 for anywhere
	denied bool
}

// Take moves the calling goroutine, and the thread that it then keeps, to one
// processor, or lets it go anywhere. Where that is not allowed nothing happens, also
// later. It says whether the goroutine is where it is to be.
func (s *Seat) Take(cpu int) bool {
	switch {
	case cpu+1 == s.taken:
		return true
	case s.denied:
		return false
	case s.taken == 0:
		runtime.LockOSThread()
	}
	all, err := everywhere()
	one := all
	if cpu != Anywhere {
		one.Zero()
		one.Set(cpu)
	}
	if err == nil {
		err = unix.SchedSetaffinity(0, &one)
	}
	if err == nil && cpu != Anywhere {
		s.taken = cpu + 1
		return true
	}
	if s.denied = err != nil; s.denied {
		_ = unix.SchedSetaffinity(0, &all)
	}
	s.taken = 0
	runtime.UnlockOSThread()
	return !s.denied
}

// Processor returns the number of the one that the calling thread is on, which it
// may leave at any time.
func Processor() int {
	var cpu uint32
	_, _, _ = unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0) //nolint:gosec // it fills what it is given
	return int(cpu)
}
