package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// tail is how a file ends.
type tail struct {
	head Head  // its last line
	end  int64 // where that line ends, newline included
	junk int64 // bytes behind it that are no line
}

// window is what is read at once, from the end backwards; longer than any line.
const window = 2 * maxLine

// readTail looks for the last line whose hash fits.
func readTail(f *os.File) (tail, error) {
	fi, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	t := tail{end: fi.Size()}
	err = backwards(f, fi.Size(), func(line []byte, end int64) bool {
		r, h, err := parseLine(line)
		if err != nil {
			return true
		}
		t.head, t.end = Head{Seq: r.seq, hash: h}, end
		return false
	})
	if err != nil {
		return tail{}, err
	}
	if t.head.Seq == 0 {
		t.end = 0
	}
	t.junk = fi.Size() - t.end
	return t, nil
}

// Attributes of a gap: the line that was remembered and is not there.
const (
	rememberedSeq  = "remembered_seq"
	rememberedHash = "remembered_hash"
)

// look reports whether the line that want is the head of stands before end, and
// where it does not, whether a gap says so. Only lines that may be one of the two
// are parsed: it may read the whole record.
func look(f *os.File, end int64, want Head) (has, noted bool, err error) {
	own := []byte(`{"seq":` + strconv.FormatUint(want.Seq, 10) + `,`)
	gap := appendMember(nil, "act", ActGap)
	remembered := appendMember(nil, rememberedHash, want.Hash())
	err = backwards(f, end, func(line []byte, _ int64) bool {
		mayOwn := bytes.HasPrefix(line, own)
		if !mayOwn && (!bytes.Contains(line, gap) || !bytes.Contains(line, remembered)) {
			return true
		}
		r, h, err := parseLine(line)
		if err != nil {
			return true
		}
		has = r.seq == want.Seq && h == want.hash
		noted = r.act == ActGap && r.attrs[rememberedHash] == want.Hash()
		return !has && !noted
	})
	return has, noted, err
}

// backwards calls fn with each whole line before size, the last one first, and
// where it ends, until fn returns false. What is longer than a line can be, or
// has no newline, is passed over.
func backwards(f io.ReaderAt, size int64, fn func(line []byte, end int64) bool) error {
	buf := make([]byte, window)
	for end := size; end > 0; {
		from := max(0, end-window)
		b := buf[:end-from]
		if _, err := f.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read: %w", err)
		}
		// b[:n] ends with the newline of the line that is looked at.
		n := bytes.LastIndexByte(b, '\n') + 1
		if n == 0 {
			end = from
			continue
		}
		for n > 0 {
			start := bytes.LastIndexByte(b[:n-1], '\n') + 1
			if start == 0 && from > 0 && n < len(b) {
				break // it may begin before this window; read again from here
			}
			if !fn(b[start:n-1], from+int64(n)) {
				return nil
			}
			n = start
		}
		end = from + int64(n)
	}
	return nil
}

// moveJunk saves what is behind the last line in a file of its own and cuts it off.
func (t *Trail) moveJunk(tail tail) (saved string, err error) {
	var dst *os.File
	for n := 1; ; n++ {
		saved = t.path + ".torn-" + strconv.Itoa(n)
		dst, err = os.OpenFile(saved, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o640) //nolint:gosec // like the record itself
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("save what is no line: %w", err)
		}
	}
	_, err = io.Copy(dst, io.NewSectionReader(t.f, tail.end, tail.junk))
	if err == nil {
		err = dst.Sync()
	}
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = t.f.Truncate(tail.end)
	}
	if err != nil {
		return "", fmt.Errorf("save what is no line: %w", err)
	}
	return saved, nil
}

func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // the path is the configuration's
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
