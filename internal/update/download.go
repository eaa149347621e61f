package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// What can go wrong with a download.
var (
	// ErrDisk: there is no room.
	ErrDisk = errors.New("there is no room on the disk")
	// ErrTampered: the file is not the one that was signed.
	ErrTampered = errors.New("the file is not the one that was signed")
)

const (
	chunk      = 64 << 10
	syncEvery  = 1 << 20 // bytes that a power cut can cost
	maxBarren  = 6       // attempts in a row that brought hardly a byte
	firstPause = 500 * time.Millisecond
	longPause  = 30 * time.Second
)

// download fetches a target into a folder under its digest, resuming what is there
// already. What it returns is whole, verified and on disk. Errors: ErrDisk,
// ErrTampered, ErrMissing, ErrNetwork; after ErrNetwork what came stays and is gone
// on with the next time.
func download(ctx context.Context, src *Source, t Target, dir string, pause time.Duration) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: releases are public
		return "", err
	}
	done := filepath.Join(dir, t.SHA256)
	if sum, n, err := hashFile(done); err == nil && sum == t.SHA256 && n == t.Length {
		return done, nil
	}
	if pause <= 0 {
		pause = firstPause
	}
	p := &part{src: src, t: t, path: done + ".part", pause: pause}
	err := p.fill(ctx)
	if errors.Is(err, ErrTampered) && p.resumed {
		// What an earlier run left may have been damaged by a power cut; without it the
		// file gets one more chance.
		if err = os.Remove(p.path); err == nil {
			p = &part{src: src, t: t, path: done + ".part", pause: pause}
			err = p.fill(ctx)
		}
	}
	if errors.Is(err, ErrTampered) {
		_ = os.Remove(p.path)
	}
	if err != nil {
		return "", fmt.Errorf("download %s: %w", t.Name, err)
	}
	if err := os.Rename(p.path, done); err != nil {
		return "", err
	}
	return done, syncDir(dir)
}

// part is a file on its way.
type part struct {
	src     *Source
	t       Target
	path    string
	pause   time.Duration
	resumed bool

	f    *os.File
	n    int64 // bytes that are there
	sum  hash.Hash
	last int64 // n at the last sync
}

func (p *part) fill(ctx context.Context) (err error) {
	p.f, err = os.OpenFile(p.path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o644) //nolint:gosec // G302: releases are public
	if err != nil {
		return roomFor(err)
	}
	defer func() { err = errors.Join(err, p.f.Close()) }()
	if err := p.begin(); err != nil {
		return err
	}
	barren := 0
	for p.n < p.t.Length {
		before := p.n
		err := p.read(ctx)
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrNetwork, context.Cause(ctx))
		case !errors.Is(err, ErrNetwork):
			return err
		}
		if p.n-before >= paceLeast {
			barren = 0
			continue // the way works: go on at once
		}
		if barren++; barren >= maxBarren {
			return err
		}
		if err := rest(ctx, p.pause<<(barren-1)); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != p.t.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s and %s was signed", ErrTampered, got, p.t.SHA256)
	}
	return p.f.Sync()
}

// begin takes the space for all of it and reads what is there already.
func (p *part) begin() error {
	st, err := p.f.Stat()
	if err != nil {
		return err
	}
	if st.Size() > p.t.Length {
		if err := p.f.Truncate(0); err != nil {
			return err
		}
	}
	if err := p.reserve(); err != nil {
		return err
	}
	p.sum = sha256.New()
	p.n, err = io.Copy(p.sum, p.f)
	p.last, p.resumed = p.n, p.n > 0
	return err
}

// reserve takes the space without making the file longer: its length says how much
// has come.
func (p *part) reserve() error {
	err := unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, p.t.Length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		var fs unix.Statfs_t
		if err := unix.Fstatfs(int(p.f.Fd()), &fs); err != nil {
			return err
		}
		if free := int64(fs.Bavail) * fs.Bsize; free < p.t.Length { //nolint:gosec // G115: disks are smaller
			return fmt.Errorf("%w: %d bytes are free and %d are needed", ErrDisk, free, p.t.Length)
		}
		return nil
	}
	return roomFor(err)
}

func roomFor(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	return err
}

// read makes one request and takes what it brings.
func (p *part) read(ctx context.Context) error {
	r, from, size, err := p.src.Open(ctx, p.t.remote(), p.n)
	if err != nil {
		return err
	}
	defer r.Close()
	if size >= 0 && size != p.t.Length {
		return fmt.Errorf("%w: %d bytes are offered and %d were signed", ErrTampered, size, p.t.Length)
	}
	if _, err := io.CopyN(io.Discard, r, p.n-from); err != nil { // a host that cannot resume
		return fmt.Errorf("%w: %w", ErrNetwork, err)
	}
	b := make([]byte, chunk)
	for p.n < p.t.Length {
		n, err := r.Read(b[:min(chunk, p.t.Length-p.n)])
		if n > 0 {
			if _, err := p.f.WriteAt(b[:n], p.n); err != nil {
				return roomFor(err)
			}
			_, _ = p.sum.Write(b[:n])
			p.n += int64(n)
			if p.n-p.last >= syncEvery {
				if err := p.f.Sync(); err != nil {
					return roomFor(err)
				}
				p.last = p.n
			}
		}
		if err != nil && p.n < p.t.Length {
			return fmt.Errorf("%w: it broke off after %d of %d bytes: %w", ErrNetwork, p.n, p.t.Length, err)
		}
	}
	if size < 0 {
		// The host did not say how long it is: one byte more than was signed is another file.
		if n, _ := r.Read(b[:1]); n > 0 {
			return fmt.Errorf("%w: it is longer than the %d bytes that were signed", ErrTampered, p.t.Length)
		}
	}
	return nil
}

// rest waits about so long.
func rest(ctx context.Context, d time.Duration) error {
	d = min(d, longPause)
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrNetwork, context.Cause(ctx))
	case <-time.After(d/2 + rand.N(d/2+1)): //nolint:gosec // G404: only spreads retries
		return nil
	}
}
