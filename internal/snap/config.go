package snap

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"gardu/internal/wire"
)

// Values of Config.Mode.
const (
	Symmetric  = "symmetric"  // HMAC-SHA512 with the client secret
	Asymmetric = "asymmetric" // SHA256withRSA
)

// Values of Config.SignatureEncoding.
const (
	Base64 = "base64" // standard, with padding
	Hex    = "hex"    // lower case
)

// Values of Config.EmptyBody: what stands in the string to sign for a call
// without a body.
const (
	EmptyHash   = "hash"   // the SHA-256 of no bytes
	EmptyBlank  = "blank"  // nothing
	EmptyObject = "object" // the SHA-256 of "{}"
)

// Config holds the settings that every SNAP provider has. Decode a file over
// FinpayDefaults or NetzmeDefaults; there is no default for who we are.
type Config struct {
	BaseURL   string `toml:"base_url"`   // "https://host", without a path
	ClientID  string `toml:"client_id"`  // X-CLIENT-KEY
	PartnerID string `toml:"partner_id"` // X-PARTNER-ID; "" takes client_id
	ChannelID string `toml:"channel_id"` // CHANNEL-ID, up to 5 characters
	Origin    string `toml:"origin"`     // ORIGIN; mandatory at Finpay
	DeviceID  string `toml:"device_id"`  // X-DEVICE-ID; "" sends none

	Mode              string `toml:"mode"`               // Symmetric (default) or Asymmetric
	SignatureEncoding string `toml:"signature_encoding"` // of calls: Base64 (Finpay's default) or Hex (Netzme's)
	SignQuery         bool   `toml:"sign_query"`         // the query is part of the signed path; default true
	EmptyBody         string `toml:"empty_body"`         // EmptyHash (default), EmptyBlank or EmptyObject
	MinRSABits        int    `toml:"min_rsa_bits"`       // smaller RSA keys are refused; default 2048, never below 1024

	TokenPath   string        `toml:"token_path"`   //
	TokenBody   string        `toml:"token_body"`   // sent as it stands
	TokenMargin wire.Duration `toml:"token_margin"` // renewed this long before its end; default 1m
	TokenLife   wire.Duration `toml:"token_life"`   // where the answer does not say; default 5m
	TokenJitter wire.Duration `toml:"token_jitter"` // a refused token is replaced after a random part of this; default 500ms

	ClockTolerance wire.Duration `toml:"clock_tolerance"` // default 1m
	ClockBound     wire.Duration `toml:"clock_bound"`     // larger corrections are not believed; default 24h
	Cooldown       wire.Duration `toml:"cooldown"`        // after "activity count limit exceeded"; default 1h
}

// Operation holds the settings of one call.
type Operation struct {
	Path          string `toml:"path"`
	CustomerToken bool   `toml:"customer_token"` // send Authorization-Customer; default off
}

// namedOperation is an operation with the name of its table in the file.
type namedOperation struct {
	name string
	Operation
}

// FinpayConfig is the configuration of Finpay.
type FinpayConfig struct {
	Config

	MerchantID            string        `toml:"merchant_id"`             // the bank, 1 to 64 characters
	BindingReferenceField string        `toml:"binding_reference_field"` // default "referenceNo"; the sample spells it "refrenceNo"
	SendBindingReference  bool          `toml:"send_binding_reference"`  // default off: the field is optional
	BindingTokenParam     string        `toml:"binding_token_param"`     // query parameter of the linkage token; default "linkageToken"
	InquireBeforeBind     bool          `toml:"inquire_before_bind"`     // default on
	LinkLife              wire.Duration `toml:"link_life"`               // of the customer's page, where its token does not say; default 5m
	OTPLife               wire.Duration `toml:"otp_life"`                // default 5m
	CustomerTokenPath     string        `toml:"customer_token_path"`     // of the B2B2C token; default "/v1.0/access-token/b2b2c"
	RefreshLife           wire.Duration `toml:"refresh_life"`            // of a customer's refresh token, where the answer does not say; default 720h
	PendingSuffix         string        `toml:"pending_suffix"`          // an unlinkResult or accountStatus that ends so is not final; default "PENDING", "" looks at the response code only

	ResetPIN Operation `toml:"reset_pin"`
	Bind     Operation `toml:"bind"`
	Unbind   Operation `toml:"unbind"`
	Inquiry  Operation `toml:"inquiry"`
}

// NetzmeConfig is the configuration of Netzme.
type NetzmeConfig struct {
	Config

	Version     string        `toml:"version"`      // of the API: "v1.0" (default) or "v2.0"
	RequireEcho bool          `toml:"require_echo"` // a success must repeat our reference; default on
	MaxCooldown wire.Duration `toml:"max_cooldown"` // timeLeftInMillis counts up to this; default 24h

	ForgotPIN Operation `toml:"forgot_pin"` // an empty path follows from the version
}

func defaults() Config {
	return Config{
		Mode: Symmetric, SignQuery: true, EmptyBody: EmptyHash, MinRSABits: 2048,
		TokenBody:      `{"grantType":"client_credentials","additionalInfo":{}}`,
		TokenMargin:    wire.Duration(time.Minute),
		TokenLife:      wire.Duration(5 * time.Minute),
		TokenJitter:    wire.Duration(500 * time.Millisecond),
		ClockTolerance: wire.Duration(time.Minute),
		ClockBound:     wire.Duration(24 * time.Hour),
		Cooldown:       wire.Duration(time.Hour),
	}
}

// FinpayDefaults returns the defaults of docs/providers.md for Finpay.
func FinpayDefaults() FinpayConfig {
	c := FinpayConfig{
		Config:                defaults(),
		BindingReferenceField: "referenceNo",
		BindingTokenParam:     "linkageToken",
		InquireBeforeBind:     true,
		LinkLife:              wire.Duration(5 * time.Minute),
		OTPLife:               wire.Duration(5 * time.Minute),
		CustomerTokenPath:     "/v1.0/access-token/b2b2c",
		RefreshLife:           wire.Duration(30 * 24 * time.Hour),
		PendingSuffix:         "PENDING",
		ResetPIN:              Operation{Path: "/v1.0/pin/reset"},
		Bind:                  Operation{Path: "/v1.0/registration-account-binding"},
		Unbind:                Operation{Path: "/v1.0/registration-account-unbinding"},
		Inquiry:               Operation{Path: "/v1.0/registration-account-inquiry"},
	}
	c.SignatureEncoding = Base64
	c.TokenPath = "/v1.0/access-token/b2b"
	return c
}

// NetzmeDefaults returns the defaults of docs/providers.md for Netzme.
func NetzmeDefaults() NetzmeConfig {
	c := NetzmeConfig{Config: defaults(), Version: "v1.0", RequireEcho: true, MaxCooldown: wire.Duration(24 * time.Hour)}
	c.SignatureEncoding = Hex
	c.TokenPath = "/api/v1/access-token/b2b"
	return c
}

// SettingError names a setting that cannot be used.
type SettingError struct {
	Setting string // as it is spelled in the file
	Problem string // what is wrong, and what to do
}

// Error is one sentence.
func (e *SettingError) Error() string { return e.Setting + " " + e.Problem }

// problems collects what is wrong, so that a branch need not find it one by one.
type problems []error

func (p *problems) add(bad bool, setting, problem string) {
	if bad {
		*p = append(*p, &SettingError{setting, problem})
	}
}

// Validate says everything that is wrong: the errors are *SettingError, joined.
func (c *FinpayConfig) Validate() error {
	p := c.validate("https://snapstag.finnet.co.id (staging) or https://snap.finnet.co.id (production)")
	p.add(c.Origin == "", "origin", "is missing; Finpay demands the ORIGIN header, give the name agreed with Finpay")
	p.add(!plain(c.MerchantID), "merchant_id", "must have 1 to 64 letters, digits, '_', '-' or '.'; give the bank's merchant id from Finpay")
	p.add(!plain(c.BindingReferenceField), "binding_reference_field", "must be a field name such as \"referenceNo\"")
	p.add(!plain(c.BindingTokenParam), "binding_token_param", "must be a parameter name such as \"linkageToken\"")
	p.add(c.LinkLife <= 0, "link_life", "must be above zero, for example \"5m\"")
	p.add(c.OTPLife <= 0, "otp_life", "must be above zero, for example \"5m\"")
	p.path("customer_token_path", c.CustomerTokenPath)
	p.add(c.RefreshLife <= 0, "refresh_life", "must be above zero, for example \"720h\"")
	p.add(c.Bind.CustomerToken, "bind.customer_token", "must be off: a binding is what customer tokens come from")
	p.add(c.PendingSuffix != "" && !plain(c.PendingSuffix), "pending_suffix", "must be a word such as \"PENDING\"")
	p.operations(&c.Config, c.operations()...)
	return errors.Join(p...)
}

// wantsTokens reports whether an operation sends a customer token.
func (c *FinpayConfig) wantsTokens() bool {
	for _, o := range c.operations() {
		if o.CustomerToken {
			return true
		}
	}
	return false
}

func (c *FinpayConfig) operations() []namedOperation {
	return []namedOperation{{"reset_pin", c.ResetPIN}, {"bind", c.Bind}, {"unbind", c.Unbind}, {"inquiry", c.Inquiry}}
}

// Validate says everything that is wrong: the errors are *SettingError, joined.
func (c *NetzmeConfig) Validate() error {
	p := c.validate("https://tokoapisnap-stg.netzme.com (staging) or https://tokoapisnap.netzme.com (production)")
	p.add(c.Version != "v1.0" && c.Version != "v2.0", "version", "must be \"v1.0\" or \"v2.0\"")
	p.add(c.ForgotPIN.CustomerToken, "forgot_pin.customer_token", "must be off: Netzme documents no customer token")
	p.add(c.MaxCooldown <= 0, "max_cooldown", "must be above zero, for example \"24h\"")
	p.operations(&c.Config, c.operations()...)
	return errors.Join(p...)
}

func (c *NetzmeConfig) operations() []namedOperation {
	return []namedOperation{{"forgot_pin", Operation{c.forgotPINPath(), c.ForgotPIN.CustomerToken}}}
}

func (c *NetzmeConfig) forgotPINPath() string {
	if c.ForgotPIN.Path != "" {
		return c.ForgotPIN.Path
	}
	return "/api/" + c.Version + "/merchant/forgot-pin"
}

func (c *Config) validate(hosts string) problems {
	var p problems
	u, err := url.Parse(c.BaseURL)
	p.add(err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "",
		"base_url", "must be https://host without a path; give "+hosts)
	p.add(!visible(c.ClientID, 1, 256), "client_id", "must be given, in visible ASCII characters")
	p.add(!visible(c.PartnerID, 0, 36), "partner_id", "must have at most 36 visible ASCII characters")
	p.add(c.PartnerID == "" && len(c.ClientID) > 36, "partner_id", "is missing and client_id is too long to take its place (36 characters); give the partner id")
	p.add(!visible(c.ChannelID, 1, 5), "channel_id", "must have 1 to 5 visible ASCII characters, such as \"95221\"")
	p.add(!visible(c.Origin, 0, 256), "origin", "must be visible ASCII characters")
	p.add(!visible(c.DeviceID, 0, 400), "device_id", "must be visible ASCII characters")
	p.add(c.Mode != Symmetric && c.Mode != Asymmetric, "mode", "must be \"symmetric\" or \"asymmetric\"")
	p.add(c.SignatureEncoding != Base64 && c.SignatureEncoding != Hex, "signature_encoding", "must be \"base64\" or \"hex\"")
	p.add(c.EmptyBody != EmptyHash && c.EmptyBody != EmptyBlank && c.EmptyBody != EmptyObject, "empty_body", "must be \"hash\", \"blank\" or \"object\"")
	p.add(c.MinRSABits < 1024, "min_rsa_bits", "must not be below 1024")
	p.path("token_path", c.TokenPath)
	_, err = parseObject([]byte(c.TokenBody))
	p.add(err != nil, "token_body", "must be a JSON object")
	p.add(c.TokenMargin < 0, "token_margin", "must not be negative")
	p.add(c.TokenLife <= 0, "token_life", "must be above zero, for example \"5m\"")
	p.add(c.TokenJitter < 0, "token_jitter", "must not be negative")
	p.add(c.ClockTolerance < wire.Duration(2*time.Second), "clock_tolerance", "must be at least \"2s\": the compared times have whole seconds")
	p.add(c.ClockBound < c.ClockTolerance, "clock_bound", "must not be below clock_tolerance")
	p.add(c.Cooldown < 0, "cooldown", "must not be negative")
	return p
}

func (p *problems) operations(c *Config, ops ...namedOperation) {
	for _, o := range ops {
		p.path(o.name+".path", o.Path)
		p.add(o.CustomerToken && c.DeviceID == "", "device_id", "is missing; "+o.name+".customer_token needs it")
	}
}

// path checks that what is signed is byte for byte what stands in the request line.
func (p *problems) path(setting, path string) {
	u, err := url.Parse("https://h" + path)
	p.add(!strings.HasPrefix(path, "/") || err != nil || u.RequestURI() != path || u.Fragment != "" || !visible(path, 1, 512),
		setting, fmt.Sprintf("%q must begin with / and be written exactly as it is sent", path))
}

// plain reports whether s has 1 to 64 characters on which every JSON minifier
// agrees.
func plain(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '_' && r != '-' && r != '.'
	})
}

func visibleBytes(b []byte, least, most int) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) >= least && len(b) <= most
}

// visible reports whether s may be the value of a header.
func visible(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}
