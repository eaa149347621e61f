package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Report is what Verify saw, up to the first bad line.
type Report struct {
	Records  uint64    `json:"records"`
	Gaps     uint64    `json:"gaps"`      // lines that say that something is missing
	TimeBack uint64    `json:"time_back"` // lines whose time is before that of the line above; clocks are set
	First    time.Time `json:"first"`     // of the first line
	Last     time.Time `json:"last"`      // of the last line
	Head     string    `json:"head"`      // hash of the last line, in hexadecimal
}

// ChainError is the first line of a record that is not as it was written.
type ChainError struct {
	Path   string
	Line   int   // from 1
	Offset int64 // where the line begins, in bytes
	Seq    uint64
	Err    error
}

// Error says which line, and what is wrong with it.
func (e *ChainError) Error() string {
	return fmt.Sprintf("audit record %s is not intact: line %d (byte %d, sequence number %d): %v", e.Path, e.Line, e.Offset, e.Seq, e.Err)
}

// Unwrap returns the cause.
func (e *ChainError) Unwrap() error { return e.Err }

var errTorn = errors.New("it has no end")

// Verify reads the whole record and checks every line and every link. A record
// that is not intact is a *ChainError. Lines that are appended meanwhile are not
// looked at.
func Verify(ctx context.Context, path string) (Report, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's
	if err != nil {
		return Report{}, fmt.Errorf("verify audit record: %w", err)
	}
	defer func() { _ = f.Close() }()
	size, err := wholeSize(ctx, f)
	if err != nil {
		return Report{}, fmt.Errorf("verify audit record %s: %w", path, err)
	}
	return verify(ctx, path, io.NewSectionReader(f, 0, size))
}

// settle is how long the end of a file may stay half a line before that counts as
// torn. A line is written at once.
const settle = 200 * time.Millisecond

// wholeSize is the size of the file at a moment when its end is no line that is
// being written. It takes no lock: readers have no right to it, and a copy of the
// record has none.
func wholeSize(ctx context.Context, f *os.File) (int64, error) {
	size, since := int64(-1), time.Now()
	for {
		fi, err := f.Stat()
		if err != nil {
			return 0, err
		}
		if now := fi.Size(); now != size {
			size, since = now, time.Now()
		}
		var last [1]byte
		if size == 0 {
			return 0, nil
		}
		if _, err := f.ReadAt(last[:], size-1); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read: %w", err)
		}
		if last[0] == '\n' || time.Since(since) >= settle {
			return size, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(lockEvery):
		}
	}
}

func verify(ctx context.Context, path string, src io.Reader) (Report, error) {
	var rep Report
	var head Head
	var offset int64
	in := bufio.NewReaderSize(src, maxLine+1)
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return rep, err
		}
		bad := func(seq uint64, err error) (Report, error) {
			return rep, &ChainError{Path: path, Line: n, Offset: offset, Seq: seq, Err: err}
		}
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return rep, nil
		case errors.Is(err, io.EOF):
			return bad(head.Seq+1, errTorn)
		case errors.Is(err, bufio.ErrBufferFull):
			return bad(head.Seq+1, errLong)
		case err != nil:
			return rep, fmt.Errorf("verify audit record %s: read: %w", path, err)
		}
		r, h, err := parseLine(line[:len(line)-1])
		switch {
		case err != nil && r == nil:
			return bad(head.Seq+1, err)
		case err != nil:
			return bad(r.seq, err)
		case r.prev != head.hash:
			return bad(r.seq, errChain)
		case r.seq != head.Seq+1:
			return bad(r.seq, errOrder)
		}
		rep.take(r, h)
		head = Head{Seq: r.seq, hash: h}
		offset += int64(len(line))
	}
}

func (rep *Report) take(r *record, h hash) {
	at, err := time.Parse(timeFormat, r.time)
	if err != nil {
		return // parseLine has checked it
	}
	if rep.Records == 0 {
		rep.First = at
	} else if at.Before(rep.Last) {
		rep.TimeBack++
	}
	rep.Last, rep.Head = at, h.String()
	rep.Records++
	if r.act == ActGap {
		rep.Gaps++
	}
}
