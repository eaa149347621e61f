package queue_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

const (
	figureRounds = 11
	figureTurn   = 300 * time.Millisecond // of each side in each round
)

// TestFigureAccept compares accepting a request, with everything that an acknowledged
// one needs (sealed, in one commit with the journal's counters and the head of the
// audit record), with two others by turns: the same number of bytes appended to a file
// and synced, one after the other as a log with one writer does, and a peer, goqite
// on SQLite with synchronous FULL. Producers are as many on every side.
func TestFigureAccept(t *testing.T) {
	if os.Getenv("GARDU_BENCH") != "1" {
		t.Skip("a figure: set GARDU_BENCH=1, or run `make bench`")
	}
	peer := buildPeer(t)
	for _, c := range []struct {
		producers int
		least     float64 // of the plain log; 0: nothing is promised
		peer      bool    // faster than the peer is promised
	}{{1, 0.42, false}, {8, 0, true}, {64, 5, true}} {
		t.Run(fmt.Sprint(c.producers), func(t *testing.T) {
			dir := diskDir(t)
			trail, err := audit.Open(t.Context(), audit.Options{Path: filepath.Join(dir, "audit.log"), Who: "figure"})
			require.NoError(t, err)
			opt := optionsIn(t, dir)
			opt.Reserve, opt.MaxItems, opt.MaxBytes = 0, 10_000_000, 1<<32 // all as shipped, but never full
			opt.Stamp = func() []byte { return trail.Head().Stamp() }
			db := open(t, opt)
			accept := func() error { return db.Add(t.Context(), figureRequest(), nil) }
			require.NoError(t, accept())
			size := db.Stats().Bytes
			require.GreaterOrEqual(t, size, int64(512))
			plain := newPlainLog(t, dir, size)
			other := startPeer(t, peer, filepath.Join(dir, "peer.db"), size)

			added := 1
			var ours, reference, theirs []float64
			sides := []func(){
				func() {
					n, rate := perSecond(t, c.producers, accept)
					added, ours = added+n, append(ours, rate)
				},
				func() {
					_, rate := perSecond(t, c.producers, plain.append)
					reference = append(reference, rate)
				},
				func() { theirs = append(theirs, other.perSecond(t, c.producers)) },
			}
			for i := range figureRounds {
				for j := range sides { // whoever goes later may find a busier disk
					sides[(i+j)%len(sides)]()
				}
			}

			// Everybody kept what they promised.
			plain.check(t)
			require.NoError(t, db.Close())
			require.NoError(t, trail.Close())
			db, err = queue.Open(t.Context(), opt)
			require.NoError(t, err)
			require.Equal(t, added, db.Stats().Items)
			require.NoError(t, db.Close())

			ratio, peerRatio := medianRatio(ours, reference), medianRatio(ours, theirs)
			fmt.Printf("BENCH journal_accept_%d ratio=%.2f ours=%.0f requests/s reference=%.0f appends/s\n", c.producers, ratio, median(ours), median(reference))
			fmt.Printf("BENCH journal_accept_%d_peer ratio=%.2f ours=%.0f requests/s reference=%.0f goqite messages/s\n", c.producers, peerRatio, median(ours), median(theirs))
			require.GreaterOrEqual(t, ratio, c.least)
			if c.peer {
				require.Greater(t, peerRatio, 1.0)
			}
		})
	}
}

// plainLog is the least that durable requests cost: bytes appended, one record
// after the other, each synced.
type plainLog struct {
	mu     sync.Mutex // one writer
	file   *os.File
	record []byte
	n      int64
}

func newPlainLog(t *testing.T, dir string, size int64) *plainLog {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "appended"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return &plainLog{file: f, record: make([]byte, size)}
}

func (l *plainLog) append() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
	return appendSync(int(l.file.Fd()), l.record)
}

func (l *plainLog) check(t *testing.T) {
	t.Helper()
	info, err := l.file.Stat()
	require.NoError(t, err)
	require.Equal(t, l.n*int64(len(l.record)), info.Size())
}

// peerTools is a module of its own, so that what is only measured beside us is no
// dependency of the product.
const peerTools = "../../tools/peers"

type peerProgram struct{ program, schema string }

func buildPeer(t *testing.T) peerProgram {
	t.Helper()
	program := filepath.Join(t.TempDir(), "goqite")
	out, err := exec.CommandContext(t.Context(), "go", "-C", peerTools, "build", "-o", program, "./goqite").CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.CommandContext(t.Context(), "go", "-C", peerTools, "list", "-m", "-f", "{{.Dir}}", "maragu.dev/goqite").Output()
	require.NoError(t, err)
	return peerProgram{program, filepath.Join(strings.TrimSpace(string(out)), "schema_sqlite.sql")}
}

// peer is a running one.
type peer struct {
	in   io.Writer
	out  *bufio.Scanner
	size int64
}

func startPeer(t *testing.T, p peerProgram, file string, size int64) *peer {
	t.Helper()
	cmd := exec.Command(p.program, file, p.schema) //nolint:gosec,noctx // G204: built above; it ends with its input
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		require.NoError(t, cmd.Wait())
	})
	return &peer{in, bufio.NewScanner(out), size}
}

func (p *peer) perSecond(t *testing.T, producers int) float64 {
	t.Helper()
	_, err := fmt.Fprintln(p.in, producers, figureTurn.Milliseconds(), p.size)
	require.NoError(t, err)
	require.True(t, p.out.Scan(), "the peer has ended")
	var n, seconds float64
	_, err = fmt.Sscan(p.out.Text(), &n, &seconds)
	require.NoError(t, err)
	require.Positive(t, n)
	return n / seconds
}

// medianRatio is the median of the rounds' own ratios: what disturbs a round
// disturbs both of its sides.
func medianRatio(ours, reference []float64) float64 {
	all := make([]float64, len(ours))
	for i := range ours {
		all[i] = ours[i] / reference[i]
	}
	return median(all)
}

// figureRequest is a request of the shortest operation, with a digest as long as
// in life.
func figureRequest() *txn.Request {
	r := request("081234567890")
	r.Content = strings.Repeat("0f", 32)
	return r
}

// diskDir returns a folder for the test that is not kept in memory, where an
// fdatasync costs nothing.
func diskDir(t *testing.T) string {
	t.Helper()
	inMemory := func(dir string) bool {
		var st unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &st))
		return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
	}
	dir := t.TempDir()
	if inMemory(dir) {
		const build = "../../build"
		require.NoError(t, os.MkdirAll(build, 0o755))
		var err error
		dir, err = os.MkdirTemp(build, "figure-") //nolint:usetesting // t.TempDir is in memory here
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
		require.False(t, inMemory(dir), "a figure of the disk needs one: set TMPDIR to a folder on it")
	}
	return dir
}

func appendSync(fd int, record []byte) error {
	n, err := unix.Write(fd, record)
	if err == nil && n != len(record) {
		err = errors.New("a part of the record was written")
	}
	if err != nil {
		return err
	}
	return unix.Fdatasync(fd)
}

// perSecond has producers do op until a turn is over. It returns how often they
// did it, and how often in a second.
func perSecond(t *testing.T, producers int, op func() error) (int, float64) {
	t.Helper()
	done, errs := make([]int, producers), make([]error, producers)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range producers {
		wg.Go(func() {
			for errs[i] == nil && time.Since(began) < figureTurn {
				if errs[i] = op(); errs[i] == nil {
					done[i]++
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	require.NoError(t, errors.Join(errs...))
	n := 0
	for _, d := range done {
		n += d
	}
	return n, float64(n) / took.Seconds()
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[len(s)/2]
}
