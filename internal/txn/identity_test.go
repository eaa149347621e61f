package txn

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// parts reads an external id back: that it can be read back is why no two sets of
// parts make the same id (docs/providers.md, "Why no external id is used twice").
func parts(t *testing.T, id string) (kiosk uint32, salt, serial uint64) {
	t.Helper()
	require.Len(t, id, 32)
	num := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return n
	}
	return uint32(num(id[:8])), num(id[8:18]), num(id[18:])
}

func TestExternalIDIsReadBack(t *testing.T) {
	check := func(i Identity, serial uint64) {
		kiosk, salt, n := parts(t, i.ExternalID(serial))
		require.Equal(t, Identity{kiosk, salt}, i)
		require.Equal(t, serial, n)
	}
	for _, kiosk := range []uint32{1, 12, MaxKiosk} {
		for _, salt := range []uint64{0, 1, MaxSalt - 1} {
			for _, serial := range []uint64{0, 1, 999, MaxSerial - 1} {
				check(Identity{kiosk, salt}, serial)
			}
		}
	}
	for range 20_000 {
		check(Identity{1 + rand.Uint32N(MaxKiosk), rand.Uint64N(MaxSalt)}, rand.Uint64N(MaxSerial))
	}
}
