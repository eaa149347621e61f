package snap

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/txn"
	"gardu/internal/wire"
)

// Vectors of docs/providers.md, "Test vectors".
const (
	vectorHMACText = "POST:/v1.0/qr/qr-mpm-generate:myaccesstoken:01463f60dbb6ca538581579dd95b31c8ba9fc6600eca750e4d8460ca4e402111:2024-03-05T10:37:16.196Z"
	vectorHMAC     = "wmzT7yjg1SxxCsxNsFgCR9SYXiZGGbceF6fV8xe97sAMHxZ+7OEBMIBmvb6Sj6GcksGp3iv77DiomgSbcST3XQ=="

	vectorRSAText = "POST:/v1.0/debit/notify:79ebbe6a6b695262dd686d0dedafc57c94e3b3dededf8d63971f8a95699ace85:2024-05-02T14:43:08+07:00"
	vectorRSAKey  = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlWbtlh3eM+bW3n5AFj42wddC4L7tQqbLiCFbTv8K67yng9iwK5mEn+UMXiRhvB2JVWFafCPPxFamsiVG3MjneGjC0BYgmpmw4qXnAnyO3nCdCuPtmZ3ljhKvSTPdWZxrcLi1Xa9V/+Pzb8hrjb5iwMn6SZFNeMmZYgFKiSeueo6TPln2PoTqXCzs1HtsM8eUVe8GAsjJe/3dYl992nyXOpG21GgNu8o5T3WOptPg6GdDTWkTWUu483yRbVVy04Pz4L8DDZTDv+WcsAViDn1rA/jB1Auj/UGKx2ovGcBH/a/hor5TbABbODU6cPTHT54K3sSZtvZNV4eFDB1f/4wdfwIDAQAB"
	vectorRSA     = "RoJnP2tH/YiOhHM/lMVBMSAuzRmS8VrWdIy04Qqyb56daV7oWFMFoMMzqnjQ+q0MIUalYgU094GWQnCx2c29xb1kkqHhv2+iJ9xl6NjGmFGYqyvcKvUDAV83Y1Mw9JnsEcjcupdGw9/MRv/mm2GMrQ+BCZGfc4a46JDyPZbcY294vDGqs5rFBN6iYer5ro4cAQGo9hET2G82Y+j50vCyO/79GFE4vB1rvtu6PK2Bxi+vTYV8k7P7PS8tOPWM2O+kjiVWjwvLR99Botou+a8sxlQqZaihfWMKcByzV+Lgkr9cptpjys+1NIRWT1ad/sJBSLHyldzC3q2oRn5z5oZmyg=="
)

func TestPublishedHMACVector(t *testing.T) {
	c := &Config{Mode: Symmetric, SignatureEncoding: Base64}
	got, err := signCall(t.Context(), c, &Keys{Secret: softMAC("myclientsecret")}, []byte(vectorHMACText))
	require.NoError(t, err)
	require.Equal(t, vectorHMAC, got)
}

// TestPublishedRSAVector: the published text is what callString makes in asymmetric
// mode, and the published signature is of the kind that signRSA makes.
func TestPublishedRSAVector(t *testing.T) {
	der, err := base64.StdEncoding.DecodeString(vectorRSAKey)
	require.NoError(t, err)
	pub, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	key, isRSA := pub.(*rsa.PublicKey)
	require.True(t, isRSA)
	sig, err := base64.StdEncoding.DecodeString(vectorRSA)
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(vectorRSAText))
	require.NoError(t, rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig))

	own, err := signRSA(testKey(), []byte(vectorRSAText))
	require.NoError(t, err)
	require.NoError(t, rsa.VerifyPKCS1v15(&testKey().PublicKey, crypto.SHA256, sum[:], own))
	require.Len(t, own, len(sig))
}

func TestStringToSign(t *testing.T) {
	const stamp = "2026-11-20T10:00:00+07:00"
	body := []byte(`{"partnerReferenceNo":"1","phoneNo":"08113929190"}`)
	sym := Config{Mode: Symmetric, SignQuery: true, EmptyBody: EmptyHash}
	asym := sym
	asym.Mode = Asymmetric
	noQuery := sym
	noQuery.SignQuery = false
	blank := sym
	blank.EmptyBody = EmptyBlank
	object := sym
	object.EmptyBody = EmptyObject
	var out strings.Builder
	for _, tc := range []struct {
		name   string
		cfg    Config
		target string
		body   []byte
	}{
		{"symmetric", sym, "/v1.0/pin/reset", body},
		{"asymmetric", asym, "/v1.0/pin/reset", body},
		{"query signed", sym, "/v1.0/pin/reset?a=b&c=d", body},
		{"query not signed", noQuery, "/v1.0/pin/reset?a=b&c=d", body},
		{"empty body, hashed", sym, "/v1.0/x", nil},
		{"empty body, blank", blank, "/v1.0/x", nil},
		{"empty body, as an object", object, "/v1.0/x", nil},
		{"empty body, asymmetric, blank", Config{Mode: Asymmetric, EmptyBody: EmptyBlank}, "/v1.0/x", nil},
	} {
		s := callString(&tc.cfg, "POST", tc.target, []byte("the-token"), tc.body, stamp)
		fmt.Fprintf(&out, "%s\n\t%s\n", tc.name, s)
	}
	fmt.Fprintf(&out, "token\n\t%s\n", tokenString("bank-branch-12", stamp))
	golden(t, "strings.golden", out.String())
}

// TestRequestsGolden holds every request of every operation, byte for byte, and
// checks what cannot be fixed: the RSA signature.
func TestRequestsGolden(t *testing.T) {
	at := time.Date(2026, 11, 19, 20, 30, 0, 0, time.UTC) // already the 20th in Jakarta
	now := func() time.Time { return at }
	noInquiry := func(c *FinpayConfig) { c.InquireBeforeBind = false }
	for _, tc := range []struct {
		name   string
		op     txn.Operation
		step   int
		finpay func(*FinpayConfig)
		netzme func(*NetzmeConfig)
	}{
		{"finpay_reset_pin", txn.FinpayResetPIN, 1, nil, nil},
		{"finpay_reset_pin_asymmetric", txn.FinpayResetPIN, 1, func(c *FinpayConfig) { c.Mode = Asymmetric }, nil},
		{"finpay_reset_pin_settings", txn.FinpayResetPIN, 1, func(c *FinpayConfig) {
			c.SignatureEncoding, c.PartnerID, c.DeviceID, c.ResetPIN.Path = Hex, "partner-7", "kiosk-12", "/v2/reset?x=1"
		}, nil},
		{"finpay_bind", txn.FinpayBind, 1, noInquiry, nil},
		{"finpay_bind_inquired", txn.FinpayBind, 1, nil, nil},
		{"finpay_bind_reference", txn.FinpayBind, 1, func(c *FinpayConfig) {
			c.InquireBeforeBind, c.SendBindingReference, c.BindingReferenceField = false, true, "refrenceNo"
		}, nil},
		{"finpay_unbind_1", txn.FinpayUnbind, 1, nil, nil},
		{"finpay_unbind_2", txn.FinpayUnbind, 2, nil, nil},
		{"netzme_forgot_pin", txn.NetzmeForgotPIN, 1, nil, nil},
		{"netzme_forgot_pin_v2", txn.NetzmeForgotPIN, 1, nil, func(c *NetzmeConfig) { c.Version = "v2.0" }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := &fakeHTTP{answer: byPath(map[string]string{
				"inquiry": `{"responseCode":"2000800","additionalInfo":{"accountStatus":"NOT_LINKED"}}`,
			})}
			var p txn.Provider
			var err error
			asymmetric := false
			if tc.op == txn.NetzmeForgotPIN {
				c := netzmeConfig()
				if tc.netzme != nil {
					tc.netzme(&c)
				}
				p, err = NewNetzme(c, testKeys(), h, newLog(t), now)
			} else {
				c := finpayConfig()
				if tc.finpay != nil {
					tc.finpay(&c)
				}
				asymmetric = c.Mode == Asymmetric
				p, err = NewFinpay(c, testKeys(), h, newLog(t), now)
			}
			require.NoError(t, err)
			noSecret(t, p.Submit(t.Context(), request(tc.op, tc.step)))
			var out strings.Builder
			for _, r := range h.requests {
				if asymmetric || strings.Contains(r.URL, "access-token") {
					checkRSASignature(t, r)
				}
				dump(&out, r)
			}
			golden(t, tc.name+".golden", out.String())
		})
	}
}

// checkRSASignature verifies X-SIGNATURE from the request alone and replaces it.
func checkRSASignature(t *testing.T, r wire.Request) {
	t.Helper()
	stamp := r.Header["X-TIMESTAMP"][0]
	text := ""
	if key := r.Header["X-CLIENT-KEY"]; len(key) > 0 {
		text = key[0] + "|" + stamp
	} else {
		text = r.Method + ":" + strings.TrimPrefix(r.URL, "https://snap.example") + ":" + fmt.Sprintf("%x", sha256.Sum256(r.Body)) + ":" + stamp
	}
	sig, err := base64.StdEncoding.DecodeString(r.Header["X-SIGNATURE"][0])
	require.NoError(t, err)
	sum := sha256.Sum256([]byte(text))
	require.NoError(t, rsa.VerifyPKCS1v15(&testKey().PublicKey, crypto.SHA256, sum[:], sig))
	r.Header["X-SIGNATURE"] = []string{"(RSA, verified)"}
}

func dump(out *strings.Builder, r wire.Request) {
	fmt.Fprintf(out, "%s %s\n", r.Method, r.URL)
	names := make([]string, 0, len(r.Header))
	for n := range r.Header {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		fmt.Fprintf(out, "%s: %s\n", n, strings.Join(r.Header[n], ", "))
	}
	fmt.Fprintf(out, "\n%s\n\n", r.Body)
}

func TestKeysAreChecked(t *testing.T) {
	small := &Keys{Token: testKey()}
	for _, tc := range []struct {
		name string
		cfg  Config
		keys *Keys
		want string
	}{
		{"no token key", Config{MinRSABits: 2048}, &Keys{Secret: softMAC("x")}, "the token key is missing"},
		{"too small", Config{MinRSABits: 4096}, small, "ask Netzme for a key pair of 2048 bits"},
		{"no secret", Config{Mode: Symmetric, MinRSABits: 2048}, &Keys{Token: testKey()}, "there is no client secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.ErrorContains(t, checkKeys(&tc.cfg, tc.keys, "Netzme"), tc.want)
		})
	}
	t.Run("asymmetric takes the token key", func(t *testing.T) {
		k := &Keys{Token: testKey()}
		require.NoError(t, checkKeys(&Config{Mode: Asymmetric, MinRSABits: 2048}, k, "Finpay"))
		require.Equal(t, k.Token, k.Transaction)
	})
}

func TestShortMACIsRefused(t *testing.T) {
	_, err := signCall(t.Context(), &Config{Mode: Symmetric}, &Keys{Secret: shortMAC{}}, []byte("x"))
	require.ErrorContains(t, err, "made 32 bytes")
}
