package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// sector is what a disk writes whole or not at all.
const sector = 512

var (
	errNoPower = errors.New("the power is away")
	errSick    = errors.New("the disk takes no writes")
)

// cache is a disk with a volatile write cache: what was written since the last
// flush may be there after a power cut, or not, each sector for itself and in any
// of the versions it had. It is safe for concurrent use.
type cache struct {
	mu    sync.Mutex // guards what follows
	image *os.File
	bytes int64
	dirty map[int64][][]byte // by sector: what was written since the last flush, oldest first
	dead  bool
	sick  bool
}

func newCache(image string) (*cache, error) {
	f, err := os.OpenFile(image, os.O_RDWR, 0) //nolint:gosec // G304: the campaign's own folder
	if err != nil {
		return nil, fmt.Errorf("open the disk's image: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the disk's image: %w", err), f.Close())
	}
	return &cache{image: f, bytes: fi.Size(), dirty: map[int64][][]byte{}}, nil
}

func (c *cache) size() int64 { return c.bytes }

func (c *cache) read(p []byte, off int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errNoPower
	}
	if _, err := c.image.ReadAt(p, off); err != nil {
		return err
	}
	for at := off / sector; at*sector < off+int64(len(p)); at++ {
		if v := c.dirty[at]; v != nil {
			overlay(p, off, v[len(v)-1], at*sector)
		}
	}
	return nil
}

// overlay copies what of src (at srcOff of the disk) lies in dst (at dstOff).
func overlay(dst []byte, dstOff int64, src []byte, srcOff int64) {
	if srcOff >= dstOff {
		copy(dst[srcOff-dstOff:], src)
		return
	}
	copy(dst, src[dstOff-srcOff:])
}

func (c *cache) write(p []byte, off int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return errNoPower
	case c.sick:
		return errSick
	}
	for at := off / sector; at*sector < off+int64(len(p)); at++ {
		s := make([]byte, sector)
		if v := c.dirty[at]; v != nil {
			copy(s, v[len(v)-1])
		} else if _, err := c.image.ReadAt(s, at*sector); err != nil {
			return err
		}
		if from := at * sector; from >= off {
			copy(s, p[from-off:])
		} else {
			copy(s[off-from:], p)
		}
		c.dirty[at] = append(c.dirty[at], s)
	}
	return nil
}

func (c *cache) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
		return errNoPower
	case c.sick:
		return errSick
	}
	for at, v := range c.dirty {
		if _, err := c.image.WriteAt(v[len(v)-1], at*sector); err != nil {
			return err
		}
		delete(c.dirty, at)
	}
	return nil
}

// fail lets writes and flushes fail, or no longer. What fails is not kept.
func (c *cache) fail(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sick = on
}

// cut takes the power away: choose(n) says for each sector which of n versions it
// is left with, 0 for the one of the last flush.
func (c *cache) cut(choose func(n int) int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	for at, v := range c.dirty {
		if n := choose(len(v) + 1); n > 0 {
			if _, err := c.image.WriteAt(v[n-1], at*sector); err != nil {
				return fmt.Errorf("cut the power: %w", err)
			}
		}
	}
	c.dirty = nil
	return nil
}

func (c *cache) close() error { return c.image.Close() }

// Volatile is ext4 on a disk with a volatile write cache, played in this process.
// Cut keeps of what was not flushed a random part, sector by sector.
type Volatile struct {
	dir, serving, image string
	choose              func(n int) int

	cache *cache
	host  *host
	loop  string
}

var _ Power = (*Volatile)(nil)

// NewVolatile makes the file system in a folder of its own below dir. choose gives
// a random number below n.
func NewVolatile(dir string, choose func(n int) int) (*Volatile, error) {
	d := &Volatile{
		dir: filepath.Join(dir, "mnt"), serving: filepath.Join(dir, "device"), image: filepath.Join(dir, "disk.img"),
		choose: choose,
	}
	for _, p := range []string{d.dir, d.serving} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, fmt.Errorf("make a mount point: %w", err)
		}
	}
	if err := makeExt4(d.image); err != nil {
		return nil, err
	}
	if err := d.plugIn(); err != nil {
		return nil, err
	}
	return d, nil
}

// plugIn connects the image as a disk and mounts it.
func (d *Volatile) plugIn() (err error) {
	if d.cache, err = newCache(d.image); err != nil {
		return err
	}
	if d.host, err = serve(d.serving, d.cache); err != nil {
		return errors.Join(err, d.cache.close())
	}
	if d.loop, err = attach(filepath.Join(d.serving, diskName)); err != nil {
		return errors.Join(err, d.host.close(d.serving), d.cache.close())
	}
	if err := mountExt4(d.loop, d.dir); err != nil {
		return errors.Join(err, d.pullOut())
	}
	return nil
}

// pullOut disconnects the disk, which is not mounted.
func (d *Volatile) pullOut() error {
	return errors.Join(detach(d.loop), d.host.close(d.serving), d.cache.close())
}

// Dir implements Power.
func (d *Volatile) Dir() string { return d.dir }

// Image implements Power.
func (d *Volatile) Image() string { return d.image }

// Fail lets everything that is written to the disk fail with EIO, or no longer.
func (d *Volatile) Fail(on bool) { d.cache.fail(on) }

// Cut implements Power.
func (d *Volatile) Cut() error { return d.cache.cut(d.choose) }

// Restore implements Power.
func (d *Volatile) Restore() error {
	if err := d.Close(); err != nil {
		return err
	}
	return d.plugIn()
}

// Close implements Power. Without a cut before it, everything is written out.
func (d *Volatile) Close() error {
	if err := unmount(d.dir); err != nil {
		return err
	}
	return d.pullOut()
}
