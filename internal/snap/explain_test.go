package snap

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExplain(t *testing.T) {
	f := newFinpay(t, &fakeHTTP{}, nil)
	seen := map[string]bool{}
	for _, m := range Codes() {
		require.False(t, seen[m.Code], "%s stands twice in the table", m.Code)
		seen[m.Code] = true
		require.NotEmpty(t, m.Says, m.Code)
		for _, service := range []string{"00", "07", "09", "73"} {
			got, ok := f.Explain(strings.Replace(m.Code, "xx", service, 1))
			require.True(t, ok)
			require.Equal(t, m, got)
		}
	}
	for _, code := range []string{"", "4030924", "4990900", "OK", "40409081"} {
		_, ok := f.Explain(code)
		require.False(t, ok, code)
	}
}
