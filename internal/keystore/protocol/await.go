package protocol

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Await looks for bytes on the socket fd for at most the given time. It does not
// say whether there are some: whoever called it reads next, and sleeps if not.
func Await(fd int, most time.Duration) {
	var b [1]byte
	for began := time.Now(); time.Since(began) < most; {
		if _, _, err := unix.Recvfrom(fd, b[:], unix.MSG_DONTWAIT|unix.MSG_PEEK); !errors.Is(err, unix.EAGAIN) {
			return
		}
	}
}
