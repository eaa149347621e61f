package ui_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"gardu/internal/ui"
)

// What comes of a frame, beside a close code.
const (
	goesOn = 0  // the connection lives: what is sent afterwards is answered
	pongs  = -1 // a pong with the same payload, and it lives
)

// wireCase is what a client puts on the wire after its hello, and what must come of
// it by RFC 6455. Several close codes are allowed where the standard leaves it open.
type wireCase struct {
	name string
	raw  []byte
	want []int
}

// TestFramesOfTheStandard speaks with another program's codec, which also makes
// what gorilla's own client would not send.
func TestFramesOfTheStandard(t *testing.T) {
	r := newRig(t, nil)
	cookie := r.cookie()
	cases := wireCases()
	require.GreaterOrEqual(t, len(cases), 80)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn := rawSocket(t, r, cookie)
			_, err := conn.Write(c.raw)
			require.NoError(t, err)
			got, pong := outcome(t, conn, c.want[0] <= goesOn)
			require.Contains(t, c.want, got, "close code")
			if c.want[0] == pongs {
				f, err := readFrame(bytes.NewReader(c.raw))
				require.NoError(t, err)
				require.Equal(t, string(ws.UnmaskFrame(f).Payload), string(pong))
			}
		})
	}
	// Whatever was sent, the server serves the next page.
	conn := rawSocket(t, r, cookie)
	got, _ := outcome(t, conn, true)
	require.Equal(t, goesOn, got)
}

// rawSocket shakes hands and says hello.
func rawSocket(t *testing.T, r *rig, cookie string) net.Conn {
	t.Helper()
	token := r.token(cookie)
	d := ws.Dialer{
		Protocols: []string{ui.Subprotocol}, NetDial: r.dial,
		Header: ws.HandshakeHeaderHTTP(http.Header{"Origin": {"http://" + r.addr}, "Cookie": {cookie}}),
	}
	conn, br, hs, err := d.Dial(context.Background(), "ws://"+r.addr+"/ws")
	require.NoError(t, err)
	require.Nil(t, br, "nothing comes before the hello")
	require.Equal(t, ui.Subprotocol, hs.Protocol)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = conn.Write(masked(text(fmt.Sprintf(`{"type":"hello","token":%q,"lang":"id"}`, token))))
	require.NoError(t, err)
	return conn
}

// outcome reads until the connection ends, or until a probe sent behind everything
// else is answered.
func outcome(t *testing.T, conn net.Conn, probe bool) (code int, pong []byte) {
	t.Helper()
	code = goesOn
	id := rand.Text() // results of earlier connections come again until they are acknowledged
	if probe {
		_, err := conn.Write(masked(text(fmt.Sprintf(`{"type":"command","id":%q,"session":"s","screen":"x","name":"nothing"}`, id))))
		require.NoError(t, err)
	}
	for {
		f, err := readFrame(conn)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) {
			require.Fail(t, "the connection ended without a close frame")
		}
		require.NoError(t, err)
		require.False(t, f.Header.Masked, "a server does not mask")
		switch f.Header.OpCode {
		case ws.OpClose:
			if len(f.Payload) == 0 {
				return noStatus, pong
			}
			c, _ := ws.ParseCloseFrameData(f.Payload)
			return int(c), pong
		case ws.OpPong:
			pong, code = f.Payload, pongs
		case ws.OpText:
			if bytes.Contains(f.Payload, []byte(id)) {
				return code, pong
			}
		case ws.OpPing: // the server's own, of a quiet connection
		case ws.OpBinary, ws.OpContinuation:
			require.Failf(t, "the server sends whole texts", "opcode %#x", f.Header.OpCode)
		}
	}
}

// readFrame reads one frame of at most 64 KiB.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	if f.Header.Length > 64<<10 {
		return f, fmt.Errorf("a frame of %d bytes", f.Header.Length)
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

func isReset(err error) bool {
	var ne *net.OpError
	return errors.As(err, &ne) && !ne.Timeout()
}

func text(s string) ws.Frame { return ws.NewTextFrame([]byte(s)) }

func masked(f ws.Frame) []byte { return ws.MustCompileFrame(ws.MaskFrame(f)) }

func header(fin bool, rsv byte, op ws.OpCode, payload []byte) []byte {
	f := ws.NewFrame(op, fin, payload)
	f.Header.Rsv = rsv
	return masked(f)
}

func closing(code uint16, reason string) []byte {
	return header(true, 0, ws.OpClose, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// fragments cuts a text into pieces of these sizes and puts between beside them.
func fragments(s string, between []byte, sizes ...int) (raw []byte) {
	op := ws.OpText
	for i, n := range sizes {
		raw = append(raw, header(i == len(sizes)-1, 0, op, []byte(s[:n]))...)
		if i < len(sizes)-1 {
			raw = append(raw, between...)
		}
		s, op = s[n:], ws.OpContinuation
	}
	return raw
}

// length writes a header with a length of its own choosing, in the short (0), 16-bit
// (2) or 64-bit (8) form, under a mask of zeros.
func length(form int, n uint64, payload string) []byte {
	raw := []byte{0x81}
	switch form {
	case 0:
		raw = append(raw, 0x80|byte(n)) //nolint:gosec // G115: a test's own number
	case 2:
		raw = binary.BigEndian.AppendUint16(append(raw, 0x80|126), uint16(n)) //nolint:gosec // G115: likewise
	default:
		raw = binary.BigEndian.AppendUint64(append(raw, 0x80|127), n)
	}
	return append(append(raw, 0, 0, 0, 0), payload...)
}

const (
	noStatus      = 1005 // a close frame without a code
	protocolError = 1002
	wrongKind     = 1003
	notUTF8       = 1007
	tooLarge      = 1009
	notAllowed    = 4002 // ours: a whole text that is no frame of the protocol
)

func wireCases() (all []wireCase) {
	add := func(name string, raw []byte, want ...int) { all = append(all, wireCase{name, raw, want}) }
	good := `{"type":"ack","id":"a"}`

	for _, op := range []ws.OpCode{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		add(fmt.Sprintf("reserved opcode %#x", op), header(true, 0, op, nil), protocolError)
	}
	for rsv := byte(1); rsv <= 7; rsv++ {
		add(fmt.Sprintf("reserved bits %03b", rsv), header(true, rsv, ws.OpText, []byte(good)), protocolError)
	}
	add("reserved bit on a ping", header(true, 4, ws.OpPing, nil), protocolError)
	for name, f := range map[string]ws.Frame{"text": text(good), "ping": ws.NewPingFrame(nil), "close": ws.NewCloseFrame(nil)} {
		add("unmasked "+name, ws.MustCompileFrame(f), protocolError)
	}

	for _, n := range []int{0, 1, 64, 124, 125} {
		add(fmt.Sprintf("ping with %d bytes", n), header(true, 0, ws.OpPing, bytes.Repeat([]byte{0xa5}, n)), pongs)
	}
	add("ping with 126 bytes", header(true, 0, ws.OpPing, make([]byte, 126)), protocolError)
	add("ping in pieces", header(false, 0, ws.OpPing, nil), protocolError)
	add("pong with 126 bytes", header(true, 0, ws.OpPong, make([]byte, 126)), protocolError)
	add("pong in pieces", header(false, 0, ws.OpPong, nil), protocolError)
	add("close in pieces", header(false, 0, ws.OpClose, nil), protocolError)
	for _, n := range []int{0, 125} {
		add(fmt.Sprintf("pong that nobody asked for, %d bytes", n), header(true, 0, ws.OpPong, make([]byte, n)), goesOn)
	}
	add("ten pings at once", bytes.Repeat(header(true, 0, ws.OpPing, nil), 10), pongs)

	add("close without a code", header(true, 0, ws.OpClose, nil), noStatus)
	add("close with half a code", header(true, 0, ws.OpClose, []byte{3}), protocolError, noStatus) // the library takes it for none
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		add(fmt.Sprintf("close with %d", code), closing(code, ""), int(code))
	}
	for _, code := range []uint16{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(fmt.Sprintf("close with %d, which is not allowed", code), closing(code, ""), protocolError)
	}
	add("close with a long reason", closing(1000, strings.Repeat("x", 123)), 1000)
	add("close with too long a reason", closing(1000, strings.Repeat("x", 124)), protocolError)
	add("close with a reason that is no text", closing(1000, "\xff\xfe"), protocolError, notUTF8)
	add("text after a close", append(closing(1000, ""), masked(text(good))...), 1000)

	add("text", masked(text(good)), goesOn)
	add("text in two pieces", fragments(good, nil, 5, len(good)-5), goesOn)
	add("text in pieces of a byte", fragments(good, nil, ones(len(good))...), goesOn)
	add("an empty first piece", fragments(good, nil, 0, len(good)), goesOn)
	add("an empty middle piece", fragments(good, nil, 3, 0, len(good)-3), goesOn)
	add("an empty last piece", fragments(good, nil, len(good), 0), goesOn)
	add("a pong between pieces", fragments(good, header(true, 0, ws.OpPong, nil), 5, len(good)-5), goesOn)
	add("a close between pieces", fragments(good, closing(1000, ""), 5, len(good)-5), 1000)
	add("a continuation of nothing", header(true, 0, ws.OpContinuation, []byte(good)), protocolError)
	add("a first piece of a continuation of nothing", header(false, 0, ws.OpContinuation, []byte(good)), protocolError)
	add("a text within a text", append(header(false, 0, ws.OpText, []byte(good)), masked(text(good))...), protocolError)
	add("a binary within a text", append(header(false, 0, ws.OpText, []byte(good)), header(true, 0, ws.OpBinary, nil)...), protocolError)
	add("a continuation after the end", append(fragments(good, nil, 5, len(good)-5), header(true, 0, ws.OpContinuation, nil)...), protocolError)

	add("binary", header(true, 0, ws.OpBinary, []byte(good)), wrongKind)
	add("binary in pieces", append(header(false, 0, ws.OpBinary, []byte(good)), header(true, 0, ws.OpContinuation, nil)...), wrongKind)
	add("an empty binary", header(true, 0, ws.OpBinary, nil), wrongKind)
	add("an empty text", header(true, 0, ws.OpText, nil), notAllowed)

	padded := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	add("text of 8 KiB", masked(text(padded(8<<10))), goesOn)
	add("text of 8 KiB and a byte", masked(text(padded(8<<10+1))), tooLarge)
	add("text of 64 KiB", masked(text(padded(64<<10))), tooLarge)
	add("8 KiB in pieces", fragments(padded(8<<10), nil, 4<<10, 4<<10), goesOn)
	add("8 KiB and a byte in pieces", fragments(padded(8<<10+1), nil, 4<<10, 4<<10, 1), tooLarge)
	add("a length of 2^62, announced", length(8, 1<<62, ""), tooLarge)
	add("a length with the highest bit", length(8, 1<<63, ""), protocolError, tooLarge)
	add("a length of 2^64-1, announced", length(8, 1<<64-1, ""), protocolError, tooLarge)
	add("a length of 125", length(0, 125, padded(125)), goesOn)
	add("a length of 126", length(2, 126, padded(126)), goesOn)
	add("a length of 8192 in 64 bits", length(8, 8192, padded(8192)), goesOn, protocolError)

	// A text that passes as one is refused by the protocol, and not by the codec.
	within := func(s string) []byte { return masked(text(`{"type":"ack","id":"` + s + `"}`)) }
	for name, s := range map[string]string{
		"two bytes": "\u00e9", "three bytes": "\u20ac", "four bytes": "\U0001f511", "the last": "\U0010ffff", "before the surrogates": "\ud7ff", "a zero": "\x00",
	} {
		add("UTF-8, "+name, within(s), notAllowed)
	}
	for name, s := range map[string]string{
		"a stray continuation": "\x80", "overlong slash": "\xc0\xaf", "overlong zero": "\xc0\x80", "overlong in three": "\xe0\x80\xaf", "overlong in four": "\xf0\x80\x80\xaf",
		"a surrogate": "\xed\xa0\x80", "beyond Unicode": "\xf4\x90\x80\x80", "five bytes": "\xf8\x88\x80\x80\x80", "fe": "\xfe", "ff": "\xff",
		"cut in two": "\xc3", "cut in three": "\xe2\x82", "cut in four": "\xf0\x9f\x94",
	} {
		add("not UTF-8, "+name, within(s), notUTF8)
	}
	euro := `{"type":"ack","id":"` + "\u20ac" + `"}`
	cut := strings.IndexByte(euro, 0xe2) + 1
	add("a letter over two pieces", fragments(euro, nil, cut, len(euro)-cut), notAllowed)
	add("a letter that a piece leaves unfinished", fragments(euro[:cut]+`"}`, nil, cut, 2), notUTF8)
	return all
}

func ones(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = 1
	}
	return all
}
