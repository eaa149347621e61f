package ui

import (
	"bytes"
	"encoding/binary"
	"math"
)

// sound is the tone a screen opens with, or nothing: a customer who looks away
// hears that the screen has something new to say.
func (t Tone) sound() string {
	switch t {
	case ToneDone:
		return "success"
	case ToneQueued, ToneDoubt, ToneWaiting, ToneFailed, ToneNothing:
		return "attention"
	case ToneCalm, ToneWorking, ToneHalted:
	}
	return ""
}

// note is one part of a tone: hertz, milliseconds, and how loud from 0 to 1.
type note struct {
	hz, ms, loud float64
}

// The key's tone is the same for every key: it must not tell which one it was.
var scores = map[string][]note{
	"key":       {{1050, 36, 0.35}},
	"success":   {{659.26, 120, 0.5}, {880, 260, 0.5}},
	"attention": {{587.33, 140, 0.5}, {0, 40, 0}, {587.33, 220, 0.5}},
}

const sampleRate = 16000 // Hz

// tones makes the sounds as WAV files (RIFF, PCM, one channel of 16 bits).
func tones() map[string][]byte {
	files := make(map[string][]byte, len(scores))
	for name, score := range scores {
		var data []byte
		for _, n := range score {
			count := int(n.ms * sampleRate / 1000)
			for i := range count {
				at := float64(i) / sampleRate
				// Rises within 4 ms and dies away, so that it neither clicks nor beeps.
				shape := min(1, at/0.004) * math.Exp(-3*float64(i)/float64(count)) * min(1, float64(count-i)/64)
				wave := math.Sin(2*math.Pi*n.hz*at) + 0.2*math.Sin(4*math.Pi*n.hz*at)
				data = binary.LittleEndian.AppendUint16(data, uint16(int16(wave/1.2*shape*n.loud*math.MaxInt16))) //nolint:gosec // G115: the bits of a sample
			}
		}
		var b bytes.Buffer
		b.WriteString("RIFF")
		head := []any{
			uint32(36 + len(data)), []byte("WAVEfmt "), uint32(16), uint16(1), uint16(1), //nolint:gosec // G115: a second of sound
			uint32(sampleRate), uint32(2 * sampleRate), uint16(2), uint16(16), []byte("data"), uint32(len(data)), //nolint:gosec // G115: likewise
		}
		for _, v := range head {
			_ = binary.Write(&b, binary.LittleEndian, v) // into memory, which does not fail
		}
		b.Write(data)
		files[name] = b.Bytes()
	}
	return files
}
