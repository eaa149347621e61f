package txn

import (
	"fmt"
	"math/big"
)

// Bounds of an Identity's parts, chosen so that three fixed-width fields fill the
// 32 digits that Finpay demands of X-EXTERNAL-ID.
const (
	MaxKiosk  = 9_999_999
	MaxSalt   = 10_000_000_000 // exclusive
	MaxSerial = 100_000_000_000_000
)

// ExternalID makes the 32 digits of X-EXTERNAL-ID (Finpay; the SNAP standard
// allows up to 36): 8 of the kiosk, 10 of the journal's salt, 14 of the serial.
// Each part has its own place, so two ids are equal only where all three are:
// kiosks differ by number, a replaced journal by salt, calls by serial. No clock
// takes part, so a clock that jumps back repeats nothing.
func (i Identity) ExternalID(serial uint64) string {
	return fmt.Sprintf("%08d%010d%014d", i.Kiosk, i.Salt, serial)
}

// ShortReference makes 14 letters and digits of the same parts, for the prepaid
// platform's clientTxnId (limit 14 in its older table): 4 of the kiosk (62^4 =
// 14,776,336), 4 of the salt, 6 of the serial (62^6 = 56,800,235,584). The salt is
// cut to 62^4 values here, so a replaced journal repeats its predecessor's
// references with a chance of one in 14 million per kiosk, and only where the
// serials are equal too.
func (i Identity) ShortReference(serial uint64) string {
	const four, six = 62 * 62 * 62 * 62, 62 * 62 * 62 * 62 * 62 * 62
	return base62(uint64(i.Kiosk)%four, 4) + base62(i.Salt%four, 4) + base62(serial%six, 6)
}

func base62(n uint64, width int) string {
	s := new(big.Int).SetUint64(n).Text(62)
	for len(s) < width {
		s = "0" + s
	}
	return s
}
