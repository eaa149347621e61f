// Package disk gives a journal a file system of its own that can be broken: one
// that is full, and two whose power can be cut. It needs root, and loop devices or
// FUSE; the errors of the constructors say what is missing.
package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Size of the file systems, in bytes.
const size = 48 << 20

// Power is a file system whose power can be cut. It is not safe for concurrent use.
type Power interface {
	// Dir is where it is mounted.
	Dir() string
	// Cut takes the power away: from now on nothing reaches the disk. Who writes to
	// it must be killed before Restore.
	Cut() error
	// Restore brings the power back and mounts what is left.
	Restore() error
	// Close unmounts it. Image stays.
	Close() error
	// Image is the file that holds what is on the disk.
	Image() string
}

// Ext4 is ext4 on a loop device. Cut stops the file system without writing out
// what only its memory holds; what it has handed to the device is kept.
type Ext4 struct {
	dir, image, loop string
}

var _ Power = (*Ext4)(nil)

// NewExt4 makes the file system in a folder of its own below dir.
func NewExt4(dir string) (*Ext4, error) {
	d := &Ext4{dir: filepath.Join(dir, "mnt"), image: filepath.Join(dir, "disk.img")}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a mount point: %w", err)
	}
	if err := makeExt4(d.image); err != nil {
		return nil, err
	}
	var err error
	if d.loop, err = attach(d.image); err != nil {
		return nil, err
	}
	if err := mountExt4(d.loop, d.dir); err != nil {
		return nil, errors.Join(err, detach(d.loop))
	}
	return d, nil
}

// Dir implements Power.
func (d *Ext4) Dir() string { return d.dir }

// Image implements Power.
func (d *Ext4) Image() string { return d.image }

// From linux/fs/ext4: EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH, which
// leaves also the file system's own journal unwritten.
const (
	ext4Shutdown   = 0x8004587d
	ext4NoLogFlush = 2
)

// Cut implements Power.
func (d *Ext4) Cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return fmt.Errorf("cut the power: %w", err)
	}
	defer func() { _ = f.Close() }()
	how := uint32(ext4NoLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 { //nolint:gosec // G103: the ioctl takes a pointer
		return fmt.Errorf("cut the power: EXT4_IOC_SHUTDOWN: %w", errno)
	}
	return nil
}

// Restore implements Power.
func (d *Ext4) Restore() error {
	if err := unmount(d.dir); err != nil {
		return err
	}
	return mountExt4(d.loop, d.dir)
}

// Close implements Power.
func (d *Ext4) Close() error { return errors.Join(unmount(d.dir), detach(d.loop)) }

// Small is a file system in memory that is soon full.
type Small struct{ dir string }

// NewSmall mounts one of so many bytes on dir, which it makes.
func NewSmall(dir string, bytes int) (*Small, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a mount point: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return nil, fmt.Errorf("mount a small tmpfs: %w", err)
	}
	return &Small{dir}, nil
}

func (s *Small) filler() string { return filepath.Join(s.dir, "others") }

// Fill lets somebody else take all that is left.
func (s *Small) Fill() error {
	f, err := os.OpenFile(s.filler(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return errors.Join(fmt.Errorf("fill the disk: %w", err), f.Close())
	}
	return f.Close()
}

// Free gives it back.
func (s *Small) Free() error {
	if err := os.Remove(s.filler()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}

// Close unmounts it; what it held is gone.
func (s *Small) Close() error { return unmount(s.dir) }

func makeExt4(image string) error {
	f, err := os.OpenFile(image, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // G304: the campaign's own folder
	if err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	_, err = tool("mkfs.ext4", "-q", "-F", image)
	return err
}

func attach(image string, more ...string) (string, error) {
	out, err := tool("losetup", append(append([]string{"--find", "--show"}, more...), image)...)
	return strings.TrimSpace(out), err
}

func detach(loop string) error {
	_, err := tool("losetup", "--detach", loop)
	return err
}

func mountExt4(device, dir string) error {
	if err := unix.Mount(device, dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	return nil
}

// unmount waits a little for who was just killed to be gone.
func unmount(dir string) error {
	var err error
	for range 100 {
		if err = unix.Unmount(dir, 0); err == nil || !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// tool runs a program of the system and returns what it printed.
func tool(name string, args ...string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", fmt.Errorf("%s is not installed", name)
	}
	out, err := exec.Command(path, args...).CombinedOutput() //nolint:gosec,noctx // G204: fixed names, our own arguments; ends by itself
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
