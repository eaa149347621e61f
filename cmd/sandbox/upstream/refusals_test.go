package upstream_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

// TestTransactionRefusals bends one thing of a right Finpay request at a time. Everything here is the client's fault, so each case
// must leave exactly one violation.
func TestTransactionRefusals(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	set := func(name, value string) func(*request) {
		return func(r *request) { r.header.Set(name, value) }
	}
	drop := func(name string) func(*request) {
		return func(r *request) { r.header.Del(name) }
	}
	body := func(text string) func(*request) {
		return func(r *request) { r.body = []byte(text); w.resign(*r, finpaySecret) }
	}
	at := func(text string) func(*request) {
		return func(r *request) { r.header.Set("X-Timestamp", text); w.resign(*r, finpaySecret) }
	}
	for name, c := range map[string]struct {
		bend   func(*request)
		status int
		code   string
		says   string
	}{
		"no content type":            {drop("Content-Type"), 400, "4000002", "Content-Type"},
		"wrong content type":         {set("Content-Type", "text/plain"), 400, "4000001", "Content-Type"},
		"no timestamp":               {drop("X-Timestamp"), 400, "4000002", "X-TIMESTAMP"},
		"timestamp in UTC":           {at(time.Now().UTC().Format("2006-01-02T15:04:05Z")), 400, "4000001", "X-TIMESTAMP"},
		"timestamp with zero offset": {at(time.Now().UTC().Format("2006-01-02T15:04:05+00:00")), 400, "4000001", "X-TIMESTAMP"},
		"timestamp with fraction":    {at(stamp(time.Now())[:19] + ".123+07:00"), 400, "4000001", "X-TIMESTAMP"},
		"timestamp of no date":       {at("2026-02-30T10:00:00+07:00"), 400, "4000001", "X-TIMESTAMP"},
		"timestamp too old":          {at(stamp(time.Now().Add(-20 * time.Minute))), 401, "4010000", "off"},
		"timestamp too new":          {at(stamp(time.Now().Add(20 * time.Minute))), 401, "4010000", "off"},
		"no partner":                 {drop("X-Partner-Id"), 400, "4000002", "X-PARTNER-ID"},
		"partner too long":           {set("X-Partner-Id", strings.Repeat("a", 37)), 400, "4000001", "X-PARTNER-ID"},
		"unknown partner":            {set("X-Partner-Id", "stranger"), 401, "4010000", "not known"},
		"no external id":             {drop("X-External-Id"), 400, "4000002", "X-EXTERNAL-ID"},
		"external id of 31 digits":   {set("X-External-Id", strings.Repeat("7", 31)), 400, "4000001", "32 digits"},
		"external id of 33 digits":   {set("X-External-Id", strings.Repeat("7", 33)), 400, "4000001", "32 digits"},
		"external id with a letter":  {set("X-External-Id", strings.Repeat("7", 31)+"a"), 400, "4000001", "32 digits"},
		"no channel":                 {drop("Channel-Id"), 400, "4000002", "CHANNEL-ID"},
		"channel too long":           {set("Channel-Id", "952211"), 400, "4000001", "CHANNEL-ID"},
		"no origin":                  {drop("Origin"), 400, "4000002", "ORIGIN"},
		"no token":                   {drop("Authorization"), 400, "4000002", "Authorization"},
		"token without Bearer":       {set("Authorization", token), 400, "4000001", "Authorization"},
		"token never issued":         {set("Authorization", "Bearer "+token[1:]), 401, "4010003", "never issued"},
		"token of another client":    {set("X-Partner-Id", "other-bank"), 401, "4010001", "another client"},
		"no signature":               {drop("X-Signature"), 400, "4000002", "X-SIGNATURE"},
		"signature of another body": {
			func(r *request) { r.body = []byte(resetBody("ref2", phone)) }, 401, "4010000", "X-SIGNATURE",
		},
		"signature with another secret": {
			func(r *request) { w.resign(*r, "another-secret") }, 401, "4010000", "X-SIGNATURE",
		},
		"signature in hexadecimal": {
			func(r *request) {
				raw, err := base64.StdEncoding.DecodeString(r.header.Get("X-Signature"))
				require.NoError(t, err)
				r.header.Set("X-Signature", hex.EncodeToString(raw))
			}, 401, "4010000", "X-SIGNATURE",
		},
		"signature without padding": {
			func(r *request) { r.header.Set("X-Signature", strings.TrimRight(r.header.Get("X-Signature"), "=")) },
			401, "4010000", "X-SIGNATURE",
		},
		"signature without the query": {
			func(r *request) { r.target += "?a=1" }, 401, "4010000", "X-SIGNATURE",
		},
		"two signatures":           {func(r *request) { r.header.Add("X-Signature", "x") }, 400, "4000001", "X-SIGNATURE"},
		"no body":                  {body(""), 400, "4000000", "body"},
		"body of no JSON":          {body("hello"), 400, "4000000", "body"},
		"body with a tail":         {body(resetBody("r", phone) + "{}"), 400, "4000000", "body"},
		"body that is a list":      {body("[]"), 400, "4000000", "body"},
		"body with a key twice":    {body(`{"phoneNo":"081","phoneNo":"082"}`), 400, "4000000", "twice"},
		"no reference":             {body(`{"phoneNo":"081139291900"}`), 400, "4000002", "partnerReferenceNo"},
		"empty reference":          {body(resetBody("", phone)), 400, "4000002", "partnerReferenceNo"},
		"reference of 65":          {body(resetBody(strings.Repeat("r", 65), phone)), 400, "4000001", "partnerReferenceNo"},
		"reference as a number":    {body(`{"partnerReferenceNo":1,"phoneNo":"081139291900"}`), 400, "4000001", "partnerReferenceNo"},
		"no phone":                 {body(`{"partnerReferenceNo":"r"}`), 400, "4000002", "phoneNo"},
		"phone of 17":              {body(resetBody("r", "08"+strings.Repeat("1", 15))), 400, "4000001", "phoneNo"},
		"phone in +62 form":        {body(resetBody("r", "+6281139291900")), 400, "4000001", "phoneNo"},
		"phone without 08":         {body(resetBody("r", "6281139291900")), 400, "4000001", "phoneNo"},
		"a field of no document":   {body(`{"partnerReferenceNo":"r","phoneNo":"081139291900","x":1}`), 400, "4000001", "x"},
		"GET":                      {func(r *request) { r.method = http.MethodGet }, 405, "4050000", "GET"},
		"a path that is not there": {func(r *request) { r.target = "/v1.0/pin/forget" }, 404, "4040000", "path"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.Violations())
			r := w.finpay(token, pathReset, resetBody("ref-"+w.external(), phone))
			c.bend(&r)
			got := w.must(r)
			require.Equal(t, c.status, got.status, got.body)
			require.Equal(t, c.code, got.code(t))
			broken := w.Violations()[before:]
			require.Len(t, broken, 1)
			require.Contains(t, broken[0].Text, c.says)
			require.NotContains(t, broken[0].Text, token)
			require.Equal(t, w.last().Seq, broken[0].Exchange)
		})
	}
	require.Empty(t, w.Effects())
}

// A minifier is part of the rule: white space that the client did not hash is no difference.
func TestBodyIsMinifiedBeforeHashing(t *testing.T) {
	w := start(t, config(t))
	r := w.finpay(w.token(upstream.Finpay), pathReset, `{"partnerReferenceNo":"a b\" {","phoneNo":"081139291900"}`)
	r.body = []byte("{\n  \"partnerReferenceNo\" : \"a b\\\" {\",\r\n\t\"phoneNo\": \"081139291900\"\n}\n")
	require.Equal(t, "2000600", w.must(r).code(t))
	w.clean()
}

func TestTokenRefusals(t *testing.T) {
	w := start(t, config(t))
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	set := func(name, value string) func(*request) {
		return func(r *request) { r.header.Set(name, value) }
	}
	for name, c := range map[string]struct {
		bend func(*request)
		code string
	}{
		"unknown client":     {set("X-Client-Key", "stranger"), "4017300"},
		"no client":          {func(r *request) { r.header.Del("X-Client-Key") }, "4007302"},
		"no signature":       {func(r *request) { r.header.Del("X-Signature") }, "4007302"},
		"nonsense signature": {set("X-Signature", "AAAA"), "4017300"},
		"foreign key": {func(r *request) {
			text := finpayID + "|" + r.header.Get("X-Timestamp")
			r.header.Set("X-Signature", base64.StdEncoding.EncodeToString(rsaSign(foreign, text)))
		}, "4017300"},
		"client and time joined by a colon": {func(r *request) {
			text := finpayID + ":" + r.header.Get("X-Timestamp")
			r.header.Set("X-Signature", base64.StdEncoding.EncodeToString(rsaSign(clientKey(), text)))
		}, "4017300"},
		"old timestamp":      {set("X-Timestamp", stamp(time.Now().Add(-time.Hour))), "4017300"},
		"timestamp in UTC":   {set("X-Timestamp", "2026-01-01T00:00:00Z"), "4007301"},
		"wrong grant":        {func(r *request) { r.body = []byte(`{"grantType":"password"}`) }, "4007301"},
		"no grant":           {func(r *request) { r.body = []byte(`{}`) }, "4007302"},
		"additional text":    {func(r *request) { r.body = []byte(`{"grantType":"client_credentials","additionalInfo":""}`) }, "4007301"},
		"unknown field":      {func(r *request) { r.body = []byte(`{"grantType":"client_credentials","scope":"all"}`) }, "4007301"},
		"no JSON":            {func(r *request) { r.body = []byte(`grant_type=client_credentials`) }, "4007300"},
		"wrong content type": {set("Content-Type", "application/x-www-form-urlencoded"), "4007301"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.Violations())
			r := tokenRequest(upstream.Finpay, finpayID)
			c.bend(&r)
			require.Equal(t, c.code, w.must(r).code(t))
			require.Len(t, w.Violations(), before+1)
		})
	}
	require.Zero(t, w.State().Platforms[upstream.Finpay].TokensIssued)
}

func TestTokenAnswers(t *testing.T) {
	began := time.Now() // the platform's clock stands there: a token's last second is not this machine's
	for form, check := range map[string]func(*testing.T, any){
		upstream.ExpiresString: func(t *testing.T, v any) { require.Equal(t, "600", v) },
		upstream.ExpiresInt:    func(t *testing.T, v any) { require.EqualValues(t, 600, v) },
		upstream.ExpiresDate: func(t *testing.T, v any) {
			text, ok := v.(string)
			require.True(t, ok)
			at, err := time.Parse(time.RFC3339, text)
			require.NoError(t, err)
			require.WithinDuration(t, began.Add(10*time.Minute), at, time.Second)
		},
	} {
		t.Run(form, func(t *testing.T) {
			cfg := config(t)
			cfg.Now = func() time.Time { return began }
			cfg.Finpay.TokenLength = 3000
			cfg.Finpay.Partners[0].ExpiresIn = form
			cfg.Finpay.Partners[0].TokenLifeSeconds = 600
			w := start(t, cfg)
			got := w.must(tokenRequest(upstream.Finpay, finpayID))
			require.Equal(t, "2007300", got.code(t))
			require.Len(t, got.text(t, "accessToken"), 3000)
			check(t, got.field(t, "expiresIn"))
			w.Advance(599 * time.Second)
			require.Equal(t, 200, w.must(w.finpay(got.text(t, "accessToken"), pathReset, resetBody("ref1", phone))).status)
			w.Advance(time.Second)
			require.Equal(t, "4010001", w.must(w.finpay(got.text(t, "accessToken"), pathReset, resetBody("ref2", phone))).code(t))
			w.clean()
		})
	}
}

func TestAsymmetricTransactions(t *testing.T) {
	for name, token := range map[string]bool{"without a token": false, "with a token": true} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			cfg.Finpay.Partners[0].Mode = upstream.ModeAsymmetric
			cfg.Finpay.Partners[0].ClientSecret = ""
			cfg.Finpay.Partners[0].SignatureEncoding = upstream.EncodingHex
			w := start(t, cfg)
			r := w.finpay(w.token(upstream.Finpay), pathReset, resetBody("ref1", phone))
			if !token {
				r.header.Del("Authorization")
			}
			text := "POST:" + pathReset + ":" + sha256hex(r.body) + ":" + r.header.Get("X-Timestamp")
			r.header.Set("X-Signature", strings.ToUpper(hex.EncodeToString(rsaSign(clientKey(), text))))
			require.Equal(t, "4010000", w.must(r).code(t), "hexadecimal is lower case")
			r.header.Set("X-Signature", hex.EncodeToString(rsaSign(clientKey(), text)))
			require.Equal(t, "2000600", w.must(r).code(t))
			r = w.finpay("x", pathReset, resetBody("ref2", phone))
			r.header.Del("Authorization")
			require.Equal(t, "4010000", w.must(r).code(t), "a symmetric signature does not do")
		})
	}
}

func TestQueryIsSignedOrNot(t *testing.T) {
	for name, signed := range map[string]bool{"signed": true, "not signed": false} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			cfg.Finpay.Partners[0].SignQuery = new(signed)
			w := start(t, cfg)
			r := w.finpay(w.token(upstream.Finpay), pathReset, resetBody("ref1", phone))
			if signed {
				r.target += "?b=2&a=1"
				r = w.resign(r, finpaySecret)
			} else {
				r.target += "?b=2&a=1" // after signing
			}
			require.Equal(t, "2000600", w.must(r).code(t))
		})
	}
}

func TestExternalIDIsUsedOnceADay(t *testing.T) {
	var clock time.Time
	cfg := config(t)
	cfg.Finpay.Dedupe = new(false)
	// 23:50 in Jakarta; the window is wide because the test's client keeps the real time.
	clock = time.Date(2026, 3, 1, 16, 50, 0, 0, time.UTC)
	cfg.Now = func() time.Time { return clock }
	w := start(t, cfg)
	token := ""
	send := func(ext, body string) string {
		r := w.finpay(token, pathReset, body)
		r.header.Set("X-External-Id", ext)
		r.header.Set("X-Timestamp", stamp(clock))
		return w.must(w.resign(r, finpaySecret)).code(t)
	}
	login := func() {
		r := tokenRequest(upstream.Finpay, finpayID)
		now := stamp(clock)
		r.header.Set("X-Timestamp", now)
		r.header.Set("X-Signature", base64.StdEncoding.EncodeToString(rsaSign(clientKey(), finpayID+"|"+now)))
		token = w.must(r).text(t, "accessToken")
	}
	login()
	ext := w.external()
	require.Equal(t, "2000600", send(ext, resetBody("ref1", phone)))
	require.Equal(t, "4090000", send(ext, resetBody("ref1", phone)))
	w.clean() // a repeat of the same is what a client in doubt may do
	require.Equal(t, "4090000", send(ext, resetBody("ref2", phone)))
	require.Len(t, w.Violations(), 1, "the same id for another request is not")
	clock = clock.Add(9 * time.Minute)
	require.Equal(t, "4090000", send(ext, resetBody("ref1", phone)))
	clock = clock.Add(2 * time.Minute) // past midnight in Jakarta, not in UTC
	require.Equal(t, "2000600", send(ext, resetBody("ref1", phone)))
	require.Equal(t, 2, w.EffectCount("finpay.reset_pin", "ref1"))
}

func TestExternalIDMayRepeatWhereThePlatformDoesNotLook(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.Dedupe, cfg.Finpay.UniqueExternalID = new(false), new(false)
	w := start(t, cfg)
	r := w.finpay(w.token(upstream.Finpay), pathReset, resetBody("ref1", phone))
	for range 2 {
		require.Equal(t, 200, w.must(r).status)
	}
	require.Equal(t, 2, w.EffectCount("finpay.reset_pin", "ref1"))
	w.clean()
}

// TestOtherRefusals covers the fields of the operations besides finpay.reset_pin, with their own service codes.
func TestOtherRefusals(t *testing.T) {
	w := start(t, config(t))
	fin, net := w.token(upstream.Finpay), w.token(upstream.Netzme)
	const m = `"merchantId":"` + merchantID + `"`
	long := strings.Repeat("x", 65)
	for name, c := range map[string]struct {
		target, body, code string
	}{
		"bind without merchant":        {pathBind, `{"phoneNo":"081"}`, "4000702"},
		"bind with a long merchant":    {pathBind, `{"merchantId":"` + long + `","phoneNo":"081"}`, "4000701"},
		"bind for another merchant":    {pathBind, `{"merchantId":"other","phoneNo":"081139291900"}`, "4040708"},
		"bind without phone":           {pathBind, `{` + m + `}`, "4000702"},
		"bind with two references":     {pathBind, `{` + m + `,"phoneNo":"081","referenceNo":"1","refrenceNo":"1"}`, "4000701"},
		"bind with an unknown field":   {pathBind, `{` + m + `,"phoneNo":"081","otp":"1"}`, "4000701"},
		"inquiry without info":         {pathInquiry, `{}`, "4000802"},
		"inquiry without phone":        {pathInquiry, `{"additionalInfo":{}}`, "4000802"},
		"inquiry with a number":        {pathInquiry, `{"additionalInfo":{"phoneNo":81}}`, "4000801"},
		"inquiry with more":            {pathInquiry, `{"additionalInfo":{"phoneNo":"081"},"x":1}`, "4000801"},
		"unbind without info":          {pathUnbind, `{` + m + `}`, "4000902"},
		"unbind: info is text":         {pathUnbind, `{` + m + `,"additionalInfo":"x"}`, "4000901"},
		"unbind first call with OTP":   {pathUnbind, `{` + m + `,"additionalInfo":{"phoneNo":"081","otp":"1"}}`, "4000901"},
		"unbind second call, no OTP":   {pathUnbind, `{` + m + `,"referenceNo":"1","additionalInfo":{"phoneNo":"081"}}`, "4000902"},
		"unbind with an OTP of 9":      {pathUnbind, `{` + m + `,"referenceNo":"1","additionalInfo":{"phoneNo":"081","otp":"123456789"}}`, "4000901"},
		"unbind with an empty ref":     {pathUnbind, `{` + m + `,"referenceNo":"","additionalInfo":{"phoneNo":"081","otp":"1"}}`, "4000902"},
		"unbind for another merchant":  {pathUnbind, `{"merchantId":"other","additionalInfo":{"phoneNo":"080012341373"}}`, "4040908"},
		"forgot without customer":      {"netzme", `{"partnerReferenceNo":"1","additionalInfo":{"type":"forgot_pin"}}`, "4000002"},
		"forgot without reference":     {"netzme", `{"custIdMerchant":"1","additionalInfo":{"type":"forgot_pin"}}`, "4000002"},
		"forgot with a long reference": {"netzme", forgotBody(long, custID), "4000001"},
		"forgot without type":          {"netzme", `{"custIdMerchant":"1","partnerReferenceNo":"1","additionalInfo":{}}`, "4000002"},
		"forgot with another type":     {"netzme", `{"custIdMerchant":"1","partnerReferenceNo":"1","additionalInfo":{"type":"forgot"}}`, "4000001"},
		"forgot with more in the info": {"netzme", `{"custIdMerchant":"1","partnerReferenceNo":"1","additionalInfo":{"type":"forgot_pin","x":1}}`, "4000001"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.Violations())
			r := w.finpay(fin, c.target, c.body)
			if c.target == "netzme" {
				r = w.netzme(net, "v1.0", c.body)
			}
			require.Equal(t, c.code, w.must(r).code(t))
			require.Len(t, w.Violations(), before+1)
		})
	}
	require.Empty(t, w.Effects())
}

func TestBindTakesEitherSpelling(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	for _, name := range []string{"referenceNo", "refrenceNo"} {
		got := w.must(w.finpay(token, pathBind, `{"merchantId":"`+merchantID+`","phoneNo":"`+phone+`","`+name+`":"9277141702082429358"}`))
		require.Equal(t, "2000700", got.code(t))
		require.Equal(t, "9277141702082429358", got.text(t, "referenceNo"))
	}
	w.clean()
}

func TestPrepaidRefusals(t *testing.T) {
	w := start(t, config(t))
	right := cardBody("txn1", "121200")
	swap := func(old, with string) request {
		require.Contains(t, right, old)
		return cardRequest(strings.Replace(right, old, with, 1))
	}
	bent := func(bend func(*request)) request {
		r := cardRequest(right)
		bend(&r)
		return r
	}
	set := func(name, value string) request { return bent(func(r *request) { r.header.Set(name, value) }) }
	drop := func(name string) request { return bent(func(r *request) { r.header.Del(name) }) }
	for name, c := range map[string]struct {
		request request
		status  int
		code    string // in an envelope if it begins with a tilde
	}{
		"no api key":            {drop("X-Api-Key"), 401, ""},
		"wrong api key":         {set("X-Api-Key", "guess"), 403, ""},
		"no client":             {drop("Clientid"), 200, "1310"},
		"wrong client":          {set("Clientid", "1"), 200, "1032"},
		"no bank":               {drop("Bankid"), 200, "1311"},
		"wrong bank":            {set("Bankid", "1"), 200, "1031"},
		"no entity":             {drop("Entityid"), 200, "1262"},
		"wrong entity":          {set("Entityid", "101"), 200, "1030"},
		"no secure code":        {drop("Securecode"), 200, "1264"},
		"wrong secure code":     {set("Securecode", "x"), 200, "1049"},
		"wrong content type":    {set("Content-Type", "text/plain"), 400, "1030"},
		"plain body":            {bent(func(r *request) { r.body = []byte(right) }), 400, "1030"},
		"body of no JSON":       {bent(func(r *request) { r.body = []byte("x") }), 400, "1030"},
		"result for token":      {bent(func(r *request) { r.body = []byte(strings.Replace(string(r.body), "token", "result", 1)) }), 400, "1030"},
		"token of no Base64":    {cardEnvelope("/mob1/api/onboarding/v1/resetPin", "?"), 400, "1030"},
		"token too short":       {cardEnvelope("/mob1/api/onboarding/v1/resetPin", "AAAAAAAAAAAAAAAAAAAAAA=="), 400, "1030"},
		"another key":           {cardEnvelope("/mob1/api/onboarding/v1/resetPin", encrypt(strings.Repeat("ab", 24), "prefix", "", []byte(right))), 400, "1030"},
		"another IV mode":       {cardEnvelope("/mob1/api/onboarding/v1/resetPin", encrypt(cardKeyHex, "zero", "", []byte(right))), 400, "1030"},
		"content of no JSON":    {cardRequest("hello"), 400, "1030"},
		"an unknown field":      {swap(`"urn"`, `"x":1,"urn"`), 400, "1030"},
		"urn as a string":       {swap("70000000008", `"70000000008"`), 200, "1030"},
		"urn of 12 digits":      {swap("70000000008", "700000000080"), 200, "1030"},
		"urn with an exponent":  {swap("70000000008", "7e10"), 200, "1030"},
		"no urn":                {swap(`"urn":70000000008,`, ""), 200, "1030"},
		"txn of 26":             {swap("txn1", strings.Repeat("t", 26)), 200, "1030"},
		"txn with a dash":       {swap("txn1", "txn-1"), 200, "1030"},
		"wrong message code":    {swap("1120", "1121"), 200, "~1030"},
		"last four of three":    {swap(`"1745"`, `"174"`), 200, "~1030"},
		"last four as a number": {swap(`"1745"`, `1745`), 200, "~1030"},
		"PIN of 3":              {swap(`"121200"`, `"121"`), 200, "~1030"},
		"PIN of 7":              {swap(`"121200"`, `"1212001"`), 200, "~1030"},
		"PIN with a letter":     {swap(`"121200"`, `"12120a"`), 200, "~1030"},
		"PIN as a number":       {swap(`"121200"`, `121200`), 200, "~1030"},
		"no PIN":                {swap(`"newPIN":"121200",`, ""), 200, "~1030"},
		"date of 13":            {swap(`"requestDateTime":"2`, `"requestDateTime":"`), 200, "~1088"},
		"date of no date":       {swap(right[strings.Index(right, `"20`)+1:][:6], "209913"), 200, "~1088"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(w.Violations())
			got := w.must(c.request)
			require.Equal(t, c.status, got.status, got.body)
			if code, sealed := strings.CutPrefix(c.code, "~"); sealed {
				require.Equal(t, code, got.opened(t).code(t))
			} else if c.code != "" {
				require.Equal(t, c.code, got.code(t))
			}
			broken := w.Violations()[before:]
			require.Len(t, broken, 1)
			require.NotContains(t, broken[0].Text, "1212")
		})
	}
	require.Empty(t, w.Effects())
}

func TestPrepaidCardNotFound(t *testing.T) {
	cfg := config(t)
	w := start(t, cfg)
	got := w.must(cardRequest(strings.Replace(cardBody("txn1", "121200"), `"1745"`, `"1746"`, 1))).opened(t)
	require.Equal(t, "1001", got.code(t))
	require.Equal(t, "CARD_NOT_FOUND", got.text(t, "responseMessage"))
	require.Equal(t, "txn1", got.text(t, "clientTxnId"))
	w.clean()
	require.Empty(t, w.Effects())
}

// What a platform would let pass but a client should not do is noted and not refused.
func TestPrepaidNotesWhatItLetsPass(t *testing.T) {
	w := start(t, config(t))
	right := cardBody("txn1", "121200")
	for _, plain := range []string{
		strings.Replace(right, ",", ", ", 1),
		strings.Replace(right, right[strings.Index(right, `"20`)+1:][:14], kolkata(time.Now().Add(-3*time.Hour)), 1),
	} {
		before := len(w.Violations())
		w.must(cardRequest(plain))
		require.Len(t, w.Violations(), before+1, plain)
	}
	_, rest, found := strings.Cut(right, `"clientTxnId"`)
	require.True(t, found)
	reordered := `{"requestDateTime":"` + kolkata(time.Now()) + `","messageCode":"1120","clientTxnId"` + rest
	before := len(w.Violations())
	require.Equal(t, "00", w.must(cardRequest(reordered)).opened(t).code(t))
	require.Len(t, w.Violations(), before+1)
}

func TestNetzmeExternalID(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Netzme)
	short := w.netzme(token, "v1.0", forgotBody("ref", custID))
	short.header.Set("X-External-Id", "7")
	require.Equal(t, "2000000", w.must(w.resign(short, netzmeSecret)).code(t))
	for ext, code := range map[string]string{
		strings.Repeat("7", 36): "4030004", strings.Repeat("7", 37): "4000001", "7a": "4000001",
	} {
		r := w.netzme(token, "v1.0", forgotBody("ref-x", custID))
		r.header.Set("X-External-Id", ext)
		require.Equal(t, code, w.must(w.resign(r, netzmeSecret)).code(t))
	}
	upper := w.netzme(token, "v1.0", forgotBody("ref-y", custID))
	upper.header.Set("X-Signature", strings.ToUpper(upper.header.Get("X-Signature")))
	require.Equal(t, "4010000", w.must(upper).code(t))
	require.Contains(t, w.must(upper).text(t, "responseMessage"), "Unauthorized")
}
