package update

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Factory stands for the program that came with the package, where a version is
// asked for.
const Factory = "factory"

// versionForm is what may be a folder's name and a part of a URL.
var versionForm = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~-]{0,63}$`)

// CheckVersion says whether v can be the name of a version, such as 1.4.2 or
// 1.5.0-rc.1.
func CheckVersion(v string) error {
	if !versionForm.MatchString(v) || strings.Contains(v, "..") {
		return fmt.Errorf("version %q is not of the form 1.4.2 or 1.5.0-rc.1", v)
	}
	return nil
}

// Compare orders versions: numbers by value, the parts before a '-' first, and a
// version with a '-' before the one without. What follows a '+' does not count.
func Compare(a, b string) int {
	a, _, _ = strings.Cut(a, "+")
	b, _, _ = strings.Cut(b, "+")
	am, ap, aPre := strings.Cut(a, "-")
	bm, bp, bPre := strings.Cut(b, "-")
	if c := compareParts(am, bm); c != 0 {
		return c
	}
	switch {
	case aPre && !bPre:
		return -1
	case !aPre && bPre:
		return 1
	}
	return compareParts(ap, bp)
}

func compareParts(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if c := comparePart(at(as, i), at(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return ""
}

// comparePart: nothing before numbers, numbers before words. A missing number
// counts as nought: 1.4 is 1.4.0.
func comparePart(a, b string) int {
	an, aErr := strconv.ParseUint(a, 10, 64)
	bn, bErr := strconv.ParseUint(b, 10, 64)
	switch {
	case a == "" && bErr == nil && bn == 0, b == "" && aErr == nil && an == 0:
		return 0
	case aErr == nil && bErr == nil:
		return cmp.Compare(an, bn)
	case aErr == nil && b != "":
		return -1
	case bErr == nil && a != "":
		return 1
	}
	return cmp.Compare(a, b)
}
