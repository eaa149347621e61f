package keystore

import (
	"runtime"
	"time"

	"gardu/internal/keystore/protocol"
)

// Of two processes that wait for each other only one works at a time. Apart, on two
// processors, one must wake the other's: that costs as much as a whole HMAC, and
// several where a virtual machine's processor has gone idle. Together, on one, the
// kernel merely goes from one to the other; but both wait where that processor is
// taken by a third. Which is better is a matter of the machine and of the moment,
// so it is measured: a lone caller's requests go the way that took less time, and
// now and then a few go the other way, to learn whether that is still so.

const (
	// tryRun is how many requests in a row try the other way. The first of them
	// still finds the worker as the way before has left it, and does not count.
	tryRun = 4
	// retryFirst and retryMost bound how many requests lie between two tries; each
	// try that was in vain doubles it.
	retryFirst, retryMost = 256, 8192
)

// pace chooses the way of one kind of request. The zero value is ready for use.
type pace struct {
	cost  [2]time.Duration // of a request, by way: apart, together; 0 while it is not known
	way   int              // the better one
	left  int              // of this try, or until the next when it is negative
	retry int              // from this try to the next
}

func wayOf(together bool) int {
	if together {
		return 1
	}
	return 0
}

// together says which way the next request goes.
func (p *pace) together() bool { return (p.way == 1) != (p.left > 0) }

// took learns what a request cost that went the given way.
func (p *pace) took(together bool, d time.Duration) {
	way := wayOf(together)
	if trying := way != p.way; trying && p.left == tryRun {
		p.left--
		if best := p.cost[p.way]; best == 0 || d < 16*best {
			return
		}
		p.left = 0 // so much worse that there is no need to see more
	} else {
		p.learn(way, d)
		switch {
		case !trying && p.left < 0:
			p.left++
			if p.left == 0 {
				p.left, p.cost[1-p.way] = tryRun, 0
			}
			return
		case trying && p.left > 0:
			p.left--
		}
	}
	if p.left > 0 {
		return
	}
	// The end of a try, or the very first request.
	p.retry = min(max(retryFirst, 2*p.retry), retryMost)
	if other := p.cost[1-p.way]; other != 0 && other < p.cost[p.way] {
		p.way, p.retry = 1-p.way, retryFirst
	}
	p.left = -p.retry
}

// learn takes one cost into the mean of its way. A single long one is the
// machine's doing, many are the way's.
func (p *pace) learn(way int, d time.Duration) {
	c := &p.cost[way]
	if *c == 0 {
		*c = d
	}
	*c += (min(d, 4**c) - *c) / 4
}

// worthwhile is false where there is one way only.
var worthwhile = runtime.NumCPU() > 1

// pacedOps ends the operations that a caller may do one after the other without a pause.
const pacedOps = int(protocol.OpDecrypt) + 1
