package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// memfdName is what ps shows of the worker before it has set its own name.
const memfdName = "gardu-token"

// highFD is the least number of the descriptor that the worker is executed
// through, above those that a starting child writes over.
const highFD = 512

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

func memfdCreate(name string, flags int) (int, error) { return unix.MemfdCreate(name, flags) }

// inMemory makes a file that no path leads to and that nobody can change.
func (l *Launcher) inMemory() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	// Where vm.memfd_noexec is 1, only a file that asks for it can be executed.
	fd, err := l.memfd(memfdName, flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3 does not know the word, and needs none
		fd, err = l.memfd(memfdName, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	file := moveUp(os.NewFile(uintptr(fd), memfdName))
	if _, err := file.WriteString(l.program); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("write: %w", err)
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("seal: %w", err)
	}
	return file, nil
}

// inDir makes a file that has no name any more when it returns.
func (l *Launcher) inDir() (_ *os.File, err error) {
	dir, err := os.MkdirTemp(l.opts.Dir, "token-worker-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, memfdName)
	if err := l.write(path); err != nil {
		return nil, err
	}
	file, err := os.Open(path) //nolint:gosec // in the folder just made
	if err != nil {
		return nil, err
	}
	return moveUp(file), nil
}

// write makes the new file path. No process is started in the meantime: a child
// that inherits the descriptor keeps the file open for writing, and then it
// cannot be executed.
func (l *Launcher) write(path string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500) //nolint:gosec // in the folder just made; it is to be executed
	if err != nil {
		return err
	}
	_, err = file.WriteString(l.program)
	return errors.Join(err, file.Close())
}

// helper opens the configured file.
func (l *Launcher) helper() (*os.File, error) {
	file, err := os.Open(l.opts.Helper)
	if err != nil {
		return nil, err
	}
	if err := l.trustHelper(file); err != nil {
		_ = file.Close()
		return nil, err
	}
	return moveUp(file), nil
}

// trustHelper looks at the file and not at the folders above it: what is compared
// and executed is this file, whatever stands at its path later.
func (l *Launcher) trustHelper(file *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is not a file")
	case !l.opts.TrustHelper && (st.Uid != 0 || st.Mode&0o022 != 0):
		return errors.New("others than root can change it; correct its owner and mode")
	}
	return nil
}

// moveUp returns file under a number of highFD or more, or unchanged where the
// limit on open files does not allow that.
func moveUp(file *os.File) *os.File {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, highFD)
	if err != nil {
		return file
	}
	_ = file.Close()
	return os.NewFile(uintptr(fd), file.Name())
}
