package house_test

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A package is named after what it is; these names say nothing.
var emptyNames = []string{
	"util", "utils", "common", "core", "helper", "helpers", "type", "types", "misc", "base", "shared", "lib",
}

// A folder whose name ends so is a part of tests and may import what they may.
const testRoom = "test"

// source is one Go file that is not a test.
type source struct {
	File    string // relative to the top
	Dir     string
	Package string
	Imports []string
}

// sources parses the imports of every Go file below top that is not a test, of
// this module only, whatever its build tags.
func sources(top string) ([]source, error) {
	var out []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p == top {
				return nil
			}
			if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ImportsOnly)
		if err != nil {
			return fmt.Errorf("parse imports: %w", err)
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		s := source{File: rel, Dir: path.Dir(rel), Package: f.Name.Name}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return fmt.Errorf("%s: import %s: %w", rel, spec.Path.Value, err)
			}
			s.Imports = append(s.Imports, imp)
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// violations compares the tree below top with the plan. Every finding is one
// sentence that says what to do.
func violations(p plan, top string) ([]string, error) {
	files, err := sources(top)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("no Go file found: is this the top of the tree?")
	}
	var out []string
	seen := map[string]bool{}
	for _, s := range files {
		r, known := p.room(s.Dir)
		if !seen[s.Dir] {
			seen[s.Dir] = true
			out = append(out, checkRoom(s, r, known)...)
		}
		for _, imp := range s.Imports {
			if v := p.checkImport(s, r, imp); v != "" && known {
				out = append(out, v)
			}
		}
	}
	for _, r := range p.Rooms {
		if !seen[r.Dir] && !r.Planned {
			out = append(out, fmt.Sprintf("%s: the table names it, but it holds no Go file; mark it %s or take the row out", r.Dir, planned))
		}
	}
	slices.Sort(out)
	return out, nil
}

func checkRoom(s source, r room, known bool) []string {
	var out []string
	switch {
	case !known:
		out = append(out, fmt.Sprintf("%s: the table %q does not name this package; add a row that says what its one job is", s.Dir, roomsHeading))
	case r.Planned:
		out = append(out, fmt.Sprintf("%s: the table calls it planned, but it is there; take the word out", s.Dir))
	}
	for _, name := range slices.Compact([]string{s.Package, path.Base(s.Dir)}) {
		if slices.Contains(emptyNames, name) {
			out = append(out, fmt.Sprintf("%s: a package is named after what it is, not %q", s.Dir, name))
		}
	}
	return out
}

func (p plan) checkImport(s source, r room, imp string) string {
	first, _, _ := strings.Cut(imp, "/")
	switch {
	case imp == p.Module || first == p.Module:
		dir := strings.TrimPrefix(imp, p.Module+"/")
		if r.All && strings.HasPrefix(dir, "internal/") && !strings.HasSuffix(dir, testRoom) || slices.Contains(r.May, dir) {
			return ""
		}
		return fmt.Sprintf("%s: imports %s, which the table %q does not allow; declare the small interface you need and let cmd/agent pass it in", s.File, imp, roomsHeading)
	case !strings.Contains(first, "."): // the standard library and cgo's "C"
		return ""
	}
	i := slices.IndexFunc(p.Modules, func(m module) bool { return imp == m.Path || strings.HasPrefix(imp, m.Path+"/") })
	if i < 0 {
		return fmt.Sprintf("%s: imports %s, whose module the table %q does not name; add a row that says what it is for", s.File, imp, modulesHeading)
	}
	if m := p.Modules[i]; !m.All && !slices.Contains(m.Rooms, s.Dir) && !strings.HasSuffix(s.Dir, testRoom) {
		return fmt.Sprintf("%s: imports %s, which the table %q does not allow here", s.File, imp, modulesHeading)
	}
	return ""
}
