package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// device is what one file in FUSE is made of: a block device in a few calls.
type device interface {
	size() int64
	read(p []byte, off int64) error
	write(p []byte, off int64) error
	flush() error
}

// Opcodes of the FUSE protocol, from linux/fuse.h.
const (
	fuseLookup      = 1
	fuseForget      = 2
	fuseGetattr     = 3
	fuseSetattr     = 4
	fuseOpen        = 14
	fuseRead        = 15
	fuseWrite       = 16
	fuseStatfs      = 17
	fuseRelease     = 18
	fuseFsync       = 20
	fuseFlush       = 25
	fuseInit        = 26
	fuseOpendir     = 27
	fuseReaddir     = 28
	fuseReleasedir  = 29
	fuseAccess      = 34
	fuseInterrupt   = 36
	fuseDestroy     = 38
	fuseBatchForget = 42
)

const (
	fuseMajor, fuseMinor = 7, 31
	fuseMaxPages         = 1 << 22 // in the flags of INIT: max_pages counts
	fuseDirectIO         = 1       // in the flags of OPEN: nothing is cached above us
	maxWrite             = 1 << 20
	inHeader             = 40
	outHeader            = 16
	rootNode, diskNode   = 1, 2
	diskName             = "disk"
)

// host serves one file named "disk" in a folder, for as long as the folder is
// mounted. It speaks just the part of the FUSE protocol that a loop device needs.
type host struct {
	fd   int
	dev  device
	done chan struct{} // closed when the kernel has let go
}

// serve mounts dir and serves dev in it.
func serve(dir string, dev device) (*host, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("gardu-crash", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("mount FUSE: %w", err), unix.Close(fd))
	}
	h := &host{fd: fd, dev: dev, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		h.loop()
	}()
	return h, nil
}

// close unmounts dir, which must not be in use, and waits for the kernel.
func (h *host) close(dir string) error {
	if err := unmount(dir); err != nil {
		return err
	}
	<-h.done
	return unix.Close(h.fd)
}

func (h *host) loop() {
	buf := make([]byte, maxWrite+1<<12)
	for {
		n, err := unix.Read(h.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue
		case err != nil || n < inHeader:
			return // ENODEV: unmounted
		}
		in := binary.NativeEndian
		op, unique, node := in.Uint32(buf[4:]), in.Uint64(buf[8:]), in.Uint64(buf[16:])
		if op == fuseForget || op == fuseBatchForget || op == fuseInterrupt {
			continue // none of them is answered
		}
		body, errno := h.answer(op, node, buf[inHeader:n])
		out := make([]byte, outHeader, outHeader+len(body))
		if errno != 0 {
			body = nil
		}
		in.PutUint32(out, uint32(outHeader+len(body))) //nolint:gosec // G115: at most maxWrite
		in.PutUint32(out[4:], uint32(-int32(errno)))   //nolint:gosec // G115: the protocol's signed field
		in.PutUint64(out[8:], unique)
		if _, err := unix.Write(h.fd, append(out, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

// answer carries one request out and returns what stands after the answer's header.
func (h *host) answer(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	e := binary.NativeEndian
	switch op {
	case fuseInit:
		out := make([]byte, 64)
		e.PutUint32(out, fuseMajor)
		e.PutUint32(out[4:], fuseMinor)
		e.PutUint32(out[8:], maxWrite) // max_readahead
		e.PutUint32(out[12:], fuseMaxPages)
		e.PutUint16(out[16:], 16) // max_background
		e.PutUint16(out[18:], 16)
		e.PutUint32(out[20:], maxWrite)
		e.PutUint32(out[24:], 1)             // time_gran
		e.PutUint16(out[28:], maxWrite/4096) // max_pages
		return out, 0
	case fuseLookup:
		if node != rootNode || strings.TrimRight(string(in), "\x00") != diskName {
			return nil, unix.ENOENT
		}
		out := make([]byte, 40, 128)
		e.PutUint64(out, diskNode)
		return append(out, h.attr(diskNode)...), 0
	case fuseGetattr, fuseSetattr:
		return append(make([]byte, 16), h.attr(node)...), 0
	case fuseOpen, fuseOpendir:
		out := make([]byte, 16)
		e.PutUint64(out, node)
		if op == fuseOpen {
			e.PutUint32(out[8:], fuseDirectIO)
		}
		return out, 0
	case fuseRead:
		off, n := int64(e.Uint64(in[8:])), int64(e.Uint32(in[16:])) //nolint:gosec // G115: the kernel's own offsets
		if off >= h.dev.size() {
			return nil, 0
		}
		p := make([]byte, min(n, h.dev.size()-off))
		if err := h.dev.read(p, off); err != nil {
			return nil, unix.EIO
		}
		return p, 0
	case fuseWrite:
		off, n := int64(e.Uint64(in[8:])), e.Uint32(in[16:]) //nolint:gosec // G115: the kernel's own offsets
		data := in[40:]
		if uint64(len(data)) < uint64(n) || off+int64(n) > h.dev.size() {
			return nil, unix.EINVAL
		}
		if err := h.dev.write(data[:n], off); err != nil {
			return nil, unix.EIO
		}
		out := make([]byte, 8)
		e.PutUint32(out, n)
		return out, 0
	case fuseFsync:
		if err := h.dev.flush(); err != nil {
			return nil, unix.EIO
		}
		return nil, 0
	case fuseStatfs:
		return make([]byte, 80), 0
	case fuseReaddir, fuseRelease, fuseReleasedir, fuseFlush, fuseAccess, fuseDestroy:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// attr is struct fuse_attr of the folder or its file.
func (h *host) attr(node uint64) []byte {
	e := binary.NativeEndian
	out := make([]byte, 88)
	e.PutUint64(out, node)
	mode, links := uint32(unix.S_IFDIR|0o700), uint32(2)
	if node == diskNode {
		mode, links = unix.S_IFREG|0o600, 1
		e.PutUint64(out[8:], uint64(h.dev.size()))      //nolint:gosec // G115: never negative
		e.PutUint64(out[16:], uint64(h.dev.size()/512)) //nolint:gosec // G115: likewise
	}
	e.PutUint32(out[60:], mode)
	e.PutUint32(out[64:], links)
	e.PutUint32(out[80:], 4096) // block size
	return out
}
