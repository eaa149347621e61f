package operator

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // G505: what authenticators compute (RFC 6238); HMAC does not rest on collision resistance
	"encoding/binary"
	"fmt"
	"time"

	"gardu/internal/secret"
)

const (
	totpPeriod = 30 * time.Second
	totpDigits = 6
	// totpSkew is how many periods an authenticator's clock may be off, either way.
	totpSkew = 1
)

// stepOf numbers the periods since 1970.
func stepOf(at time.Time) int64 { return at.Unix() / int64(totpPeriod/time.Second) }

// totp is the one-time password of a period (RFC 4226, 5.3).
func totp(seed *secret.Value, step int64) []byte {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step)) //nolint:gosec // G115: two's complement is what RFC 4226 counts with
	h := hmac.New(sha1.New, seed.Bytes())
	h.Write(counter[:])
	sum := h.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0x0f:]) & 0x7fffffff
	return fmt.Appendf(nil, "%0*d", totpDigits, n%1_000_000)
}
