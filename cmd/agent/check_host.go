package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gardu/internal/txn"
)

// Room on the journal's disk. A journal of 10,000 requests takes some 60 MB, and the
// same again while it is written anew.
const (
	roomNeeded  = 32 << 20
	roomWanted  = 256 << 20
	nodesNeeded = 100
)

// host looks at what the machine itself must offer.
func (p *preflight) host(set *settings) {
	if os.Geteuid() == 0 {
		if _, err := user.Lookup(serviceUser); err == nil {
			p.warn("user", "this check runs as root, whom every file is open to",
				"to judge what the service may do, run: sudo -u "+serviceUser+" gardu check")
		}
	}
	for _, d := range []struct{ what, key, dir string }{
		{"folder journal", "journal.path", filepath.Dir(set.Journal.Path)},
		{"folder audit", "audit.path", filepath.Dir(set.Audit.Path)},
		{"folder latch", "token.latch", filepath.Dir(set.Token.Latch)},
	} {
		p.folder(d.what, d.key, d.dir)
	}
	p.volatile("key_dir", set.Journal.KeyDir, true)
	p.volatile("runtime folder", filepath.Dir(set.Admin.Socket), false)
	p.room(filepath.Dir(set.Journal.Path))
	p.staff(set)
	p.operators(set)
	p.machineClock()
}

// folder: it must be there and writable, or somebody must be able to make it.
func (p *preflight) folder(what, key, dir string) {
	at, there := nearest(dir)
	err := unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	switch {
	case there && err == nil:
		p.ok(what, "%s can be written", dir)
	case there:
		p.fail(exitFailed, what, fmt.Sprintf("%s cannot be written by this user (%v)", dir, err),
			fmt.Sprintf("chown it to the service's user, or name another place in %s", key))
	case err == nil:
		p.ok(what, "%s will be made when the agent starts", dir)
	default:
		p.fail(exitFailed, what, fmt.Sprintf("%s is not there, and this user cannot make it in %s (%v)", dir, at, err),
			fmt.Sprintf("make it for the service's user, or name another place in %s", key))
	}
}

// nearest is the folder itself, or the closest one above it that is there.
func nearest(dir string) (at string, there bool) {
	for at = dir; ; at = filepath.Dir(at) {
		if st, err := os.Stat(at); err == nil && st.IsDir() {
			return at, at == dir
		}
		if at == "/" || at == "." {
			return at, false
		}
	}
}

// volatile: what stands in a folder must not survive the power.
func (p *preflight) volatile(what, dir string, strict bool) {
	at, _ := nearest(dir)
	var st unix.Statfs_t
	err := unix.Statfs(at, &st)
	switch {
	case err != nil:
		p.fail(exitFailed, what, fmt.Sprintf("%s cannot be looked at: %v", at, err), "check the path and its rights")
	case st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC:
		p.ok(what, "%s is in memory only", dir)
	case strict:
		p.fail(exitFailed, what, dir+" is on a disk, where a destroyed key of a PIN could be found again",
			"set journal.key_dir to a folder on tmpfs, such as /run/gardu/keys")
	default:
		p.warn(what, dir+" is on a disk; the socket and the screen's cookie key survive a power cut there",
			"set admin.socket to a path on tmpfs, such as /run/gardu/admin.sock")
	}
}

func (p *preflight) room(dir string) {
	at, _ := nearest(dir)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		p.fail(exitFailed, "disk", fmt.Sprintf("%s cannot be looked at: %v", at, err), "check the path and its rights")
		return
	}
	free := st.Bavail * uint64(st.Bsize) //nolint:gosec // G115: a block size is not negative
	text := fmt.Sprintf("%d MB free at %s", free>>20, at)
	const do = "remove old logs and packages there, or give it a larger disk; a full disk stops new requests"
	switch {
	case st.Flags&unix.ST_RDONLY != 0:
		p.fail(exitFailed, "disk", at+" is mounted read-only", "look at 'dmesg' for a failing disk, mend it and mount it writable")
	case free < roomNeeded, st.Files > 0 && st.Ffree < nodesNeeded:
		p.fail(exitFailed, "disk", fmt.Sprintf("%s, %d files more", text, st.Ffree), do)
	case free < roomWanted:
		p.warn("disk", text, do)
	default:
		p.ok("disk", "%s", text)
	}
}

// staff: without the file the agent does not start.
func (p *preflight) staff(set *settings) {
	if set.Screen.Staff == "" {
		return
	}
	_, missing := os.Stat(set.Screen.Staff)
	l, err := readStaff(set.Screen.Staff, slog.New(slog.DiscardHandler))
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		p.fail(exitFailed, "staff_file", set.Screen.Staff+" is not there", "put it there, mode 0600, with a [[staff]] table for each member of staff")
	case err != nil:
		p.failed(exitFailed, "staff_file", err)
	default:
		p.ok("staff_file", "%s names %d", set.Screen.Staff, len(l.staff))
	}
}

// machineClock: signatures carry the time, and a wrong one is refused.
func (p *preflight) machineClock() {
	r := txn.MachineClock()()
	if !r.Kept {
		p.warn("clock", r.Wall.Format("2006-01-02 15:04:05 -07:00")+", and no time service keeps it",
			"start systemd-timesyncd or chrony and let it reach its server; until then compare this time with a watch")
		return
	}
	p.ok("clock", "%s, kept by a time service", r.Wall.Format("2006-01-02 15:04:05 -07:00"))
}
