package upstream

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The two published examples of other SNAP providers that can be recomputed (docs/providers.md, test vectors).

func TestPublishedSymmetricVector(t *testing.T) {
	const (
		secret    = "myclientsecret"
		text      = "POST:/v1.0/qr/qr-mpm-generate:myaccesstoken:01463f60dbb6ca538581579dd95b31c8ba9fc6600eca750e4d8460ca4e402111:2024-03-05T10:37:16.196Z"
		signature = "wmzT7yjg1SxxCsxNsFgCR9SYXiZGGbceF6fV8xe97sAMHxZ+7OEBMIBmvb6Sj6GcksGp3iv77DiomgSbcST3XQ=="
	)
	require.True(t, verifySymmetric(secret, text, signature, EncodingBase64))
	require.False(t, verifySymmetric(secret+"x", text, signature, EncodingBase64))
	require.False(t, verifySymmetric(secret, text+"x", signature, EncodingBase64))
	require.False(t, verifySymmetric(secret, text, signature, EncodingHex))
	raw, err := base64.StdEncoding.DecodeString(signature)
	require.NoError(t, err)
	require.True(t, verifySymmetric(secret, text, hex.EncodeToString(raw), EncodingHex))
	require.False(t, verifySymmetric(secret, text, strings.ToUpper(hex.EncodeToString(raw)), EncodingHex))

	symmetric := &Partner{Mode: ModeSymmetric}
	require.Equal(t, text, signedText(symmetric, "POST", "/v1.0/qr/qr-mpm-generate", "myaccesstoken",
		"01463f60dbb6ca538581579dd95b31c8ba9fc6600eca750e4d8460ca4e402111", "2024-03-05T10:37:16.196Z"))
}

func TestPublishedAsymmetricVector(t *testing.T) {
	const (
		spki = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAlWbtlh3eM+bW3n5AFj42wddC4L7tQqbLiCFbTv8K67yng9iwK5mEn+UMXiRhvB2JVWFafCPPxFamsiVG3MjneGjC0BYgmpmw4qXnAnyO3nCdCuPtmZ3ljhKvSTPdWZxrcLi1Xa9V/+Pzb8hrjb5iwMn6SZFNeMmZYgFKiSeueo6TPln2PoTqXCzs1HtsM8eUVe8GAsjJe/3dYl992nyXOpG21GgNu8o5T3WOptPg6GdDTWkTWUu483yRbVVy04Pz4L8DDZTDv+WcsAViDn1rA/jB1Auj/UGKx2ovGcBH/a/hor5TbABbODU6cPTHT54K3sSZtvZNV4eFDB1f/4wdfwIDAQAB"
		text = "POST:/v1.0/debit/notify:79ebbe6a6b695262dd686d0dedafc57c94e3b3dededf8d63971f8a95699ace85:2024-05-02T14:43:08+07:00"
		sig  = "RoJnP2tH/YiOhHM/lMVBMSAuzRmS8VrWdIy04Qqyb56daV7oWFMFoMMzqnjQ+q0MIUalYgU094GWQnCx2c29xb1kkqHhv2+iJ9xl6NjGmFGYqyvcKvUDAV83Y1Mw9JnsEcjcupdGw9/MRv/mm2GMrQ+BCZGfc4a46JDyPZbcY294vDGqs5rFBN6iYer5ro4cAQGo9hET2G82Y+j50vCyO/79GFE4vB1rvtu6PK2Bxi+vTYV8k7P7PS8tOPWM2O+kjiVWjwvLR99Botou+a8sxlQqZaihfWMKcByzV+Lgkr9cptpjys+1NIRWT1ad/sJBSLHyldzC3q2oRn5z5oZmyg=="
	)
	der, err := base64.StdEncoding.DecodeString(spki)
	require.NoError(t, err)
	parsed, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	key, ok := parsed.(*rsa.PublicKey)
	require.True(t, ok)
	require.True(t, verifyAsymmetric(key, text, sig, EncodingBase64))
	require.False(t, verifyAsymmetric(key, text+" ", sig, EncodingBase64))
	require.False(t, verifyAsymmetric(key, text, "A"+sig[1:], EncodingBase64))

	asymmetric := &Partner{Mode: ModeAsymmetric}
	require.Equal(t, text, signedText(asymmetric, "POST", "/v1.0/debit/notify", "unused",
		"79ebbe6a6b695262dd686d0dedafc57c94e3b3dededf8d63971f8a95699ace85", "2024-05-02T14:43:08+07:00"))
}

func TestEmptyBodyHash(t *testing.T) {
	require.Equal(t, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", bodyHash(nil, EmptyBodyString))
	require.Equal(t, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", bodyHash(nil, EmptyBodyObject))
	require.Equal(t, bodyHash([]byte("{}"), EmptyBodyString), bodyHash([]byte(" { } "), EmptyBodyObject))
}

func TestMinify(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "",
		" \t\r\n":                       "",
		`{ "a" : [ 1 , 2 ] }`:           `{"a":[1,2]}`,
		"{\"a b\":\n\" c\\\" \\\\\" }":  `{"a b":" c\" \\"}`,
		`{"a":"\\","b" : "x  y\u0020"}`: `{"a":"\\","b":"x  y\u0020"}`,
	} {
		require.Equal(t, want, string(minify([]byte(in))))
	}
}

func TestParseObjectRefuses(t *testing.T) {
	for in, says := range map[string]string{
		``:                    "not exactly one",
		`null`:                "not a JSON object",
		`"x"`:                 "not a JSON object",
		`{"a":1`:              "not exactly one",
		`{"a":1,}`:            "not exactly one",
		`{"a":1}{}`:           "not exactly one",
		`{"a":1} x`:           "not exactly one",
		`{"a":1,"a":2}`:       "twice",
		`{"a":{"b":1,"b":2}}`: "twice",
		"{\"a\":\"\x01\"}":    "not exactly one",
		strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40): "deeply",
	} {
		_, err := parseObject([]byte(in))
		require.ErrorContains(t, err, says, in)
	}
}

func TestEnvelopeOpensWhatItSeals(t *testing.T) {
	for _, mode := range []string{IVPrefix, IVSuffix, IVZero, IVStatic} {
		e := testEnvelope(t, mode)
		for size := range 40 {
			plain := strings.Repeat("x", size)
			got, err := e.open(e.seal([]byte(plain)))
			require.NoError(t, err, "%s %d", mode, size)
			require.Equal(t, plain, string(got))
		}
		sealed := e.seal([]byte("abc"))
		want := map[string]int{IVPrefix: 44, IVSuffix: 44, IVZero: 24, IVStatic: 24}[mode]
		require.Len(t, sealed, want, "the IV is sent only in prefix and suffix mode")
	}
}

// The lengths of three published pairs of plain text and token (docs/providers.md).
func TestEnvelopeLengths(t *testing.T) {
	e := testEnvelope(t, IVPrefix)
	for plain, sealed := range map[int]int{159: 176, 187: 208, 131: 160} {
		raw, err := base64.StdEncoding.DecodeString(e.seal(make([]byte, plain)))
		require.NoError(t, err)
		require.Len(t, raw, sealed)
	}
}

func testEnvelope(t testing.TB, mode string) *envelope {
	t.Helper()
	e, err := newEnvelope(&PrepaidConfig{
		Key: strings.Repeat("0f", 24), KeyEncoding: "hex", IVMode: mode, StaticIV: strings.Repeat("a1", 16),
	})
	require.NoError(t, err)
	return e
}

func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":{"b":[1,"x",null,true]}}`, `{"a":1,"a":2}`, `[`, `{"token":"x"}`, "{\"\\ud800\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		obj, err := parseObject(data)
		if err != nil {
			return
		}
		compact := minify(data)
		again, err := parseObject(compact)
		require.NoError(t, err)
		require.Equal(t, obj, again, "minifying changes no value")
		require.Equal(t, compact, minify(compact))
	})
}

func FuzzEnvelopeOpen(f *testing.F) {
	e := testEnvelope(f, IVPrefix)
	f.Add(e.seal([]byte(`{"messageCode":"1120"}`)))
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		plain, err := e.open(token)
		if err != nil {
			require.ErrorIs(t, err, errEnvelope)
			return
		}
		back, err := e.open(e.seal(plain))
		require.NoError(t, err)
		require.Equal(t, string(plain), string(back))
	})
}

func FuzzRequestPath(f *testing.F) {
	f.Add([]byte("POST /v1.0/pin/reset?x=1 HTTP/1.1\r\n"))
	f.Add([]byte("\r\n"))
	f.Fuzz(func(t *testing.T, head []byte) {
		path, whole := requestPath(head)
		if !whole {
			require.Empty(t, path)
			require.NotContains(t, string(head), "\r\n")
		}
	})
}

func TestBoundedForgetsTheOldest(t *testing.T) {
	b := newBounded[int, string](3)
	for i := range 10 {
		b.put(i, "x")
		b.put(i, "y")
	}
	require.Equal(t, 7, b.dropped)
	var keys []int
	b.each(func(k int, v string) {
		require.Equal(t, "y", v)
		keys = append(keys, k)
	})
	require.Equal(t, []int{7, 8, 9}, keys)
	_, ok := b.get(6)
	require.False(t, ok)
}

func TestLedgerIsARing(t *testing.T) {
	l := newLedger(3)
	for range 5 {
		l.open(Exchange{})
	}
	var seqs []int64
	for _, e := range l.snapshot(0) {
		seqs = append(seqs, e.Seq)
	}
	require.Equal(t, []int64{3, 4, 5}, seqs)
	require.Len(t, l.snapshot(4), 1)
	l.reset()
	require.Empty(t, l.snapshot(0))
	l.open(Exchange{})
	require.EqualValues(t, 6, l.snapshot(0)[0].Seq, "sequence numbers go on, so that since stays true")
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"finpay":{"partners":[{"client_id":"a"}],"merchant_id":"m"}}`)
	f.Add(`{"prepaid":{"key":"00"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := ReadConfig(strings.NewReader(text))
		if err != nil {
			return
		}
		cfg.setDefaults()
		if cfg.validate() == nil {
			require.True(t, cfg.Finpay != nil || cfg.Netzme != nil || cfg.Prepaid != nil)
		}
	})
}
