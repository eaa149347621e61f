package ui

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A connection that was let in and then overtaken, by a newer page or by a newer
// connection of its own page, must not send the newer one away: a page that is sent
// away does not come back by itself.
func TestWhoWasOvertakenDoesNotTakeCharge(t *testing.T) {
	for _, c := range []struct {
		name   string
		pages  [2]uint64 // of the first and the second connection
		first  int       // which of them takes charge first
		refuse bool
	}{
		{"a newer page", [2]uint64{1, 2}, 0, false},
		{"a newer page, overtaking", [2]uint64{1, 2}, 1, true},
		{"a newer page on an older connection, overtaking", [2]uint64{2, 1}, 0, true},
		{"a newer page on an older connection", [2]uint64{2, 1}, 1, false},
		{"the same page again", [2]uint64{1, 1}, 0, false},
		{"the same page again, overtaking", [2]uint64{1, 1}, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := New(Options{Addr: "127.0.0.1:8080", Brand: "Bank Uji", PxPerMM: 4})
			require.NoError(t, err)
			var conns [2]*conn
			for i, page := range c.pages {
				conns[i] = &conn{s: s, page: page, quit: make(chan closing, 1)}
				require.True(t, s.enter(conns[i]))
			}
			first, second := conns[c.first], conns[1-c.first]
			require.True(t, s.takeCharge(first))
			require.Equal(t, !c.refuse, s.takeCharge(second))
			require.Equal(t, c.refuse, s.inCharge(first))
			require.Equal(t, !c.refuse, s.inCharge(second))
			require.Empty(t, second.quit, "who takes charge is not sent away")
			if c.refuse {
				require.Empty(t, first.quit, "who is newer stays")
				return
			}
			require.Equal(t, closeOther, (<-first.quit).code)
		})
	}
}
