// Package protocol is what the keystore and its token worker say to each other
// over Unix stream sockets: one that all requests may take, and up to MaxLanes
// lanes, each of which carries one operation with a key at a time.
//
// A frame is a 4-byte big-endian length and that many bytes, at most MaxFrame:
// a 4-byte number, one byte, and a body. In a request the byte is the Op, with the
// bit Here where the worker is to work on the caller's processor; the answer
// carries the same number and a Status, with the bit Slow where the next operation
// of the kind is one for a lane. On the common socket several requests may be under
// way at once and are answered in any order; on a lane each is answered before the
// next comes. One request is one whole operation with a key, never a step of one, so
// that nothing of a PKCS#11 session crosses a socket. Numbers in a body have 2, 4 or
// 8 bytes, big-endian; a string is its length in 4 bytes and its bytes. A body that
// is too short or too long by a byte is an error, and any error of this kind, on
// whichever socket, ends the connection: whoever speaks something else is not a
// peer to go on with.
//
// The values on the wire are fixed by number. Both ends come from one release,
// and Version in the greeting catches the case that they do not.
package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the first thing the keystore says and the worker compares.
const Version = 3

// MaxFrame limits the bytes behind the length of one frame. No operation of the
// agent needs a tenth of it.
const MaxFrame = 256 << 10

// MaxLanes is how many lanes there may be. Their descriptors follow the one of the
// common socket.
const MaxLanes = 4

const (
	// LengthSize is the number of bytes of the length that starts a frame.
	LengthSize = 4
	headSize   = 5
)

// ErrFrame says that the bytes are no frame or no message of this protocol.
var ErrFrame = errors.New("malformed frame")

// Head is the number of a request and the Op or the Status.
type Head struct {
	ID   uint32
	Code uint8
}

// Begin appends the start of a frame to b, with room for its length; Finish
// writes the length.
func Begin(b []byte, h Head) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, h.ID)
	return append(b, h.Code)
}

// Finish writes the length of the frame that began at b[at]. It returns an error
// wrapping ErrFrame when the frame is larger than MaxFrame.
func Finish(b []byte, at int) error {
	n := len(b) - at - LengthSize
	if n > MaxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d can be sent", ErrFrame, n, MaxFrame)
	}
	binary.BigEndian.PutUint32(b[at:], uint32(n)) //nolint:gosec // n is at most MaxFrame
	return nil
}

// Frame is one received frame. Body shares its memory with the buffer it was
// read from.
type Frame struct {
	Head
	Body []byte
	// Size is the number of bytes of the whole frame, its length included.
	Size int
}

// Next reads the frame that b starts with. ok is false while b does not hold all
// of it; Size then says how many bytes it will have, 0 when that is not known yet.
func Next(b []byte) (f Frame, ok bool, err error) {
	if len(b) < LengthSize {
		return Frame{}, false, nil
	}
	n := int(binary.BigEndian.Uint32(b))
	if n < headSize || n > MaxFrame {
		return Frame{}, false, fmt.Errorf("%w: its length says %d", ErrFrame, n)
	}
	f.Size = LengthSize + n
	if len(b) < f.Size {
		return f, false, nil
	}
	head := b[LengthSize : LengthSize+headSize]
	f.Head = Head{ID: binary.BigEndian.Uint32(head), Code: head[4]}
	f.Body = b[LengthSize+headSize : f.Size]
	return f, true, nil
}

func appendBytes[T []byte | string](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(v))) //nolint:gosec // Finish refuses what is too long
	return append(b, v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// parser reads a body; after the first thing that is missing it reads zeros and
// remembers it, so that a message is parsed straight through and asked once.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) take(n int) []byte {
	if p.bad || n < 0 || n > len(p.b) {
		p.bad = true
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) u8() uint8 {
	if v := p.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (p *parser) bool() bool {
	v := p.u8()
	if v > 1 {
		p.bad = true
	}
	return v == 1
}

func (p *parser) u16() uint16 {
	if v := p.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (p *parser) u32() uint32 {
	if v := p.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (p *parser) u64() uint64 {
	if v := p.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// bytes shares its memory with the body.
func (p *parser) bytes() []byte { return p.take(int(p.u32())) }

func (p *parser) text() string { return string(p.bytes()) }

// count reads how many elements follow, each of at least size bytes, so that a
// lying count cannot make anyone allocate.
func (p *parser) count(size int) int {
	n := int(p.u32())
	if n > len(p.b)/size {
		p.bad = true
		return 0
	}
	return n
}

func (p *parser) end(what string) error {
	if p.bad {
		return fmt.Errorf("%w: %s is cut short or holds a wrong value", ErrFrame, what)
	}
	if len(p.b) != 0 {
		return fmt.Errorf("%w: %s has %d bytes too many", ErrFrame, what, len(p.b))
	}
	return nil
}
