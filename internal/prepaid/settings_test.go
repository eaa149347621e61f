package prepaid

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
	"gardu/internal/wire"
)

// handMade is a platform of a few lines over TLS: it decrypts by its own setting,
// keeps the bytes that it found, and answers as the test says.
type handMade struct {
	key    string // the 24 bytes
	iv     string // where its own is: prefix, suffix, zero, or 32 hexadecimal digits
	answer func(h *handMade) (status int, body string)

	plain  string
	header http.Header
	calls  int
}

func (h *handMade) block() cipher.Block {
	b, err := aes.NewCipher([]byte(h.key))
	if err != nil {
		panic(err)
	}
	return b
}

// agreed is the IV that does not travel; nil where it does.
func (h *handMade) agreed() []byte {
	switch h.iv {
	case "prefix", "suffix":
		return nil
	case "zero":
		return make([]byte, aes.BlockSize)
	}
	b, _ := hex.DecodeString(h.iv)
	return b
}

// envelope is an answer's token.
func (h *handMade) envelope(plain string) string {
	n := aes.BlockSize - len(plain)%aes.BlockSize
	text := []byte(plain + strings.Repeat(string(rune(n)), n))
	iv := h.agreed()
	if iv == nil {
		iv = []byte("an IV of 16 byte")
	}
	cipher.NewCBCEncrypter(h.block(), iv).CryptBlocks(text, text)
	switch h.iv {
	case "prefix":
		text = append(iv, text...)
	case "suffix":
		text = append(text, iv...)
	}
	return base64.StdEncoding.EncodeToString(text)
}

func (h *handMade) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.calls++
	h.header = r.Header
	h.header.Set("Path", r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	var m struct{ Token string }
	raw, err := []byte(nil), json.Unmarshal(body, &m)
	if err == nil {
		raw, err = base64.StdEncoding.DecodeString(m.Token)
	}
	if err != nil || len(raw)%aes.BlockSize != 0 || len(raw) < 2*aes.BlockSize {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	iv, ct := h.agreed(), raw
	switch h.iv {
	case "prefix":
		iv, ct = raw[:aes.BlockSize], raw[aes.BlockSize:]
	case "suffix":
		iv, ct = raw[len(raw)-aes.BlockSize:], raw[:len(raw)-aes.BlockSize]
	}
	text := make([]byte, len(ct))
	cipher.NewCBCDecrypter(h.block(), iv).CryptBlocks(text, ct)
	h.plain = string(text[:max(0, len(text)-int(text[len(text)-1]))])
	status, answer := h.answer(h)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

// provider starts the platform and makes the provider for it, of the defaults and what
// set changes.
func (h *handMade) provider(t *testing.T, set func(*Config)) *Provider {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
	patience := wire.Duration(2 * time.Minute)
	client, err := wire.New(wire.Options{CAFile: ca, DialTimeout: patience, TLSTimeout: patience, HeaderTimeout: patience, Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	cfg := Default()
	cfg.BaseURL, cfg.ClientID, cfg.BankID, cfg.Verification = s.URL, "2000", "7000", VerifyByStaff
	if set != nil {
		set(&cfg)
	}
	p, err := New(cfg, Secrets{APIKey: secret.Clone([]byte("key")), SecureCode: secret.Clone([]byte("code"))},
		newCipher(t), ScreenEntry{}, client, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return p
}

// says makes an answer to the request with some of its texts replaced.
func says(field, text string) func(*handMade) (int, string) {
	return func(h *handMade) (int, string) { return 200, `{"` + field + `":"` + h.envelope(text) + `"}` }
}

// done is the document's own sample answer, as it is printed there but for the
// references of the request.
const done = `{
"urn": 70000000008,
"customerId": "IN00001201001868",
"description": "Reset Pin",
"responseCode": "00",
"messageCode": "1121",
"clientTxnId": "0001aB3d00007z",
"clientId": "2000",
"responseDateTime": "20160715025837",
"accosaTransactionId": 1031,
"responseMessage": "Success",
"accosaRefNo": "6007283",
"bankId": 7000
}`

// sent is what the document's sample request comes to by the defaults.
const sent = `{"messageCode":"1120","requestDateTime":"20160715025837","clientTxnId":"0001aB3d00007z","newPIN":"938271",` +
	`"urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"}`

// TestEverySettingAgainstAHandMadePlatform plays each setting of the [prepaid] table
// from New over TLS to a platform that was told the same, and to the answer's meaning;
// and to one that was told something else, where that must be found.
func TestEverySettingAgainstAHandMadePlatform(t *testing.T) {
	const static = "000102030405060708090a0b0c0d0e0f"
	swap := func(old, text string) string {
		require.Contains(t, done, old)
		return strings.Replace(done, old, text, 1)
	}
	codeIs := func(code string) func(*handMade) (int, string) {
		return says("token", swap(`"responseCode": "00"`, `"responseCode": `+code))
	}
	for name, tt := range map[string]struct {
		set     func(*Config)
		iv      string
		answer  func(*handMade) (int, string)
		sent    string // "" is the constant above; "-" is nothing that can be read
		path    string
		header  map[string]string
		outcome txn.Outcome // 0 is success
		reason  txn.Reason
	}{
		"defaults":               {},
		"iv prefix":              {set: func(c *Config) { c.IV = IVPrefix }, iv: "prefix"},
		"iv suffix":              {set: func(c *Config) { c.IV = IVSuffix }, iv: "suffix"},
		"iv zero":                {set: func(c *Config) { c.IV = IVZero }, iv: "zero"},
		"iv static":              {set: func(c *Config) { c.IV, c.StaticIV = IVStatic, static }, iv: static},
		"iv of another place":    {set: func(c *Config) { c.IV = IVSuffix }, sent: "-", outcome: txn.Unknown, reason: txn.ReasonUnreadable},
		"iv of another value":    {set: func(c *Config) { c.IV, c.StaticIV = IVStatic, static }, iv: "zero", sent: "-", outcome: txn.Unknown, reason: txn.ReasonUnreadable},
		"urn as text":            {set: func(c *Config) { c.URNAsNumber = false }, sent: strings.Replace(sent, "70000000008", `"70000000008"`, 1)},
		"numbers as texts":       {answer: says("token", strings.NewReplacer("70000000008", `"70000000008"`, "7000\n", "\"7000\"\n", "1031", `"1031"`).Replace(done))},
		"texts as numbers":       {answer: says("token", strings.NewReplacer(`"2000"`, "2000", `"1121"`, "1121", `"00"`, "0").Replace(done))},
		"a number past 64 bits":  {answer: says("token", swap(`"6007283"`, "123456789012345678901234567890"))},
		"answer in result":       {set: func(c *Config) { c.AnswerField = "result" }, answer: says("result", done)},
		"answer in the other":    {answer: says("result", done)},
		"success 0":              {answer: codeIs(`"0"`)},
		"success 201":            {answer: codeIs(`"201"`)},
		"success 000 is none":    {answer: codeIs(`"000"`), outcome: txn.Unknown, reason: txn.ReasonUnlisted},
		"success 2 is none":      {answer: codeIs(`2`), outcome: txn.Unknown, reason: txn.ReasonUnlisted},
		"a set of our own":       {set: func(c *Config) { c.SuccessCodes = []string{"S1"} }, answer: codeIs(`"S1"`)},
		"00 outside of the set":  {set: func(c *Config) { c.SuccessCodes = []string{"S1"} }, outcome: txn.Unknown, reason: txn.ReasonUnlisted},
		"a rejection of our own": {set: func(c *Config) { c.RejectCodes = map[string]string{"R9": "blocked"} }, answer: codeIs(`"R9"`), outcome: txn.WasRejected, reason: txn.ReasonBlocked},
		"a documented one taken": {set: func(c *Config) { c.RejectCodes = map[string]string{"1231": "unknown"} }, answer: codeIs(`1231`), outcome: txn.Unknown, reason: txn.ReasonUnlisted},
		"an error as plain JSON": {answer: func(*handMade) (int, string) {
			return 400, `{"responseCode":1034,"description":"INVALID_MOBILE_NUMBER"}`
		}, outcome: txn.WasRejected, reason: txn.ReasonBadField},
		"a success as plain JSON":  {answer: func(*handMade) (int, string) { return 200, done }, outcome: txn.Unknown, reason: txn.ReasonUnreadable},
		"zone Jakarta":             {set: func(c *Config) { c.Zone = "Asia/Jakarta" }, sent: strings.Replace(sent, "20160715025837", "20160715042837", 1)},
		"zone UTC":                 {set: func(c *Config) { c.Zone = "UTC" }, sent: strings.Replace(sent, "20160715025837", "20160714212837", 1)},
		"message codes":            {set: func(c *Config) { c.MessageCode, c.AnswerMessageCode = "2220", "2221" }, answer: says("token", swap(`"1121"`, `"2221"`)), sent: strings.Replace(sent, "1120", "2220", 1)},
		"message code of another":  {set: func(c *Config) { c.AnswerMessageCode = "2221" }, outcome: txn.Unknown, reason: txn.ReasonEchoMismatch},
		"the request's code back":  {answer: says("token", swap(`"1121"`, `"1120"`)), outcome: txn.Unknown, reason: txn.ReasonEchoMismatch},
		"client of another":        {set: func(c *Config) { c.ClientID = "2001" }, header: map[string]string{"Clientid": "2001"}, outcome: txn.Unknown, reason: txn.ReasonEchoMismatch},
		"bank of another":          {set: func(c *Config) { c.BankID = "7001" }, header: map[string]string{"Bankid": "7001"}, outcome: txn.Unknown, reason: txn.ReasonEchoMismatch},
		"the branch's entity":      {set: func(c *Config) { c.EntityID = "117" }, header: map[string]string{"Entityid": "117"}},
		"consumer of a gateway":    {set: func(c *Config) { c.ConsumerCustomID = "kiosk-7" }, header: map[string]string{"X-Consumer-Custom-Id": "kiosk-7"}},
		"another path":             {set: func(c *Config) { c.ResetPath = "/api/v2/resetPin" }, path: "/api/v2/resetPin"},
		"a path before it":         {set: func(c *Config) { c.BaseURL += "/gw/" }, path: "/gw/mob1/api/onboarding/v1/resetPin"},
		"six digits where 4 to 5":  {set: func(c *Config) { c.PINMax = 5 }, sent: "-", outcome: txn.WasRejected, reason: txn.ReasonBadField},
		"six digits where 8 to 12": {set: func(c *Config) { c.PINMin, c.PINMax = 8, 12 }, sent: "-", outcome: txn.WasRejected, reason: txn.ReasonBadField},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handMade{key: string(testKey), iv: "prefix", answer: says("token", done)}
			if tt.iv != "" {
				h.iv = tt.iv
			}
			if tt.answer != nil {
				h.answer = tt.answer
			}
			p := h.provider(t, tt.set)
			a := p.Submit(t.Context(), testCall())
			if tt.outcome == 0 {
				tt.outcome = txn.HasSucceeded
			}
			require.Equal(t, tt.outcome, a.Outcome, "%+v", a)
			require.Equal(t, tt.reason, a.Reason)
			if tt.reason == txn.ReasonBadField && tt.sent == "-" {
				require.Zero(t, h.calls)
				return
			}
			require.Equal(t, 1, h.calls)
			switch tt.sent {
			case "":
				require.Equal(t, sent, h.plain) //nolint:testifylint // byte for byte: order and blanks count
			case "-":
				require.NotEqual(t, sent, h.plain)
			default:
				require.Equal(t, tt.sent, h.plain)
			}
			want := map[string]string{
				"X-Api-Key": "key", "Securecode": "code", "Clientid": "2000", "Bankid": "7000", "Entityid": "100",
				"X-Consumer-Custom-Id": "", "Path": "/mob1/api/onboarding/v1/resetPin", "Content-Type": "application/json",
			}
			if tt.path != "" {
				want["Path"] = tt.path
			}
			for k, v := range tt.header {
				want[k] = v
			}
			for k, v := range want {
				require.Equal(t, v, h.header.Get(k), k)
			}
			if name == "a number past 64 bits" {
				require.Equal(t, "123456789012345678901234567890", a.Data[DataRefNo])
			}
		})
	}
}

// TestVerificationAgainstAHandMadePlatform plays the settings of the sibling call.
func TestVerificationAgainstAHandMadePlatform(t *testing.T) {
	set := func(c *Config) {
		c.Verification, c.VerifyPath, c.VerifyMessageCode, c.VerifyAnswerMessageCode = VerifyByCardholder, "/v2/verify", "1130", "1131"
	}
	for name, tt := range map[string]struct {
		code, message string
		want          txn.Verdict
	}{
		"right":             {"00", "1131", txn.VerdictOK},
		"no such card":      {"1001", "1131", txn.VerdictMismatch},
		"unlisted":          {"77", "1131", txn.VerdictUnknown},
		"another's message": {"00", "1121", txn.VerdictUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handMade{key: string(testKey), iv: "prefix"}
			h.answer = func(h *handMade) (int, string) {
				id := regexp.MustCompile(`"clientTxnId":"(\w{14})"`).FindStringSubmatch(h.plain)
				return says("token", fmt.Sprintf(`{"responseCode":%q,"messageCode":%q,"clientTxnId":%q}`, tt.code, tt.message, id[1]))(h)
			}
			v := h.provider(t, set).Verify(t.Context(), testCall().Request.Fields)
			require.Equal(t, tt.want, v.Verdict, "%+v", v)
			require.Equal(t, "/v2/verify", h.header.Get("Path"))
			require.Regexp(t, `^\{"messageCode":"1130","requestDateTime":"\d{14}","clientTxnId":"\w{14}","urn":70000000008,"last4Digits":"1745","customerId":"IN00001201001868"\}$`, h.plain)
			require.Equal(t, 1, h.calls)
		})
	}
}

// TestEverySettingIsPlayed: the table above, or the test that is named here, has each
// key of [prepaid].
func TestEverySettingIsPlayed(t *testing.T) {
	c, err := os.ReadFile("config.go")
	require.NoError(t, err)
	fields := regexp.MustCompile("(?m)^\\t(\\w+) +\\S+ +`toml:\"").FindAllStringSubmatch(string(c), -1)
	require.Greater(t, len(fields), 20)
	elsewhere := map[string]string{"Offline": "config_test.go", "OfflineApproval": "config_test.go"} // what the engine does by them
	for _, f := range fields {
		file := "settings_test.go"
		if other, there := elsewhere[f[1]]; there {
			file = other
		}
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Regexp(t, `\b(c|cfg)\.`+f[1]+`\b`, string(b), "%s has no case with the setting %s", file, f[1])
	}
}
