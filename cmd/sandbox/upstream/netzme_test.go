package upstream_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

func TestNetzmeForgotPIN(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Netzme)
	got := w.must(w.netzme(token, "v1.0", forgotBody("ref1", custID)))
	require.Equal(t, 200, got.status)
	require.JSONEq(t, `{"responseCode":"2000000","responseMessage":"Successful","partnerReferenceNo":"ref1",
		"additionalInfo":{"timeLeftInMillis":300000}}`, got.body)

	require.Equal(t, "4090001", w.must(w.netzme(token, "v1.0", forgotBody("ref1", custID))).code(t))
	require.Equal(t, "4030004", w.must(w.netzme(token, "v2.0", forgotBody("ref2", custID))).code(t), "the minimum wait")
	w.Advance(300 * time.Second)
	require.Equal(t, "2000000", w.must(w.netzme(token, "v2.0", forgotBody("ref2", custID))).code(t))
	require.Equal(t, "4040011", w.must(w.netzme(token, "v1.0", forgotBody("ref3", "nobody"))).code(t))
	require.Equal(t, 1, w.EffectCount("netzme.forgot_pin", "ref1"))
	require.Equal(t, 2, w.EffectCount("netzme.forgot_pin", ""))
	w.clean()
}

func TestNetzmeDoublingIsCountedWithDedupeOff(t *testing.T) {
	cfg := config(t)
	cfg.Netzme.Dedupe = new(false)
	w := start(t, cfg)
	token := w.token(upstream.Netzme)
	for range 2 {
		require.Equal(t, 200, w.must(w.netzme(token, "v1.0", forgotBody("ref1", custID))).status)
	}
	require.Equal(t, 2, w.EffectCount("netzme.forgot_pin", "ref1"))
}
