package prepaid

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

// IV says where the initialisation vector of a message is found. No document of
// the platform says it; see docs/providers.md, "Prepaid".
type IV string

// The places of an IV.
const (
	IVPrefix IV = "prefix" // 16 random bytes before the ciphertext
	IVSuffix IV = "suffix" // 16 random bytes after it
	IVZero   IV = "zero"   // 16 zero bytes, not sent
	IVStatic IV = "static" // Config.StaticIV, not sent
)

// How the card and the person are validated before a PIN is reset.
const (
	VerifyByStaff      = "staff"             // branch staff confirm both with a code of their own
	VerifyByCardholder = "verify_cardholder" // the platform's Verify Cardholder call
)

// What happens without a link.
const (
	OfflineRefuse = "refuse" // the request is refused at once and the PIN never stored
	OfflineHold   = "hold"   // it waits sealed, for minutes
)

// Config is the [prepaid] table of the configuration file. Start from Default:
// the zero value of a field is not its default.
type Config struct {
	BaseURL   string `toml:"base_url"`   // "https://host", with a path where the gateway has one
	ResetPath string `toml:"reset_path"` // default "/mob1/api/onboarding/v1/resetPin"

	ClientID         string `toml:"client_id"`          // header clientId; the answer echoes it
	BankID           string `toml:"bank_id"`            // header bankId, digits; the answer echoes it
	EntityID         string `toml:"entity_id"`          // header entityId, digits; default "100", the parent branch
	ConsumerCustomID string `toml:"consumer_custom_id"` // header X-Consumer-Custom-ID, which some gateways demand; "" is not sent

	MessageCode       string `toml:"message_code"`        // default "1120"
	AnswerMessageCode string `toml:"answer_message_code"` // default "1121"

	IV       IV     `toml:"iv"`        // default "prefix"
	StaticIV string `toml:"static_iv"` // with iv = "static": 32 hexadecimal digits

	// AnswerField is "token" (default) or "result": the field of an answer that
	// holds its envelope. An answer that has only the other one is read too; the
	// setting decides where it has both.
	AnswerField string `toml:"answer_field"`
	// Zone is the IANA name of the zone of requestDateTime; default "Asia/Kolkata".
	Zone string `toml:"zone"`

	PINMin      int  `toml:"pin_min"`       // digits; default 4, at least 4
	PINMax      int  `toml:"pin_max"`       // digits; default 6, at most 12
	URNAsNumber bool `toml:"urn_as_number"` // default true, as in the document's sample

	// SuccessCodes are the values of responseCode that mean done; default "00", "0"
	// and "201". They are compared as text.
	SuccessCodes []string `toml:"success_codes"`
	// RejectCodes adds to the documented table of codes that mean a definite no, or
	// changes it: code = reason, where the reason is one of refused, bad_field,
	// too_many, not_found, blocked, not_allowed and misconfigured, or "unknown" to
	// take a documented code out of the table.
	RejectCodes map[string]string `toml:"reject_codes"`

	// Verification is "staff" or "verify_cardholder". Without it Reset PIN is
	// switched off: the platform's document demands that the card be validated first.
	Verification            string `toml:"verification"`
	VerifyPath              string `toml:"verify_path"`                // with verify_cardholder; default "/mob1/api/onboarding/v1/verifyCardholder"
	VerifyMessageCode       string `toml:"verify_message_code"`        // with verify_cardholder; no default, no document gives it
	VerifyAnswerMessageCode string `toml:"verify_answer_message_code"` // with verify_cardholder; no default

	Offline         string `toml:"offline"`          // "refuse" (default) or "hold"
	OfflineApproval string `toml:"offline_approval"` // with hold: who at the issuer approved it, and when
}

// Secrets are the two headers that come from credentials and not from the
// configuration file. The Provider keeps them and does not wipe them.
type Secrets struct {
	APIKey     *secret.Value // x-api-key
	SecureCode *secret.Value // secureCode
}

// Default returns the defaults of docs/providers.md, "Prepaid". What has none
// (base_url, client_id, bank_id, verification) is empty.
func Default() Config {
	return Config{
		ResetPath:         "/mob1/api/onboarding/v1/resetPin",
		EntityID:          "100",
		MessageCode:       "1120",
		AnswerMessageCode: "1121",
		IV:                IVPrefix,
		AnswerField:       "token",
		Zone:              "Asia/Kolkata",
		PINMin:            4,
		PINMax:            6,
		URNAsNumber:       true,
		SuccessCodes:      []string{"00", "0", "201"},
		VerifyPath:        "/mob1/api/onboarding/v1/verifyCardholder",
		Offline:           OfflineRefuse,
	}
}

// SettingError is a setting that cannot be used.
type SettingError struct {
	Setting string // its name in the configuration file
	Problem string
	Hint    string // what to do
}

// Error is one sentence.
func (e *SettingError) Error() string {
	return fmt.Sprintf("prepaid.%s %s; %s", e.Setting, e.Problem, e.Hint)
}

func wrong(setting, problem, hint string) error {
	return &SettingError{Setting: setting, Problem: problem, Hint: hint}
}

// Hard bounds of a PIN's length; ISO 9564-1 allows 4 to 12 digits.
const (
	pinFloor   = 4
	pinCeiling = 12
)

// Validate returns a *SettingError for the first setting that cannot be used.
func (c *Config) Validate() error {
	checks := []func() error{c.checkAddress, c.checkIdentity, c.checkEnvelope, c.checkCodes, c.checkVerification}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	switch {
	case c.PINMin < pinFloor || c.PINMin > pinCeiling:
		return wrong("pin_min", fmt.Sprintf("is %d", c.PINMin), "give the fewest digits of a PIN, 4 to 12")
	case c.PINMax < c.PINMin || c.PINMax > pinCeiling:
		return wrong("pin_max", fmt.Sprintf("is %d", c.PINMax), "give the most digits of a PIN, from pin_min to 12")
	case c.Offline != OfflineRefuse && c.Offline != OfflineHold:
		return wrong("offline", fmt.Sprintf("%q is not known", c.Offline), `use "refuse" or "hold"`)
	case c.Offline == OfflineHold && strings.TrimSpace(c.OfflineApproval) == "":
		return wrong("offline_approval", "is missing, and offline is \"hold\"",
			"name who at the issuer approved that a PIN may wait, and when, or set offline = \"refuse\"")
	}
	return nil
}

func (c *Config) checkAddress() error {
	const hint = `give the platform's address such as "https://cards.example.com"`
	u, err := url.Parse(c.BaseURL)
	switch {
	case c.BaseURL == "":
		return wrong("base_url", "is missing", hint)
	case err != nil:
		return wrong("base_url", "cannot be read", hint)
	case u.Scheme != "https":
		return wrong("base_url", "does not begin with https://", hint)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return wrong("base_url", "has no host, or a user name, query or fragment", hint)
	}
	return checkPath("reset_path", c.ResetPath)
}

func checkPath(setting, path string) error {
	for _, r := range path {
		if r <= ' ' || r > '~' || strings.ContainsRune(`?#%\"`, r) {
			return wrong(setting, "has a query, a fragment or a character that may not stand in a path", "give the path alone")
		}
	}
	if !strings.HasPrefix(path, "/") {
		return wrong(setting, "does not begin with /", "give the path from the root")
	}
	return nil
}

func (c *Config) checkIdentity() error {
	switch {
	case !headerText(c.ClientID, 64):
		return wrong("client_id", "is missing, too long or has a character that no header may hold", "give the clientId that the platform has issued")
	case !digits(c.BankID, 18):
		return wrong("bank_id", "is not a number of at most 18 digits", "give the bankId that the platform has issued, in quotation marks")
	case !digits(c.EntityID, 18):
		return wrong("entity_id", "is not a number of at most 18 digits", "give the branch's entityId in quotation marks; \"100\" is the parent branch")
	case c.ConsumerCustomID != "" && !headerText(c.ConsumerCustomID, 128):
		return wrong("consumer_custom_id", "is too long or has a character that no header may hold", "give the value of the gateway, or leave it out")
	}
	return nil
}

func (c *Config) checkEnvelope() error {
	const ivs = `use "prefix", "suffix", "zero" or "static"`
	switch c.IV {
	case IVPrefix, IVSuffix, IVZero:
		if c.StaticIV != "" {
			return wrong("static_iv", fmt.Sprintf("is given, but iv is %q", string(c.IV)), `leave it out, or set iv = "static"`)
		}
	case IVStatic:
		if b, err := hex.DecodeString(c.StaticIV); err != nil || len(b) != blockSize {
			return wrong("static_iv", "is not 32 hexadecimal digits", "give the 16 bytes that were agreed with the platform")
		}
	case "ecb", "ECB":
		return wrong("iv", `"ecb" is refused: without an IV equal blocks of two messages look equal, and a PIN is short`,
			"ask the platform for AES-192-CBC as its document says, and "+ivs)
	default:
		return wrong("iv", fmt.Sprintf("%q is not known", string(c.IV)), ivs)
	}
	if c.AnswerField != "token" && c.AnswerField != "result" {
		return wrong("answer_field", fmt.Sprintf("%q is not known", c.AnswerField), `use "token" or "result"`)
	}
	// LoadLocation takes "" as UTC and "Local" as whatever the machine is set to:
	// neither is something that was agreed with a platform.
	if _, err := time.LoadLocation(c.Zone); err != nil || c.Zone == "" || c.Zone == "Local" {
		return wrong("zone", fmt.Sprintf("%q is not a time zone", c.Zone), `give an IANA name such as "Asia/Kolkata" or "Asia/Jakarta"`)
	}
	return nil
}

func (c *Config) checkCodes() error {
	if !messageCode(c.MessageCode) {
		return wrong("message_code", "is not 1 to 4 letters or digits", `give the request's messageCode; the document has "1120"`)
	}
	if !messageCode(c.AnswerMessageCode) {
		return wrong("answer_message_code", "is not 1 to 4 letters or digits", `give the answer's messageCode; the document's sample has "1121"`)
	}
	if len(c.SuccessCodes) == 0 {
		return wrong("success_codes", "is empty", `give the codes that mean success; the default is ["00", "0", "201"]`)
	}
	for _, code := range c.SuccessCodes {
		if !plainText(code, maxCode) {
			return wrong("success_codes", "holds something that is not a code", "give 1 to 32 letters or digits each")
		}
	}
	for code, reason := range c.RejectCodes {
		switch {
		case !plainText(code, maxCode):
			return wrong("reject_codes", "holds something that is not a code", "give 1 to 32 letters or digits each")
		case reason != takeOut && !slices.Contains(rejectReasons, txn.Reason(reason)):
			return wrong("reject_codes", fmt.Sprintf("gives code %s the reason %q, which is not known", code, reason),
				"use refused, bad_field, too_many, not_found, blocked, not_allowed, misconfigured or unknown")
		}
	}
	table := c.rejections()
	for _, code := range c.SuccessCodes {
		if _, both := table[code]; both {
			return wrong("success_codes", fmt.Sprintf("holds %s, which is also a code of a rejection", code),
				`take it out there, or set reject_codes."`+code+`" = "unknown"`)
		}
	}
	return nil
}

func (c *Config) checkVerification() error {
	switch c.Verification {
	case "", VerifyByStaff:
		return nil
	case VerifyByCardholder:
	default:
		return wrong("verification", fmt.Sprintf("%q is not known", c.Verification), `use "staff" or "verify_cardholder", or leave it out to switch Reset PIN off`)
	}
	if err := checkPath("verify_path", c.VerifyPath); err != nil {
		return err
	}
	if !messageCode(c.VerifyMessageCode) {
		return wrong("verify_message_code", "is not 1 to 4 letters or digits", "ask the platform for the request's messageCode of Verify Cardholder")
	}
	if !messageCode(c.VerifyAnswerMessageCode) {
		return wrong("verify_answer_message_code", "is not 1 to 4 letters or digits", "ask the platform for the answer's messageCode of Verify Cardholder")
	}
	return nil
}

// check is for New: a value that no header may hold would be refused only when
// the first customer has entered a PIN.
func (s Secrets) check() error {
	const hint = "provision the credential again; it must be one line of visible characters"
	if !headerBytes(s.APIKey.Bytes(), 4096) {
		return wrong("x_api_key", "is missing or has a character that no header may hold", hint)
	}
	if !headerBytes(s.SecureCode.Bytes(), 4096) {
		return wrong("secure_code", "is missing or has a character that no header may hold", hint)
	}
	return nil
}

func headerText(s string, most int) bool { return headerBytes([]byte(s), most) }

func headerBytes(b []byte, most int) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) <= most
}

func digits(s string, most int) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= most
}

func messageCode(s string) bool { return plainText(s, 4) && !strings.ContainsAny(s, "-_.") }

// plainText: 1 to most letters, digits, "-", "_" and ".".
func plainText(s string, most int) bool {
	f := txn.Field{Min: 1, Max: most}
	return f.Check([]byte(s)) == nil
}
