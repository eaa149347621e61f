package upstream_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrepaidResetPIN(t *testing.T) {
	w := start(t, config(t))
	got := w.must(cardRequest(cardBody("201507271458370149gM90jY0", "121200")))
	require.Equal(t, 200, got.status)
	plain := got.opened(t).body
	var keys map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(plain), &keys))
	require.Len(t, keys, 12)
	for name, want := range map[string]string{
		"urn": `70000000008`, "customerId": `"IN00001201001868"`, "description": `"Reset Pin"`, "responseCode": `"00"`,
		"messageCode": `"1121"`, "clientTxnId": `"201507271458370149gM90jY0"`, "clientId": `"2000"`,
		"accosaTransactionId": `1031`, "responseMessage": `"Success"`, "accosaRefNo": `"6007283"`, "bankId": `7000`,
	} {
		require.Equal(t, want, string(keys[name]), name)
	}
	w.clean()
	require.Equal(t, 1, w.EffectCount("prepaid.reset_pin", "201507271458370149gM90jY0"))
	sum := sha256.Sum256([]byte(pinSalt + "121200"))
	require.Equal(t, hex.EncodeToString(sum[:]), w.Effects()[0].PINDigest)

	require.Equal(t, "00", w.must(cardRequest(cardBody("201507271458370149gM90jY0", "121200"))).opened(t).code(t))
	require.Equal(t, 2, w.EffectCount("prepaid.reset_pin", ""), "no document promises that this platform deduplicates")
}
