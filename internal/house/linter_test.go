package house_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The linter's part that is written from the tables stands between these lines.
const (
	linterBegin = "        # From docs/architecture.md; see internal/house. Do not edit.\n"
	linterEnd   = "        # End of what comes from docs/architecture.md.\n"
)

// layers writes the tables as rules of golangci-lint's depguard, so that an
// editor shows a wrong import while it is being typed.
func layers(p plan) string {
	var b strings.Builder
	for _, r := range p.Rooms {
		if r.Planned {
			continue
		}
		allow := r.May
		if r.All {
			allow = []string{"internal/"}
		}
		rule(&b, "room-"+strings.ReplaceAll(r.Dir, "/", "-"), []string{"**/" + r.Dir + "/*.go", "!$test"})
		fmt.Fprintf(&b, "            - pkg: %s/\n", p.Module)
		fmt.Fprintf(&b, "              desc: 'docs/architecture.md, \"Rooms\": not from %s'\n", r.Dir)
		if len(allow) > 0 {
			b.WriteString("          allow:\n")
		}
		for _, dir := range allow {
			end := "$"
			if r.All {
				end = ""
			}
			fmt.Fprintf(&b, "            - %s/%s%s\n", p.Module, dir, end)
		}
	}
	for _, m := range p.Modules {
		if m.All {
			continue
		}
		files := []string{"$all", "!$test", "!**/*" + testRoom + "/*.go"}
		for _, dir := range m.Rooms {
			files = append(files, "!**/"+dir+"/*.go")
		}
		rule(&b, "module-"+strings.NewReplacer("/", "-", ".", "-").Replace(m.Path), files)
		fmt.Fprintf(&b, "            - pkg: %s\n", m.Path)
		b.WriteString("              desc: 'docs/architecture.md, \"Modules from outside\": not from here'\n")
	}
	return b.String()
}

func rule(b *strings.Builder, name string, files []string) {
	quoted := slices.Clone(files)
	for i, f := range quoted {
		quoted[i] = "'" + f + "'"
	}
	fmt.Fprintf(b, "        %s:\n          list-mode: lax\n          files: [%s]\n          deny:\n", name, strings.Join(quoted, ", "))
}

// splitLinter returns what stands before, inside and after the written part.
func splitLinter(config string) (before, inside, after string, err error) {
	head, rest, ok := strings.Cut(config, linterBegin)
	if !ok {
		return "", "", "", errors.New(".golangci.yml has lost the line that begins the written part")
	}
	inside, tail, ok := strings.Cut(rest, linterEnd)
	if !ok {
		return "", "", "", errors.New(".golangci.yml has lost the line that ends the written part")
	}
	return head + linterBegin, inside, linterEnd + tail, nil
}
