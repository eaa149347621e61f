package protocol_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore/protocol"
)

// message is what every body is.
type message interface{ Parse([]byte) error }

type appender interface{ Append([]byte) []byte }

// samples has one filled message of each kind and a fresh one to parse into.
func samples() []struct {
	full  appender
	fresh func() message
} {
	o := protocol.Object{
		Label: "l", ID: []byte{1}, Class: protocol.ClassSecret, Type: protocol.TypeAES, Bits: 192,
		Public: []byte("pub"), Check: []byte{1, 2, 3}, Identity: []byte("identity"),
	}
	o.Facts[protocol.FactSensitive] = protocol.FactYes
	return []struct {
		full  appender
		fresh func() message
	}{
		{
			&protocol.Hello{Module: "/m.so", InitReserved: "r", Label: "l", Serial: "s", Manufacturer: "m", Model: "x", Sessions: 4, Lanes: 2},
			func() message { return &protocol.Hello{} },
		},
		{
			&protocol.Token{
				Label: "l", Serial: "s", Manufacturer: "m", Model: "x", Library: "y", Flags: protocol.TokenPINLow, MinPIN: 4, MaxPIN: 255,
				Mechanisms: []protocol.MechanismInfo{{Type: 0x271, Flags: 0x800, MinKey: 64, MaxKey: 512}},
			},
			func() message { return &protocol.Token{} },
		},
		{
			&protocol.Key{Label: "l", ID: []byte{1}, Class: protocol.ClassPrivate, Type: protocol.TypeRSA, Pin: []byte("pin")},
			func() message { return &protocol.Key{} },
		},
		{
			&protocol.Use{Key: []byte("key"), Mechanism: protocol.MechAESCBC, IV: []byte("iv"), AAD: []byte("aad"), Data: []byte("data")},
			func() message { return &protocol.Use{} },
		},
		{
			&protocol.Create{Label: "l", ID: []byte{1}, Type: protocol.TypeAES, Bits: 192, Usage: protocol.UsageEncrypt, AnyID: true, Parts: [][]byte{[]byte("a"), []byte("b")}, Check: []byte{1, 2, 3}},
			func() message { return &protocol.Create{} },
		},
		{&protocol.Rename{Key: []byte("key"), Label: "l@g2"}, func() message { return &protocol.Rename{} }},
		{
			&protocol.Unwrap{Transport: []byte("t"), Mechanism: protocol.MechOAEPSHA1, Key: []byte("k"), Value: []byte("v"), Create: []byte("c")},
			func() message { return &protocol.Unwrap{} },
		},
		{&protocol.Verdict{Object: o, Readable: true, Trial: "sign", Failed: "no"}, func() message { return &protocol.Verdict{} }},
		{&o, func() message { return &protocol.Object{} }},
		{&protocol.Objects{o, o}, func() message { return &protocol.Objects{} }},
		{&protocol.Failure{Reason: protocol.ReasonDevice, Code: 0x30, Detail: "C_Sign"}, func() message { return &protocol.Failure{} }},
	}
}

func TestMessagesReadWhatTheyWroteAndNothingElse(t *testing.T) {
	for _, s := range samples() {
		body := s.full.Append(nil)
		got := s.fresh()
		require.NoError(t, got.Parse(body))
		require.Equal(t, s.full, got)
		for n := range body {
			require.ErrorIs(t, s.fresh().Parse(body[:n]), protocol.ErrFrame, "%T cut to %d of %d bytes", s.full, n, len(body))
		}
		require.ErrorIs(t, s.fresh().Parse(append(body, 0)), protocol.ErrFrame, "%T with a byte more", s.full)
	}
}

func TestGreetingOfAnotherReleaseIsRefused(t *testing.T) {
	body := (&protocol.Hello{Module: "/m.so"}).Append(nil)
	binary.BigEndian.PutUint32(body, protocol.Version+1)
	require.ErrorIs(t, (&protocol.Hello{}).Parse(body), protocol.ErrFrame)
}

func TestFrames(t *testing.T) {
	b := protocol.Begin(nil, protocol.Head{ID: 7, Code: protocol.OpMAC})
	b = append(b, "body"...)
	require.NoError(t, protocol.Finish(b, 0))
	second := len(b)
	b = protocol.Begin(b, protocol.Head{ID: 8, Code: protocol.OpSign})
	require.NoError(t, protocol.Finish(b, second))

	f, ok, err := protocol.Next(b)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, protocol.Frame{Head: protocol.Head{ID: 7, Code: protocol.OpMAC}, Body: []byte("body"), Size: second}, f)
	f, ok, err = protocol.Next(b[f.Size:])
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, protocol.Head{ID: 8, Code: protocol.OpSign}, f.Head)
	require.Empty(t, f.Body)
	for n := range second {
		f, ok, err := protocol.Next(b[:n])
		require.NoError(t, err)
		require.False(t, ok)
		if n >= protocol.LengthSize {
			require.Equal(t, second, f.Size)
		}
	}
	for _, length := range []uint32{0, 4, protocol.MaxFrame + 1, 1<<32 - 1} {
		_, _, err := protocol.Next(binary.BigEndian.AppendUint32(nil, length))
		require.ErrorIs(t, err, protocol.ErrFrame, length)
	}
	large := append(protocol.Begin(nil, protocol.Head{}), make([]byte, protocol.MaxFrame)...)
	require.ErrorIs(t, protocol.Finish(large, 0), protocol.ErrFrame)
}

func FuzzNext(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, 0, 0, 0, 1, 0})
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 1, 5, 1, 2, 3, 4, 0, 0})
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, ok, err := protocol.Next(b)
		if err != nil {
			require.ErrorIs(t, err, protocol.ErrFrame)
			return
		}
		if !ok {
			require.True(t, frame.Size == 0 || frame.Size > len(b))
			return
		}
		again := append(protocol.Begin(nil, frame.Head), frame.Body...)
		require.NoError(t, protocol.Finish(again, 0))
		require.Equal(t, b[:frame.Size], again)
	})
}

// FuzzMessages reads the same bytes as every kind of message: what is accepted
// must be written the same again.
func FuzzMessages(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.full.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range samples() {
			m := s.fresh()
			if err := m.Parse(b); err != nil {
				require.ErrorIs(t, err, protocol.ErrFrame)
				continue
			}
			a, ok := m.(appender)
			require.True(t, ok)
			require.True(t, bytes.Equal(b, a.Append(nil)), "%T", m)
		}
	})
}

func TestRequestsMaySayWhereTheirCallerIs(t *testing.T) {
	at := protocol.Frame{Head: protocol.Head{ID: 1, Code: protocol.OpMAC | protocol.Here}}
	at.Body = append(protocol.AppendProcessor(nil, 300), "body"...)
	cpu, err := at.TakeProcessor()
	require.NoError(t, err)
	require.Equal(t, 300, cpu)
	require.Equal(t, protocol.Frame{Head: protocol.Head{ID: 1, Code: protocol.OpMAC}, Body: []byte("body")}, at)

	cpu, err = at.TakeProcessor() // without the bit every byte is the message's
	require.NoError(t, err)
	require.Equal(t, -1, cpu)
	require.Equal(t, []byte("body"), at.Body)

	short := protocol.Frame{Head: protocol.Head{Code: protocol.OpMAC | protocol.Here}, Body: []byte{1}}
	_, err = short.TakeProcessor()
	require.ErrorIs(t, err, protocol.ErrFrame)
}

func TestSeats(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, now unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	var s protocol.Seat
	require.True(t, s.Take(protocol.Anywhere))
	for cpu := range 1024 {
		if !all.IsSet(cpu) {
			continue
		}
		require.True(t, s.Take(cpu))
		require.NoError(t, unix.SchedGetaffinity(0, &now))
		require.Equal(t, 1, now.Count())
		require.True(t, now.IsSet(cpu))
		require.Equal(t, cpu, protocol.Processor())
	}
	require.True(t, s.Take(protocol.Anywhere))
	require.NoError(t, unix.SchedGetaffinity(0, &now))
	require.Equal(t, all, now)

	require.False(t, s.Take(1023), "no machine of ours has it")
	require.False(t, s.Take(0), "what was refused is not asked again")
	require.True(t, s.Take(protocol.Anywhere))
	require.NoError(t, unix.SchedGetaffinity(0, &now))
	require.Equal(t, all, now)
}
