package upstream_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/cmd/sandbox/upstream"
)

const (
	pathReset   = "/v1.0/pin/reset"
	pathBind    = "/v1.0/registration-account-binding"
	pathUnbind  = "/v1.0/registration-account-unbinding"
	pathInquiry = "/v1.0/registration-account-inquiry"
)

func TestFinpayResetPIN(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)

	got := w.must(w.finpay(token, pathReset, resetBody("ref1", phone)))
	require.Equal(t, 200, got.status)
	require.JSONEq(t, `{"responseCode":"2000600","responseMessage":"Request has been processed successfully"}`, got.body)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+07:00$`, got.header.Get("X-Timestamp"))

	again := w.must(w.finpay(token, pathReset, resetBody("ref1", phone)))
	require.Equal(t, 409, again.status)
	require.Equal(t, "4090001", again.code(t))
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", "ref1"))

	unknown := w.must(w.finpay(token, pathReset, resetBody("ref2", "0899999")))
	require.Equal(t, "4040011", unknown.code(t))
	require.Equal(t, 1, w.EffectCount("finpay.reset_pin", ""))
	w.clean()

	e := w.Ledger(upstream.LedgerFilter{Operation: "finpay.reset_pin"})
	require.Len(t, e, 3)
	require.Equal(t, upstream.StageAnswered, e[0].Stage)
	require.True(t, e[0].Effect)
	require.Equal(t, "ref1", e[0].Reference)
	require.Equal(t, phone, e[0].Subject)
	require.Equal(t, finpayID, e[0].Client)
	require.Len(t, e[0].ExternalID, 32)
	require.False(t, e[1].Effect)
}

func TestFinpayDoublingIsCountedWithDedupeOff(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.Dedupe = new(false)
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	for range 2 {
		require.Equal(t, 200, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
	}
	require.Equal(t, 2, w.EffectCount("finpay.reset_pin", "ref1"))
	require.Len(t, w.Effects(), 1)
	require.Len(t, w.Effects()[0].ExternalIDs, 2)
	require.NoError(t, w.SetDedupe(upstream.Finpay, true))
	require.Equal(t, 409, w.must(w.finpay(token, pathReset, resetBody("ref1", phone))).status)
}

func inquiryBody(phone string) string { return fmt.Sprintf(`{"additionalInfo":{"phoneNo":%q}}`, phone) }

func (w *world) status(token, phone string) string {
	w.t.Helper()
	got := w.must(w.finpay(token, pathInquiry, inquiryBody(phone)))
	require.Equal(w.t, "2000800", got.code(w.t))
	return got.text(w.t, "additionalInfo", "accountStatus")
}

func bindBody(phone string) string {
	return fmt.Sprintf(`{"merchantId":%q,"phoneNo":%q}`, merchantID, phone)
}

func TestFinpayBind(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	require.Equal(t, "NOT_LINKED", w.status(token, phone))

	got := w.must(w.finpay(token, pathBind, bindBody(phone)))
	require.Equal(t, "2000700", got.code(t))
	linkage := got.text(t, "linkageToken")
	require.InDelta(t, 881, len(linkage), 40, "the document's sample has 881 characters")
	parts := strings.Split(linkage, ".")
	require.Len(t, parts, 3)
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var c struct{ Iat, Exp int64 }
	require.NoError(t, json.Unmarshal(claims, &c))
	require.EqualValues(t, 300, c.Exp-c.Iat)
	require.NotEmpty(t, got.text(t, "linkId"))
	require.NotEmpty(t, got.text(t, "referenceNo"))
	require.NotEmpty(t, got.text(t, "params", "redirectToDeeplink"))
	require.Equal(t, "NOT_LINKED", w.status(token, phone), "the first call alone links nothing")

	page := got.text(t, "redirectUrl")
	require.True(t, strings.HasPrefix(page, w.URL(upstream.Control)), page)
	require.Equal(t, 403, get(t, page).status)
	q := "?" + url.Values{"linkageToken": {linkage}}.Encode()
	require.Contains(t, get(t, page+q).body, "<form")
	require.Equal(t, 400, postForm(t, page, url.Values{"linkageToken": {linkage}, "pin": {"12"}}).status)
	require.Equal(t, 200, postForm(t, page, url.Values{"linkageToken": {linkage}, "pin": {"123456"}}).status)
	require.Equal(t, 410, get(t, page+q).status)
	require.Equal(t, "LINKED", w.status(token, phone))
	require.Equal(t, 1, w.EffectCount("finpay.bind", ""))
	require.Equal(t, 1, w.EffectCount("finpay.link", got.text(t, "linkId")))
	w.clean()
}

func TestFinpayLinkByControlGivesAnAuthCodeForOneCustomerToken(t *testing.T) {
	w := start(t, config(t))
	_, err := w.Link(phone)
	require.ErrorIs(t, err, upstream.ErrNoLink)
	token := w.token(upstream.Finpay)
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
	done, err := w.Link(phone)
	require.NoError(t, err)
	require.Contains(t, done.RedirectURL, "authCode=")
	_, err = w.Link(phone)
	require.ErrorIs(t, err, upstream.ErrNoLink, "a link is used once")

	exchange := func(body string) result {
		r := tokenRequest(upstream.Finpay, finpayID)
		r.target, r.body = "/v1.0/access-token/b2b2c", []byte(body)
		return w.must(r)
	}
	got := exchange(fmt.Sprintf(`{"grantType":"authorization_code","authCode":%q}`, done.AuthCode))
	require.Equal(t, "2007400", got.code(t))
	require.Equal(t, "4017402", exchange(fmt.Sprintf(`{"grantType":"authorization_code","authCode":%q}`, done.AuthCode)).code(t))
	more := exchange(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q}`, got.text(t, "refreshToken")))
	require.Equal(t, "2007400", more.code(t))
	require.NotEqual(t, got.text(t, "accessToken"), more.text(t, "accessToken"))
	w.clean()
}

func TestFinpayLinkExpires(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	got := w.must(w.finpay(token, pathBind, bindBody(phone)))
	w.Advance(301 * time.Second)
	_, err := w.Link(phone)
	require.ErrorIs(t, err, upstream.ErrLinkExpired)
	q := "?" + url.Values{"linkageToken": {got.text(t, "linkageToken")}}.Encode()
	require.Equal(t, 410, get(t, got.text(t, "redirectUrl")+q).status)
	require.Equal(t, "NOT_LINKED", w.status(token, phone))
}

func TestFinpayPageOverTLS(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.Page = "tls"
	w := start(t, cfg)
	got := w.must(w.finpay(w.token(upstream.Finpay), pathBind, bindBody(phone)))
	page := got.text(t, "redirectUrl")
	require.True(t, strings.HasPrefix(page, w.URL(upstream.Finpay)), page)
	form := w.must(request{upstream.Finpay, http.MethodGet, "/partner/binding/pin-verification?" +
		url.Values{"linkageToken": {got.text(t, "linkageToken")}}.Encode(), http.Header{}, nil})
	require.Contains(t, form.body, "<form")
}

func unbindBody(phone, reference, otp string) string {
	if reference == "" {
		return fmt.Sprintf(`{"merchantId":%q,"additionalInfo":{"phoneNo":%q}}`, merchantID, phone)
	}
	return fmt.Sprintf(`{"merchantId":%q,"referenceNo":%q,"additionalInfo":{"phoneNo":%q,"otp":%q}}`, merchantID, reference, phone, otp)
}

func TestFinpayUnbind(t *testing.T) {
	w := start(t, config(t))
	token := w.token(upstream.Finpay)
	first := w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", "")))
	require.Equal(t, "2000900", first.code(t))
	require.Equal(t, "UNBINDING_PENDING", first.text(t, "unlinkResult"))
	ref := first.text(t, "referenceNo")
	require.Equal(t, "LINKED", w.status(token, linkedPhone))

	otp, err := w.OTP(linkedPhone)
	require.NoError(t, err)
	second := w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, ref, otp)))
	require.Equal(t, "2000900", second.code(t))
	require.Equal(t, "UNBINDING_SUCCESS", second.text(t, "unlinkResult"))
	require.Equal(t, ref, second.text(t, "referenceNo"))
	require.Equal(t, "NOT_LINKED", w.status(token, linkedPhone))
	require.Equal(t, "4090901", w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, ref, otp))).code(t))
	require.Equal(t, "4040900", w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", ""))).code(t))
	require.Equal(t, 1, w.EffectCount("finpay.unbind.1", ""))
	require.Equal(t, 1, w.EffectCount("finpay.unbind.2", ref))
	w.clean()

	steps := w.Ledger(upstream.LedgerFilter{Operation: "finpay.unbind"})
	require.Equal(t, 1, steps[0].Step)
	require.Equal(t, 2, steps[1].Step)
	require.Equal(t, ref, steps[1].Reference)
}

func TestFinpayUnbindOTP(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.FixedOTP = "696969"
	cfg.Finpay.OTPLifeSeconds = 120
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	open := func() string {
		return w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, "", ""))).text(t, "referenceNo")
	}
	try := func(ref, otp string) string {
		return w.must(w.finpay(token, pathUnbind, unbindBody(linkedPhone, ref, otp))).code(t)
	}
	blocked := open()
	for range 3 {
		require.Equal(t, "4040915", try(blocked, "000000"))
	}
	require.Equal(t, "4030911", try(blocked, "696969"), "even the right OTP is blocked after three wrong ones")
	replaced := open()
	late := open()
	require.Equal(t, "4030912", try(replaced, "696969"), "a new OTP ends the old one")
	w.Advance(121 * time.Second)
	require.Equal(t, "4030912", try(late, "696969"))
	require.Equal(t, "4040901", try("1370000", "696969"))
	require.Zero(t, w.EffectCount("finpay.unbind.2", ""))
	require.Equal(t, "LINKED", w.status(token, linkedPhone))
	w.clean()
	require.NoError(t, w.SetCustomer(phone, true))
	require.Equal(t, "4040918", w.must(w.finpay(token, pathUnbind, unbindBody(phone, open(), "696969"))).code(t))
	require.Len(t, w.Violations(), 1)
}

func TestFinpayCustomerToken(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.CustomerTokenOperations = []string{"finpay.reset_pin"}
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
	done, err := w.Link(phone)
	require.NoError(t, err)
	r := tokenRequest(upstream.Finpay, finpayID)
	r.target, r.body = "/v1.0/access-token/b2b2c", []byte(fmt.Sprintf(`{"grantType":"authorization_code","authCode":%q}`, done.AuthCode))
	got := w.must(r)
	customer, refresh := got.text(t, "accessToken"), got.text(t, "refreshToken")

	send := func(change func(http.Header)) string {
		r := w.finpay(token, pathReset, resetBody("ref"+w.external(), phone))
		r.header.Set("Authorization-Customer", "Bearer "+customer)
		r.header.Set("X-Device-Id", "kiosk-1")
		change(r.header)
		return w.must(r).code(t)
	}
	require.Equal(t, "2000600", send(func(http.Header) {}))
	w.clean()
	require.Equal(t, "4000002", send(func(h http.Header) { h.Del("X-Device-Id") }))
	require.Equal(t, "4000002", send(func(h http.Header) { h.Del("Authorization-Customer") }))
	require.Equal(t, "4010004", send(func(h http.Header) { h.Set("Authorization-Customer", "Bearer nonsense") }))
	require.Equal(t, "4010003", send(func(h http.Header) { h.Set("Authorization", "Bearer "+customer) }), "a customer token is no client token")
	w.inject(upstream.Fault{Kind: upstream.KindExpireCustomerTokens})
	require.Equal(t, "4010002", send(func(http.Header) {}), "the client's own token goes on")
	require.Equal(t, "LINKED", w.status(token, phone))

	r.body = []byte(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q}`, refresh))
	customer = w.must(r).text(t, "accessToken")
	require.Equal(t, "2000600", send(func(http.Header) {}))
	w.Advance(901 * time.Second)
	token = w.token(upstream.Finpay)
	require.Equal(t, "4010002", send(func(http.Header) {}))
}

// TestFinpayCustomerTokenIsOneCustomers: it is good for its own customer, and ends with the binding.
func TestFinpayCustomerTokenIsOneCustomers(t *testing.T) {
	cfg := config(t)
	cfg.Finpay.CustomerTokenOperations, cfg.Finpay.FixedOTP = []string{"finpay.reset_pin"}, "696969"
	w := start(t, cfg)
	token := w.token(upstream.Finpay)
	require.Equal(t, 200, w.must(w.finpay(token, pathBind, bindBody(phone))).status)
	done, err := w.Link(phone)
	require.NoError(t, err)
	exchange := func(body string) result {
		r := tokenRequest(upstream.Finpay, finpayID)
		r.target, r.body = "/v1.0/access-token/b2b2c", []byte(body)
		return w.must(r)
	}
	got := exchange(fmt.Sprintf(`{"grantType":"authorization_code","authCode":%q,"additionalInfo":{}}`, done.AuthCode))
	customer, refresh := got.text(t, "accessToken"), got.text(t, "refreshToken")
	send := func(path, body string) string {
		r := w.finpay(token, path, body)
		r.header.Set("Authorization-Customer", "Bearer "+customer)
		r.header.Set("X-Device-Id", "kiosk-1")
		return w.must(r).code(t)
	}
	require.Equal(t, "2000600", send(pathReset, resetBody("ref"+w.external(), phone)))
	w.clean()
	require.Equal(t, "4010002", send(pathReset, resetBody("ref"+w.external(), linkedPhone)))
	require.Len(t, w.Violations(), 1)
	require.Equal(t, "2000800", send(pathInquiry, inquiryBody(phone)), "it is sent where nobody takes it")
	require.Len(t, w.Violations(), 2)
	require.Equal(t, "4007401", exchange(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q,"authCode":"x"}`, refresh)).code(t))

	first := w.must(w.finpay(token, pathUnbind, unbindBody(phone, "", "")))
	require.Equal(t, "2000900", w.must(w.finpay(token, pathUnbind, unbindBody(phone, first.text(t, "referenceNo"), "696969"))).code(t))
	require.Equal(t, "4010002", send(pathReset, resetBody("ref"+w.external(), phone)))
	require.Equal(t, "4017402", exchange(fmt.Sprintf(`{"grantType":"refresh_token","refreshToken":%q}`, refresh)).code(t))
}

func get(t *testing.T, target string) result {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	require.NoError(t, err)
	return plain(t, req)
}

func postForm(t *testing.T, target string, form url.Values) result {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "http://page.example")
	return plain(t, req)
}
