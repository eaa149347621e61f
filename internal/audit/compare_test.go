package audit_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/audit"
)

func compare(t *testing.T, tr *audit.Trail, h audit.Head) audit.Gap {
	t.Helper()
	g, err := tr.CompareStamp(t.Context(), h.Stamp())
	require.NoError(t, err)
	return g
}

func appendLine(t *testing.T, tr *audit.Trail) audit.Head {
	t.Helper()
	h, err := tr.Append(t.Context(), audit.Entry{Act: "attempt.begin"})
	require.NoError(t, err)
	return h
}

// TestOwnLinesAreNotMissing compares as a service does that starts again and
// again with the record open: each time with a newer stamp.
func TestOwnLinesAreNotMissing(t *testing.T) {
	path, h := written(t, 5)
	tr := open(t, path)
	for range 4 {
		require.Zero(t, compare(t, tr, h))
		for range 3 {
			h = appendLine(t, tr)
		}
		require.Zero(t, compare(t, tr, h))
	}
	require.NoError(t, tr.Close())
	require.Zero(t, whole(t, path).Gaps)
}

func TestGapIsWrittenDownOnce(t *testing.T) {
	path, h := written(t, 5)
	l := lines(t, path)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(l[:3], "\n")+"\n"), 0o600))
	tr := open(t, path)
	appendLine(t, tr)
	require.Equal(t, audit.Gap{Missing: 2}, compare(t, tr, h), "whatever was written since")
	for range 3 {
		require.Zero(t, compare(t, tr, h))
		appendLine(t, tr)
	}
	require.NoError(t, tr.Close())
	tr = open(t, path) // nothing was committed in between: the journal still has the old stamp
	require.Zero(t, compare(t, tr, h))
	require.Zero(t, compare(t, tr, appendLine(t, tr)))
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(1), whole(t, path).Gaps)
}

func TestChangedHistoryIsWrittenDownOnce(t *testing.T) {
	path, h := written(t, 5)
	other, _ := written(t, 9)
	b, err := os.ReadFile(other)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b, 0o600))
	tr := open(t, path)
	require.Equal(t, audit.Gap{Changed: true}, compare(t, tr, h))
	require.Zero(t, compare(t, tr, h))
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(1), whole(t, path).Gaps)
}

// TestSecondLossIsAGapOfItsOwn: what was written down for one stamp says nothing
// about another.
func TestSecondLossIsAGapOfItsOwn(t *testing.T) {
	path, h := written(t, 5)
	l := lines(t, path)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(l[:3], "\n")+"\n"), 0o600))
	tr := open(t, path)
	require.Equal(t, audit.Gap{Missing: 2}, compare(t, tr, h))
	later := appendLine(t, tr) // line 5, where one was lost before
	require.NoError(t, tr.Close())
	l = lines(t, path)
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(l[:4], "\n")+"\n"), 0o600))
	tr = open(t, path)
	require.Equal(t, audit.Gap{Missing: 1}, compare(t, tr, later))
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(2), whole(t, path).Gaps)
}

// TestComparesTheFileAsItIs cuts and replaces it between two calls.
func TestComparesTheFileAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		missing uint64
		spoil   func(t *testing.T, path string)
	}{
		"cut": {3, func(t *testing.T, path string) {
			require.NoError(t, os.Truncate(path, int64(len(lines(t, path)[0])+1)))
		}},
		"deleted": {4, func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := written(t, 3)
			tr := open(t, path)
			h := appendLine(t, tr)
			require.Zero(t, compare(t, tr, h))
			c.spoil(t, path)
			require.Equal(t, audit.Gap{Missing: c.missing}, compare(t, tr, h))
			for range 3 {
				require.Zero(t, compare(t, tr, h))
			}
			require.Equal(t, uint64(1), whole(t, path).Gaps)
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Contains(t, string(b), `"remembered_hash":"`+h.Hash()+`"`)
		})
	}
}

// TestLongerHistoryInItsPlaceIsNoticed: more lines than this process knows, and
// not the ones that it knows.
func TestLongerHistoryInItsPlaceIsNoticed(t *testing.T) {
	path, _ := written(t, 5)
	other, _ := written(t, 9)
	tr := open(t, path)
	h := tr.Head()
	require.NoError(t, os.Rename(other, path))
	appendLine(t, tr)
	require.NoError(t, tr.Close())
	require.Equal(t, uint64(1), whole(t, path).Gaps)
	l := lines(t, path)
	require.Contains(t, l[9], `"cause":"changed"`)
	require.Contains(t, l[9], `"remembered_hash":"`+h.Hash()+`"`)
}
