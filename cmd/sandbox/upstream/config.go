package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
	_ "time/tzdata" // the prepaid platform's zone must be known on a machine without a zone database
)

// Names of the platforms, as they stand in faults, ledgers and [Server.Addr].
const (
	Finpay  = "finpay"
	Netzme  = "netzme"
	Prepaid = "prepaid"
	// Control names the control interface's listener in [Server.Addr]; it is no platform.
	Control = "control"
)

// Config says who the platforms know and how strict they are. The zero value of each field means the default that stands beside it.
type Config struct {
	// Finpay, Netzme and Prepaid are the platforms to play; one that is nil does not listen.
	Finpay  *FinpayConfig  `json:"finpay,omitempty"`
	Netzme  *NetzmeConfig  `json:"netzme,omitempty"`
	Prepaid *PrepaidConfig `json:"prepaid,omitempty"`
	// Listen holds the loopback addresses; port 0 takes a free port.
	Listen ListenConfig `json:"listen,omitzero"`
	// TLS says which certificate the platforms show; without files a fresh one is made in memory.
	TLS TLSConfig `json:"tls,omitzero"`
	// WindowMinutes is how far a SNAP time stamp may be off, either way (5).
	WindowMinutes int `json:"window_minutes,omitempty"`
	// LedgerCap bounds the exchanges, effects, tokens and used ids that are remembered, each (200,000). The oldest go first.
	LedgerCap int `json:"ledger_cap,omitempty"`
	// PINSalt goes before the PIN in the digest that an effect keeps ("").
	PINSalt string `json:"pin_salt,omitempty"`

	// Now is the clock (time.Now); tests may put another in its place.
	Now func() time.Time `json:"-"`
	// Logger hears of listeners and violations (discarded).
	Logger *slog.Logger `json:"-"`
}

// ListenConfig holds one loopback address per listener (all "127.0.0.1:0").
type ListenConfig struct {
	Finpay  string `json:"finpay,omitempty"`
	Netzme  string `json:"netzme,omitempty"`
	Prepaid string `json:"prepaid,omitempty"`
	Control string `json:"control,omitempty"`
}

// TLSConfig names PEM files.
type TLSConfig struct {
	// CertFile and KeyFile are the server's certificate chain and key. Both or neither.
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
	// ClientCAFile turns on mutual TLS: only clients with a certificate from these CAs get in.
	ClientCAFile string `json:"client_ca_file,omitempty"`
	// MinVersion is "1.2" or "1.3" ("1.3").
	MinVersion string `json:"min_version,omitempty"`
}

// Values of [Partner.Mode], [Partner.SignatureEncoding], [Partner.EmptyBody] and [Partner.ExpiresIn].
const (
	ModeSymmetric  = "symmetric"
	ModeAsymmetric = "asymmetric"

	EncodingBase64 = "base64"
	EncodingHex    = "hex"

	EmptyBodyString = "empty_string"
	EmptyBodyObject = "empty_object"
	EmptyBodyBlank  = "blank"

	ExpiresString = "string"
	ExpiresInt    = "int"
	ExpiresDate   = "date"
)

// Partner is one SNAP client and the way it was agreed that it signs.
type Partner struct {
	// ClientID is X-CLIENT-KEY on token requests.
	ClientID string `json:"client_id"`
	// PartnerID is X-PARTNER-ID on transactions (the client id, as Netzme's header list says).
	PartnerID string `json:"partner_id,omitempty"`
	// ClientSecret keys the HMAC in symmetric mode, as its UTF-8 text.
	ClientSecret string `json:"client_secret,omitempty"`
	// PublicKey is the client's RSA key in PEM (SubjectPublicKeyInfo, PKCS#1 or a certificate); PublicKeyFile names a file with it.
	PublicKey     string `json:"public_key,omitempty"`
	PublicKeyFile string `json:"public_key_file,omitempty"`
	// Mode is how transactions are signed: symmetric or asymmetric (symmetric).
	Mode string `json:"mode,omitempty"`
	// SignatureEncoding of transactions: base64 or hex (Finpay base64, Netzme hex). Token signatures are always Base64.
	SignatureEncoding string `json:"signature_encoding,omitempty"`
	// SignQuery says whether the signed path has the query (true).
	SignQuery *bool `json:"sign_query,omitempty"`
	// EmptyBody says what is hashed for an empty body: empty_string, empty_object, or blank for no hash at all (empty_string).
	EmptyBody string `json:"empty_body,omitempty"`
	// TokenLifeSeconds is the life of an access token (900).
	TokenLifeSeconds int `json:"token_life_seconds,omitempty"`
	// ExpiresIn is the JSON form of the field of that name: string, int or date (string).
	ExpiresIn string `json:"expires_in,omitempty"`
	// SingleActiveToken makes a new token end the client's older ones (false).
	SingleActiveToken bool `json:"single_active_token,omitempty"`
}

// SNAPConfig is what Finpay and Netzme have in common.
type SNAPConfig struct {
	// Partners are the clients that are known; at least one.
	Partners []Partner `json:"partners"`
	// TokenPath of the B2B access token (Finpay /v1.0/access-token/b2b, Netzme /api/v1/access-token/b2b).
	TokenPath string `json:"token_path,omitempty"`
	// TokenLength in characters (200).
	TokenLength int `json:"token_length,omitempty"`
	// Dedupe refuses a partner reference that has already succeeded with 409 xx01 (true).
	Dedupe *bool `json:"dedupe,omitempty"`
	// UniqueExternalID refuses an external id that was used on the same WIB day with 409 xx00 (true).
	UniqueExternalID *bool `json:"unique_external_id,omitempty"`
	// ChannelID is the only CHANNEL-ID that is accepted (any of 1 to 5 letters or digits).
	ChannelID string `json:"channel_id,omitempty"`
}

// FinpayConfig is the Finpay platform.
type FinpayConfig struct {
	SNAPConfig
	// CustomerTokenPath of the B2B2C token (/v1.0/access-token/b2b2c).
	CustomerTokenPath string `json:"customer_token_path,omitempty"`
	// CustomerTokenOperations are the operations that need Authorization-Customer and X-DEVICE-ID (none).
	CustomerTokenOperations []string `json:"customer_token_operations,omitempty"`
	// Origin is the only ORIGIN that is accepted (any, but there must be one).
	Origin string `json:"origin,omitempty"`
	// MerchantID is the merchant that binds and unbinds.
	MerchantID string `json:"merchant_id"`
	// Customers are the phones that are known.
	Customers []Customer `json:"customers,omitempty"`
	// AnyCustomer knows every phone, unlinked at first sight (false).
	AnyCustomer bool `json:"any_customer,omitempty"`
	// UnlinkedStatus is the accountStatus of a phone that is not linked ("NOT_LINKED": only LINKED is documented).
	UnlinkedStatus string `json:"unlinked_status,omitempty"`
	// ResetPINCode is the response code of an accepted PIN reset ("2000600", as in the document's sample).
	ResetPINCode string `json:"reset_pin_code,omitempty"`
	// LinkLifeSeconds is the life of a linkage token (300, as in the document's sample).
	LinkLifeSeconds int `json:"link_life_seconds,omitempty"`
	// OTPLifeSeconds is the life of an unbinding OTP (300).
	OTPLifeSeconds int `json:"otp_life_seconds,omitempty"`
	// OTPTries is how many wrong OTPs are answered 404 xx15 before everything is answered 403 xx11 (3).
	OTPTries int `json:"otp_tries,omitempty"`
	// FixedOTP is sent instead of a random one ("": random, six digits).
	FixedOTP string `json:"fixed_otp,omitempty"`
	// Page says where the customer's PIN page is: on the "control" listener in plain HTTP or on Finpay's own "tls" listener ("control").
	Page string `json:"page,omitempty"`
	// PageTokenParam is the query parameter that brings the linkage token to the page ("linkageToken").
	PageTokenParam string `json:"page_token_param,omitempty"`
}

// Customer is a Finpay phone number.
type Customer struct {
	Phone  string `json:"phone"`
	Linked bool   `json:"linked,omitempty"`
}

// NetzmeConfig is the Netzme platform.
type NetzmeConfig struct {
	SNAPConfig
	// Customers are the custIdMerchant values that are known.
	Customers []string `json:"customers,omitempty"`
	// AnyCustomer knows everyone (false).
	AnyCustomer bool `json:"any_customer,omitempty"`
	// Versions of forgot-pin that answer (v1.0 and v2.0, as in the document).
	Versions []string `json:"versions,omitempty"`
	// TimeLeftMillis is answered and is the minimum wait between two requests of a customer (300,000, as in the document's sample).
	TimeLeftMillis int64 `json:"time_left_millis,omitempty"`
	// LeakPIN is put into every place of a success, as a platform must never do ("": none).
	LeakPIN string `json:"leak_pin,omitempty"`
	// EnforceWait refuses a request within the minimum wait with 403 xx04 (true).
	EnforceWait *bool `json:"enforce_wait,omitempty"`
}

// PrepaidConfig is the prepaid card platform.
type PrepaidConfig struct {
	// Key is the AES-192 key in the form KeyEncoding says: raw, hex or base64 (hex). It must give 24 bytes.
	Key         string `json:"key"`
	KeyEncoding string `json:"key_encoding,omitempty"`
	// IVMode is prefix, suffix, zero or static (prefix); StaticIV is 32 hexadecimal digits for static.
	IVMode   string `json:"iv_mode,omitempty"`
	StaticIV string `json:"static_iv,omitempty"`
	// The five mandatory headers' values.
	APIKey     string `json:"api_key"`
	ClientID   string `json:"client_id"`
	BankID     string `json:"bank_id"`
	EntityID   string `json:"entity_id,omitempty"` // "100"
	SecureCode string `json:"secure_code"`
	// ConsumerCustomID demands X-Consumer-Custom-ID with this value (not demanded).
	ConsumerCustomID string `json:"consumer_custom_id,omitempty"`
	// AnswerField is the name of the envelope's field in an answer: token or result (token).
	AnswerField string `json:"answer_field,omitempty"`
	// PlainErrors answers errors as plain JSON instead of an envelope (false).
	PlainErrors bool `json:"plain_errors,omitempty"`
	// SuccessCode of an answer ("00").
	SuccessCode string `json:"success_code,omitempty"`
	// URNAs is number or string (number, as in the document's sample).
	URNAs string `json:"urn_as,omitempty"`
	// ClientTxnIDMax is the longest clientTxnId (25, as in the document's sample).
	ClientTxnIDMax int `json:"client_txn_id_max,omitempty"`
	// PINMin and PINMax bound the digits of a new PIN (4 and 6).
	PINMin int `json:"pin_min,omitempty"`
	PINMax int `json:"pin_max,omitempty"`
	// Zone of requestDateTime and responseDateTime ("Asia/Kolkata").
	Zone string `json:"zone,omitempty"`
	// Dedupe refuses a clientTxnId that has already succeeded (false: no document promises it), with DuplicateCode ("1030").
	Dedupe        *bool  `json:"dedupe,omitempty"`
	DuplicateCode string `json:"duplicate_code,omitempty"`
	// Cards that are known.
	Cards []Card `json:"cards,omitempty"`
	// AnyCard knows every card (false).
	AnyCard bool `json:"any_card,omitempty"`
	// VerifyCardholder turns the sibling call on (off).
	VerifyCardholder *VerifyConfig `json:"verify_cardholder,omitempty"`
}

// Card is a prepaid card as its holder can name it.
type Card struct {
	URN         string `json:"urn"`
	Last4Digits string `json:"last4_digits"`
	CustomerID  string `json:"customer_id"`
}

// VerifyConfig is the Verify Cardholder call, whose fields no document at hand gives: our reading is Reset PIN without newPIN.
type VerifyConfig struct {
	Path              string `json:"path,omitempty"`                // /mob1/api/onboarding/v1/verifyCardholder
	MessageCode       string `json:"message_code,omitempty"`        // "1130"
	AnswerMessageCode string `json:"answer_message_code,omitempty"` // "1131"
}

// ReadConfig reads a JSON configuration strictly: an unknown or repeated key, or anything after the object, is an error.
func ReadConfig(r io.Reader) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, 8<<20))
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	var cfg Config
	if err := decodeStrict(data, &cfg); err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return cfg, nil
}

// decodeStrict decodes exactly one JSON value with known, unrepeated keys.
func decodeStrict(data []byte, into any) error {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, new(json.RawMessage)); errors.As(err, &syntax) {
		return fmt.Errorf("byte %d: it is not exactly one JSON object: %w", syntax.Offset, err)
	}
	if _, err := parseObject(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func (c *Config) setDefaults() {
	orStr(&c.Listen.Finpay, "127.0.0.1:0")
	orStr(&c.Listen.Netzme, "127.0.0.1:0")
	orStr(&c.Listen.Prepaid, "127.0.0.1:0")
	orStr(&c.Listen.Control, "127.0.0.1:0")
	orStr(&c.TLS.MinVersion, "1.3")
	orInt(&c.WindowMinutes, 5)
	orInt(&c.LedgerCap, 200_000)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if f := c.Finpay; f != nil {
		own := *f
		c.Finpay = &own
		own.setDefaults("/v1.0/access-token/b2b", EncodingBase64)
		orStr(&own.CustomerTokenPath, "/v1.0/access-token/b2b2c")
		orStr(&own.UnlinkedStatus, "NOT_LINKED")
		orStr(&own.ResetPINCode, "2000600")
		orInt(&own.LinkLifeSeconds, 300)
		orInt(&own.OTPLifeSeconds, 300)
		orInt(&own.OTPTries, 3)
		orStr(&own.Page, "control")
		orStr(&own.PageTokenParam, "linkageToken")
	}
	if n := c.Netzme; n != nil {
		own := *n
		c.Netzme = &own
		own.setDefaults("/api/v1/access-token/b2b", EncodingHex)
		if len(own.Versions) == 0 {
			own.Versions = []string{"v1.0", "v2.0"}
		}
		orInt64(&own.TimeLeftMillis, 300_000)
	}
	if p := c.Prepaid; p != nil {
		own := *p
		c.Prepaid = &own
		own.setDefaults()
	}
}

func (s *SNAPConfig) setDefaults(tokenPath, encoding string) {
	orStr(&s.TokenPath, tokenPath)
	orInt(&s.TokenLength, 200)
	s.Partners = append([]Partner(nil), s.Partners...)
	for i := range s.Partners {
		p := &s.Partners[i]
		orStr(&p.PartnerID, p.ClientID)
		orStr(&p.Mode, ModeSymmetric)
		orStr(&p.SignatureEncoding, encoding)
		orStr(&p.EmptyBody, EmptyBodyString)
		orStr(&p.ExpiresIn, ExpiresString)
		orInt(&p.TokenLifeSeconds, 900)
	}
}

func (p *PrepaidConfig) setDefaults() {
	orStr(&p.KeyEncoding, "hex")
	orStr(&p.IVMode, IVPrefix)
	orStr(&p.EntityID, "100")
	orStr(&p.AnswerField, "token")
	orStr(&p.SuccessCode, "00")
	orStr(&p.URNAs, "number")
	orInt(&p.ClientTxnIDMax, 25)
	orInt(&p.PINMin, 4)
	orInt(&p.PINMax, 6)
	orStr(&p.Zone, "Asia/Kolkata")
	orStr(&p.DuplicateCode, "1030")
	if p.VerifyCardholder != nil {
		v := *p.VerifyCardholder
		orStr(&v.Path, "/mob1/api/onboarding/v1/verifyCardholder")
		orStr(&v.MessageCode, "1130")
		orStr(&v.AnswerMessageCode, "1131")
		p.VerifyCardholder = &v
	}
}

func (p *Partner) publicKeyPEM() ([]byte, error) {
	if p.PublicKeyFile == "" {
		return []byte(p.PublicKey), nil
	}
	data, err := os.ReadFile(p.PublicKeyFile)
	if err != nil {
		return nil, fmt.Errorf("public_key_file: %w", err)
	}
	return data, nil
}

func orStr(p *string, def string) {
	if *p == "" {
		*p = def
	}
}

func orInt(p *int, def int) {
	if *p == 0 {
		*p = def
	}
}

func orInt64(p *int64, def int64) {
	if *p == 0 {
		*p = def
	}
}

func orTrue(p *bool) bool { return p == nil || *p }
