package ui

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "make the clips that are missing (espeak-ng, opusenc) and remove those that nobody says; `make speech` does it")

// TestEveryTextIsSpoken: whatever a screen says in either language can be heard,
// word for word as it is written now.
func TestEveryTextIsSpoken(t *testing.T) {
	wanted := map[string]clip{}
	for _, c := range clips() {
		wanted[c.file()] = c
	}
	if *update {
		for file, c := range wanted {
			makeClip(t, file, c)
		}
	}
	have, err := filepath.Glob("speech/*/*.ogg")
	require.NoError(t, err)
	var bytes int64
	for _, file := range have {
		if _, ok := wanted[filepath.ToSlash(file)]; !ok {
			require.True(t, *update, "%s says what no text says any more; run `make speech`", file)
			require.NoError(t, os.Remove(file))
			continue
		}
		info, err := os.Stat(file)
		require.NoError(t, err)
		bytes += info.Size()
	}
	seconds := 0.0
	for file, c := range wanted {
		body, err := os.ReadFile(file)
		require.NoError(t, err, "%s, %s: %q has no clip; run `make speech` and commit internal/ui/speech", c.lang, c.address, c.words)
		length := oggSeconds(t, file, body)
		require.Greater(t, length, 0.1, c.address)
		require.Less(t, length, 25.0, c.address)
		seconds += length
	}
	require.Less(t, bytes, int64(5<<20), "all clips together")
	t.Logf("%d clips, %.0f s, %d KiB", len(wanted), seconds, bytes>>10)
}

// makeClip says it and packs it. The same words give the same bytes.
func makeClip(t *testing.T, file string, c clip) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		return
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	voice := map[Lang]string{Indonesian: "id", English: "en-gb"}[c.lang]
	wave, err := exec.CommandContext(t.Context(), "espeak-ng", "-v", voice, "-s", "145", "-g", "1", "--stdout", c.words).Output()
	require.NoError(t, err, "espeak-ng says %q", c.words)
	pack := exec.CommandContext(t.Context(), "opusenc", "--quiet", "--bitrate", "12", "--framesize", "60", "--serial", "1", "--discard-comments", "--padding", "0", "-", file)
	pack.Stdin, pack.Stderr = bytes.NewReader(wave), os.Stderr
	require.NoError(t, pack.Run(), "opusenc packs %q", c.words)
}

// oggSeconds reads the length from the last page of an Ogg Opus file (RFC 7845: 48 kHz).
func oggSeconds(t *testing.T, name string, body []byte) float64 {
	t.Helper()
	require.True(t, bytes.HasPrefix(body, []byte("OggS")) && bytes.Contains(body[:64], []byte("OpusHead")), name)
	last := bytes.LastIndex(body, []byte("OggS"))
	return float64(binary.LittleEndian.Uint64(body[last+6:])) / 48000
}

// A clip is the same for every customer, so a number in it can be nobody's. Single
// letters and digits are said of what the screen shows openly; what is typed
// secretly gives the page nothing to say (see the browser tests).
func TestNoClipHoldsASecret(t *testing.T) {
	digits := regexp.MustCompile(`\d+`)
	for _, c := range clips() {
		for _, run := range digits.FindAllString(c.words, -1) {
			if strings.Contains(c.address, "/number/") {
				n, err := strconv.Atoi(run)
				require.NoError(t, err)
				require.LessOrEqual(t, n, maxSpokenNumber)
				continue
			}
			require.Len(t, run, 1, "%s says %q", c.address, c.words)
		}
	}
}

func TestSpokenTextsHaveTheWordsInBraces(t *testing.T) {
	for key, text := range spokenTexts {
		require.Contains(t, textTable, key)
		require.Equal(t, braces.FindAllString(textTable[key].ID, -1), braces.FindAllString(text.ID, -1), key)
		require.Equal(t, braces.FindAllString(textTable[key].EN, -1), braces.FindAllString(text.EN, -1), key)
	}
}

func TestTonesAreShortAndSmall(t *testing.T) {
	for name, wave := range tones() {
		require.True(t, bytes.HasPrefix(wave, []byte("RIFF")), name)
		require.Equal(t, len(wave)-8, int(binary.LittleEndian.Uint32(wave[4:])), name)
		require.Equal(t, len(wave)-44, int(binary.LittleEndian.Uint32(wave[40:])), name)
		require.Less(t, len(wave), 16<<10, name)
		loud := 0
		for i := 44; i < len(wave); i += 2 {
			loud = max(loud, int(int16(binary.LittleEndian.Uint16(wave[i:]))))
		}
		require.Greater(t, loud, 4000, "%s can be heard", name)
	}
	for _, row := range Screens() {
		if s := row.Tone.sound(); s != "" {
			require.Contains(t, tones(), s)
		}
	}
}
