package keystore

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gardu/internal/secret"
)

// What the worker, and the vendor's module in it, writes to its standard error goes
// to the agent's log: often it is all that a driver says about its trouble. The
// module is not trusted with the log: lines are cut, there are so many a second, and
// a line with the token's PIN in it is withheld.
const (
	longestWord = 400 // bytes of one line
	wordBurst   = 20  // lines at once
	wordEvery   = time.Second
	// wordRest is how long what is left is read once the worker is gone. A child
	// that the module has started may keep the other end open.
	wordRest = 100 * time.Millisecond
)

// hush knows the PIN again and not what it is.
type hush struct {
	key  [32]byte
	sum  [sha256.Size]byte
	size int
}

func newHush(pin *secret.Value) *hush {
	h := &hush{size: pin.Len()}
	_, _ = rand.Read(h.key[:])
	h.sum = h.of(pin.Bytes())
	return h
}

func (h *hush) of(b []byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, h.key[:])
	_, _ = m.Write(b)
	copy(sum[:], m.Sum(nil))
	return sum
}

// heard says whether the PIN stands in a line, as it is or as a hex dump.
func (h *hush) heard(line []byte) bool {
	if h == nil || h.size == 0 {
		return false
	}
	if h.within(line) {
		return true
	}
	digits := []byte(strings.NewReplacer(" ", "", ":", "", "-", "", ",", "", "0x", "").Replace(string(line)))
	for i := 0; i+2*h.size <= len(digits); i++ {
		b := make([]byte, h.size)
		if _, err := hex.Decode(b, digits[i:i+2*h.size]); err == nil && h.of(b) == h.sum {
			return true
		}
	}
	return false
}

func (h *hush) within(b []byte) bool {
	for i := 0; i+h.size <= len(b); i++ {
		if h.of(b[i:i+h.size]) == h.sum {
			return true
		}
	}
	return false
}

// words reads a worker's standard error.
type words struct {
	log  *slog.Logger
	hush atomic.Pointer[hush]

	left int // lines that may still be logged at once
	last time.Time
	lost int // lines that were not
}

// listen logs what is read from r until it ends.
func (w *words) listen(r io.Reader) {
	br := bufio.NewReaderSize(r, longestWord)
	w.left, w.last = wordBurst, time.Now()
	for {
		line, err := br.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		w.say(line, cut)
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of the line
			_, err = br.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

func (w *words) say(line []byte, cut bool) {
	if h := w.hush.Load(); cut && h != nil {
		line = line[:max(0, len(line)-h.size)] // half a PIN is not known again
	}
	text := strings.TrimSpace(strings.ToValidUTF8(string(line), "?"))
	if text == "" {
		return
	}
	if gone := time.Since(w.last) / wordEvery; gone > 0 {
		w.left = min(w.left+int(gone), wordBurst)
		w.last = w.last.Add(gone * wordEvery) //nolint:durationcheck // gone is a number of times
	}
	if w.left == 0 {
		w.lost++
		return
	}
	w.left--
	if w.hush.Load().heard(line) {
		text = "(a line with the token's PIN in it is withheld; switch off the driver's debug output)"
	}
	attrs := []any{"said", text}
	if cut {
		attrs = append(attrs, "cut", true)
	}
	if w.lost > 0 {
		attrs = append(attrs, "left_out_before", w.lost)
		w.lost = 0
	}
	w.log.Warn("token worker says", attrs...)
}

// hear makes the pipe that the worker's standard error goes into; nil and nil when
// the Launcher has its own.
func (p *process) hear() (ours, theirs *os.File, err error) {
	if p.cmd.Stderr != nil {
		return nil, nil, nil
	}
	if ours, theirs, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	p.cmd.Stderr = theirs
	return ours, theirs, nil
}

// listenTo logs what comes through the pipe. The function it returns ends that, a
// moment after the worker has ended.
func (p *process) listenTo(ours *os.File) (stop func()) {
	if ours == nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.words.listen(ours)
	}()
	return func() {
		select {
		case <-done:
		case <-time.After(wordRest):
		}
		_ = ours.Close()
		<-done
	}
}
