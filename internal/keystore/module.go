package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks bounds the symbolic links on the way to the module.
const maxLinks = 40

// checkModule checks that path leads to a file that only root can have put
// there: every folder on the way, also behind symbolic links, and the file
// itself belong to root and can be written by no one else. Code of whoever could
// replace it would get the token's PIN.
func checkModule(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return configuration("module: %q is no clean absolute path", path)
	}
	at := "/"
	rest := strings.Split(path[1:], "/")
	if err := onlyRoot(at); err != nil {
		return err
	}
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		st, err := os.Lstat(next)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrModule, err)
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			if err := onlyRoot(next); err != nil {
				return err
			}
			at = next
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%w: %s: too many symbolic links", ErrModule, path)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrModule, err)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(strings.TrimPrefix(target, "/"), "/"), rest...)
	}
	if st, err := os.Stat(at); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a file", ErrModule, path)
	}
	return nil
}

func onlyRoot(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("file owner unknown")
	}
	if sys.Uid != 0 || st.Mode().Perm()&0o022 != 0 {
		return configuration("module: others than root can change %s, and with it the program that gets the token's PIN; correct its owner and mode", path)
	}
	return nil
}
