package house_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	roomsHeading   = "## Rooms"
	modulesHeading = "## Modules from outside"
	planned        = "*planned:*"
)

// plan is what the architecture document says about imports.
type plan struct {
	Module  string
	Rooms   []room
	Modules []module
}

// room is one row of the table "Rooms": a package folder.
type room struct {
	Dir     string   // relative to the top of the tree, with slashes
	Planned bool     // no such folder yet
	All     bool     // may import every package of ours
	May     []string // folders it may import
}

// module is one row of the table "Modules from outside".
type module struct {
	Path  string
	All   bool     // every room may import it
	Rooms []string // folders that may import it; none: tests only
}

func (p plan) room(dir string) (room, bool) {
	for _, r := range p.Rooms {
		if r.Dir == dir {
			return r, true
		}
	}
	return room{}, false
}

// readPlan reads the two tables out of the document at path.
func readPlan(moduleName, path string) (plan, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return plan{}, fmt.Errorf("read the architecture document: %w", err)
	}
	rooms, err := table(doc, roomsHeading, "package", "may import of ours")
	if err != nil {
		return plan{}, err
	}
	p := plan{Module: moduleName}
	var errs []error
	for _, row := range rooms {
		r := room{Planned: strings.HasPrefix(row["its one job"], planned)}
		r.Dir, err = oneName(row["package"])
		errs = append(errs, err)
		r.All, r.May, err = names(row["may import of ours"], "all")
		errs = append(errs, err)
		for i, m := range r.May {
			if !strings.HasPrefix(m, "cmd/") {
				r.May[i] = "internal/" + m
			}
		}
		if _, twice := p.room(r.Dir); twice {
			errs = append(errs, fmt.Errorf("room %s has two rows", r.Dir))
		}
		p.Rooms = append(p.Rooms, r)
	}
	for _, r := range p.Rooms {
		for _, m := range r.May {
			if _, ok := p.room(m); !ok {
				errs = append(errs, fmt.Errorf("room %s may import %s, which has no row", r.Dir, m))
			}
		}
	}

	modules, err := table(doc, modulesHeading, "module", "imported by")
	if err != nil {
		return plan{}, err
	}
	for _, row := range modules {
		var m module
		m.Path, err = oneName(row["module"])
		errs = append(errs, err)
		if row["imported by"] != "tests" {
			m.All, m.Rooms, err = names(row["imported by"], "any room")
			errs = append(errs, err)
		}
		for _, dir := range m.Rooms {
			if _, ok := p.room(dir); !ok {
				errs = append(errs, fmt.Errorf("module %s is for %s, which has no row", m.Path, dir))
			}
		}
		p.Modules = append(p.Modules, m)
	}
	return p, errors.Join(errs...)
}

// table returns the rows of the first Markdown table below heading, each by the
// names of its columns.
func table(doc []byte, heading string, want ...string) ([]map[string]string, error) {
	_, rest, found := bytes.Cut(doc, []byte("\n"+heading+"\n"))
	if !found {
		return nil, fmt.Errorf("the document has no heading %q", heading)
	}
	var columns []string
	var rows []map[string]string
	for line := range strings.Lines(string(rest)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "## "):
			return nil, fmt.Errorf("no table under %q", heading)
		case !strings.HasPrefix(line, "|"):
			if columns == nil {
				continue
			}
			if len(rows) == 0 {
				return nil, fmt.Errorf("the table under %q has no rows", heading)
			}
			return rows, nil
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case columns == nil:
			columns = cells
			for _, w := range want {
				if !slices.Contains(columns, w) {
					return nil, fmt.Errorf("the table under %q has no column %q", heading, w)
				}
			}
			continue
		case strings.Trim(strings.Join(cells, ""), "-:") == "":
			continue
		case len(cells) != len(columns):
			return nil, fmt.Errorf("the table under %q has %d columns, but this row has %d: %s", heading, len(columns), len(cells), line)
		}
		row := map[string]string{}
		for i, c := range columns {
			row[c] = cells[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

var codeName = regexp.MustCompile("^`([A-Za-z0-9./_-]+)`$")

// oneName reads a cell that is one name in backticks.
func oneName(cell string) (string, error) {
	m := codeName.FindStringSubmatch(cell)
	if m == nil {
		return "", fmt.Errorf("cell %q is not one name in backticks", cell)
	}
	return m[1], nil
}

// names reads a cell: a dash for nothing, the word for everything, or names in
// backticks with commas between.
func names(cell, everything string) (bool, []string, error) {
	switch cell {
	case "–":
		return false, nil, nil
	case everything:
		return true, nil, nil
	}
	var out []string
	for part := range strings.SplitSeq(cell, ",") {
		n, err := oneName(strings.TrimSpace(part))
		if err != nil {
			return false, nil, fmt.Errorf("cell %q is neither a dash, %q nor names in backticks: %w", cell, everything, err)
		}
		out = append(out, n)
	}
	return false, out, nil
}
