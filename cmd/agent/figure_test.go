package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore/softhsmtest"
	"gardu/internal/snap"
	"gardu/internal/txn"
)

const figureBacklog = 100_000

// TestFigureStart compares the start of an agent whose journal holds 100,000 waiting
// requests with that of one whose journal is empty, from the start of the process,
// its token and its worker included, until /healthz says ok; and weighs both. The
// start reads every record, which checks its seal, and walks the whole file. How it
// spends its time stands in docs/storage.md.
func TestFigureStart(t *testing.T) {
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
	program := filepath.Join(t.TempDir(), "gardu")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	empty, full := newFigureKiosk(t, program), newFigureKiosk(t, program)
	full.fill(t, figureBacklog)

	var ours, reference, mine, theirs []float64
	for i := range 5 {
		sides := []func(){
			func() { s, kb := full.start(t); ours, mine = append(ours, s), append(mine, kb) },
			func() { s, kb := empty.start(t); reference, theirs = append(reference, s), append(theirs, kb) },
		}
		if i%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			side()
		}
	}
	ratio := figureMedian(ours) / figureMedian(reference)
	fmt.Printf("BENCH start_with_100k ratio=%.2f ours=%.0f ms reference=%.0f ms\n", ratio, 1000*figureMedian(ours), 1000*figureMedian(reference))
	fmt.Printf("BENCH memory_idle ratio=%.2f ours=%.1f MB reference=40.0 MB\n", figureMedian(theirs)/40, figureMedian(theirs))
	fmt.Printf("BENCH memory_with_100k ratio=%.2f ours=%.1f MB reference=100.0 MB\n", figureMedian(mine)/100, figureMedian(mine))
	require.LessOrEqual(t, figureMedian(theirs), 40.0)
	require.LessOrEqual(t, figureMedian(mine), 100.0)
}

// figureKiosk is a folder with everything that one agent needs.
type figureKiosk struct{ program, config, screen string }

func newFigureKiosk(t *testing.T, program string) *figureKiosk {
	t.Helper()
	work := t.TempDir()
	tok := softhsmtest.New(t)
	shm, err := os.MkdirTemp("/dev/shm", "gardu-figure") //nolint:usetesting // the journal wants its key folder on tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(shm)) })
	port, err := freePort()
	require.NoError(t, err)
	config := strings.Replace(kioskConfig(work, shm, port, tok), "[journal]\n", "[journal]\nmax_requests = 200000\n", 1)
	for name, text := range map[string]string{
		"pin": tok.PIN + "\n", "hmac.txt": "myclientsecret-myclientsecret\n", "aes.hex": strings.Repeat("0123456789abcdef", 3) + "\n",
		"api.key": "key\n", "secure.code": "code\n", "staff.toml": "[[staff]]\nid = \"1001\"\ncode = \"10012345\"\n", "gardu.toml": config,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(work, name), []byte(text), 0o600))
	}
	k := &figureKiosk{program, filepath.Join(work, "gardu.toml"), port}
	k.gardu(t, "init")
	k.gardu(t, "keys", "import", "finpay-secret", "hmac-sha512", "--file", filepath.Join(work, "hmac.txt"), "--encoding", "text")
	k.gardu(t, "keys", "import", "prepaid-envelope", "aes-192", "--file", filepath.Join(work, "aes.hex"), "--encoding", "hex")
	return k
}

func (k *figureKiosk) gardu(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), k.program, append([]string{"--config", k.config}, args...)...) //nolint:gosec // G204: built above
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// fill puts n waiting requests into the journal, each of another customer.
func (k *figureKiosk) fill(t *testing.T, n int) {
	t.Helper()
	set, err := loadSettings(k.config)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	ag := newAgent(set, log)
	require.NoError(t, set.makeFolders())
	ag.keys, err = set.openKeystore(log)
	require.NoError(t, err)
	require.NoError(t, ag.openAudit(t.Context()))
	db, err := ag.openJournal(t.Context())
	require.NoError(t, err)
	policies := snap.FinpayPolicies()
	p := policies[slices.IndexFunc(policies, func(p txn.Policy) bool { return p.Operation == txn.FinpayResetPIN })]
	at := txn.MachineClock()()
	errs := [64]error{}
	var next atomic.Int64
	var work sync.WaitGroup
	for w := range errs {
		work.Go(func() {
			for i := next.Add(1); i <= int64(n) && errs[w] == nil; i = next.Add(1) {
				fields := map[string]string{"phoneNo": fmt.Sprintf("0812%08d", i)}
				errs[w] = db.Add(t.Context(), &txn.Request{
					ID: rand.Text(), Key: rand.Text(), Content: fmt.Sprintf("%064x", i), Operation: p.Operation,
					Customer: p.Customer(fields), Fields: fields, Reference: db.Identity().ExternalID(uint64(i)), //nolint:gosec // G115: small
					Created: at.Wall, Expires: at.Wall.Add(p.Wait), State: txn.Queued, Step: 1, NotBefore: at.Wall, At: at,
				}, nil)
			}
		})
	}
	work.Wait()
	require.NoError(t, errors.Join(errs[:]...))
	require.NoError(t, db.Close())
	require.NoError(t, ag.audit.Close())
	require.NoError(t, ag.keys.Close())
}

// start starts the agent and ends it again. It returns how many seconds passed
// until it was in service, and the anonymous memory, in MB, of agent and worker
// after they have been left alone for a while.
func (k *figureKiosk) start(t *testing.T) (seconds, megabytes float64) {
	t.Helper()
	cmd := exec.Command(k.program, "--config", k.config, "run") //nolint:gosec,noctx // G204: built above; ended below
	log := new(bytes.Buffer)
	cmd.Stderr = log
	began := time.Now()
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		require.NoError(t, cmd.Wait(), "%s", log)
	}()
	for !k.healthy(t.Context()) {
		require.Less(t, time.Since(began), time.Minute, "%s", log)
		time.Sleep(time.Millisecond)
	}
	seconds = time.Since(began).Seconds()
	time.Sleep(3 * time.Second)
	return seconds, anonymous(t, cmd.Process.Pid)
}

func (k *figureKiosk) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.screen+"/healthz", http.NoBody)
	if err != nil {
		return false
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	return err == nil && bytes.Contains(b, []byte(`"status":"ok"`))
}

// anonymous is the anonymous memory of a process and its children, in MB.
func anonymous(t *testing.T, pid int) (megabytes float64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			require.NoError(t, err)
			megabytes = float64(kb) / 1000
		}
	}
	require.Positive(t, megabytes)
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	for _, f := range tasks {
		b, err := os.ReadFile(f) //nolint:gosec // G304: of a process started above
		require.NoError(t, err)
		for _, child := range strings.Fields(string(b)) {
			n, err := strconv.Atoi(child)
			require.NoError(t, err)
			megabytes += anonymous(t, n)
		}
	}
	return megabytes
}

func figureMedian(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}
