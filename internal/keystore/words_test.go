package keystore

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
)

func heardBy(t *testing.T, pin string, said ...string) string {
	t.Helper()
	var log bytes.Buffer
	w := words{log: slog.New(slog.NewTextHandler(&log, nil))}
	if pin != "" {
		w.hush.Store(newHush(secret.Clone([]byte(pin))))
	}
	w.listen(strings.NewReader(strings.Join(said, "\n") + "\n"))
	return log.String()
}

func TestWordsOfTheWorkerReachTheLogWithoutThePIN(t *testing.T) {
	const pin = "canary-0815"
	spaced := fmt.Sprintf("% x", pin)
	for _, line := range []string{
		"C_Login(" + pin + ")", pin, "pin=" + hex.EncodeToString([]byte(pin)) + " ok", "PIN: " + strings.ToUpper(spaced), strings.ReplaceAll(spaced, " ", ":"),
	} {
		log := heardBy(t, pin, "before", line, "after")
		require.Contains(t, log, "withheld", line)
		require.NotContains(t, log, line)
		require.Contains(t, log, "said=before")
		require.Contains(t, log, "said=after")
	}
	require.Contains(t, heardBy(t, pin, "Could not load the SoftHSM configuration."), `said="Could not load the SoftHSM configuration."`)
	require.Empty(t, heardBy(t, pin, "", "  ", "\x00"[:0]))
}

func TestWordsAreCutAndCounted(t *testing.T) {
	log := heardBy(t, "", strings.Repeat("a", 10_000), "next")
	require.Contains(t, log, "cut=true")
	require.Less(t, len(log), 1000)
	require.Contains(t, log, "said=next")

	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := words{log: slog.New(slog.NewTextHandler(&out, nil)), left: wordBurst, last: time.Now()}
		for range 1000 {
			w.say([]byte("flood"), false)
		}
		require.Equal(t, wordBurst, strings.Count(out.String(), "said=flood"))
		time.Sleep(3 * time.Second)
		for range 10 {
			w.say([]byte("later"), false)
		}
		require.Equal(t, 3, strings.Count(out.String(), "said=later"))
		require.Contains(t, out.String(), "left_out_before=980")
	})
}
