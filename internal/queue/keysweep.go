package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// defaultSecretMost is longer than any request with a PIN or a one-time password
// may wait.
const defaultSecretMost = 15 * time.Minute

// SweepKeys destroys the key files in dir that are older than longest and returns
// how many. It needs neither token nor journal, so that a secret does not outlive
// its time while one of them is away: the one who waits for them calls it. A
// folder that is not there holds no keys.
func SweepKeys(dir string, longest time.Duration) (int, error) {
	if longest <= 0 {
		longest = defaultSecretMost
	}
	d := &keyDir{path: dir}
	n, err := d.sweep(func(name string) bool {
		age, err := d.age(name)
		return err != nil || age <= longest
	})
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	return n, err
}

// sweepOld is SweepKeys for an open journal.
func (d *keyDir) sweepOld(longest time.Duration) {
	n, err := SweepKeys(d.path, longest)
	if err != nil {
		d.log.Error("old keys of secrets not destroyed", "error", err)
	}
	if n > 0 {
		d.log.Warn("keys of secrets that waited too long destroyed", "count", n)
	}
}

// age is counted by the clock that nobody sets. Only where a file does not say
// when it was made is it the file's own time.
func (d *keyDir) age(name string) (time.Duration, error) {
	path := filepath.Join(d.path, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0) //nolint:gosec // name is checked by isKeyFile
	if err != nil {
		return 0, fmt.Errorf("read the secret's key: %w", err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read the secret's key: %w", err)
	}
	b := make([]byte, min(fi.Size(), maxKeyFile))
	if _, err := f.ReadAt(b, 0); err == nil {
		if w, err := parseWrappedKey(secretKeyMagic, b); err == nil && w.created <= sinceBoot() {
			return time.Duration(sinceBoot()-w.created) * time.Millisecond, nil
		}
	}
	return time.Since(fi.ModTime()), nil
}

// maxKeyFile is more than a wrapped key can take.
const maxKeyFile = 4 + 8 + 1 + 255 + 2 + maxWrapped

// sinceBoot is the time since the machine started, sleep included, in
// milliseconds. A file on tmpfs never outlives what it counts from.
func sinceBoot() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // every Linux since 2.6.39 has this clock
	}
	return ts.Nano() / int64(time.Millisecond)
}
