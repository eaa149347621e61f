package operator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Standing is one operator of the file.
type Standing struct {
	ID       string `json:"id"`
	Recovery int    `json:"recovery_left"`
}

// All are the operators, by id.
func (g *Guard) All() []Standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := []Standing{}
	for id, o := range g.who {
		all = append(all, Standing{id, o.left(&g.used)})
	}
	slices.SortFunc(all, func(a, b Standing) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Errors of Add and Remove.
var (
	ErrThere  = errors.New("this operator is in the file already")
	ErrAbsent = errors.New("this operator is not in the file")
)

// Add puts a new operator into the file at path, which it makes where there is none:
// readable for the folder's group, who is the service's, and for nobody else.
func Add(path string, m *Made) error {
	who, err := read(path)
	if err != nil {
		return err
	}
	if who[m.ID] != nil {
		return fmt.Errorf("%w: %s", ErrThere, m.ID)
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the configuration's
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(text) > 0 {
		text = append(text, '\n')
	}
	return replace(path, append(text, m.Table...))
}

// Remove takes an operator's table out of the file. The rest stays as it was typed.
func Remove(path, id string) error {
	who, err := read(path)
	if err != nil {
		return err
	}
	if who[id] == nil {
		return fmt.Errorf("%w: %s", ErrAbsent, id)
	}
	text, err := os.ReadFile(path) //nolint:gosec // G304: the configuration's
	if err != nil {
		return err
	}
	head := regexp.MustCompile(`(?m)^[ \t]*\[\[[ \t]*operator[ \t]*\]\]`)
	its := regexp.MustCompile(`(?m)^[ \t]*id[ \t]*=[ \t]*["']` + id + `["']`)
	var rest []byte
	starts := head.FindAllIndex(text, -1)
	rest = append(rest, text[:starts[0][0]]...)
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		if table := text[at[0]:end]; !its.Match(table) {
			rest = append(rest, table...)
		}
	}
	return replace(path, rest)
}

// replace writes the file at once, for the same owner and readers as before.
func replace(path string, text []byte) error {
	mode, uid := os.FileMode(0o640), os.Geteuid()
	var gid int
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case err == nil:
		mode, uid, gid = os.FileMode(st.Mode&0o640), int(st.Uid), int(st.Gid)
	case errors.Is(err, fs.ErrNotExist):
		if err := unix.Stat(filepath.Dir(path), &st); err != nil {
			return err
		}
		gid = int(st.Gid)
	default:
		return err
	}
	fresh := path + ".new"
	_ = os.Remove(fresh)
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600) //nolint:gosec // G304: the configuration's
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if cerr := f.Chown(uid, gid); err == nil && cerr != nil {
		mode = 0o600 // a group that this user may not give it to
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		_, err = read(fresh) // what the agent could not read never takes the place
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return os.Rename(fresh, path)
}
