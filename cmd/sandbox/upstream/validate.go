package upstream

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// validate names the first setting that cannot be used and what it may be.
func (c *Config) validate() error {
	if c.Finpay == nil && c.Netzme == nil && c.Prepaid == nil {
		return errors.New("no platform is configured: give at least one of finpay, netzme, prepaid")
	}
	for name, addr := range map[string]string{
		Finpay: c.Listen.Finpay, Netzme: c.Listen.Netzme, Prepaid: c.Listen.Prepaid, Control: c.Listen.Control,
	} {
		if err := checkLoopback(addr); err != nil {
			return fmt.Errorf("listen.%s: %w", name, err)
		}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("tls: cert_file and key_file go together: give both or neither")
	}
	if err := oneOf("tls.min_version", c.TLS.MinVersion, "1.2", "1.3"); err != nil {
		return err
	}
	if c.WindowMinutes < 1 || c.LedgerCap < 1 {
		return errors.New("window_minutes and ledger_cap must be at least 1")
	}
	if c.Finpay != nil {
		if err := c.Finpay.validate(); err != nil {
			return fmt.Errorf("finpay: %w", err)
		}
	}
	if c.Netzme != nil {
		if err := c.Netzme.validate(); err != nil {
			return fmt.Errorf("netzme: %w", err)
		}
		if c.Netzme.TimeLeftMillis < 0 {
			return errors.New("netzme: time_left_millis must not be negative")
		}
	}
	if c.Prepaid != nil {
		if err := c.Prepaid.validate(); err != nil {
			return fmt.Errorf("prepaid: %w", err)
		}
	}
	return nil
}

func (s *SNAPConfig) validate() error {
	if len(s.Partners) == 0 {
		return errors.New("partners: at least one is needed")
	}
	if !strings.HasPrefix(s.TokenPath, "/") {
		return fmt.Errorf("token_path: %q must begin with a slash", s.TokenPath)
	}
	if s.TokenLength < 32 || s.TokenLength > 4096 {
		return fmt.Errorf("token_length: %d is outside 32 to 4096", s.TokenLength)
	}
	seen := map[string]bool{}
	for i, p := range s.Partners {
		at := fmt.Sprintf("partners[%d]", i)
		if p.ClientID == "" || seen[p.ClientID] || seen[p.PartnerID+"\x00partner"] {
			return fmt.Errorf("%s.client_id: must be given, and be given once", at)
		}
		seen[p.ClientID], seen[p.PartnerID+"\x00partner"] = true, true
		if err := errors.Join(
			oneOf(at+".mode", p.Mode, ModeSymmetric, ModeAsymmetric),
			oneOf(at+".signature_encoding", p.SignatureEncoding, EncodingBase64, EncodingHex),
			oneOf(at+".empty_body", p.EmptyBody, EmptyBodyString, EmptyBodyObject, EmptyBodyBlank),
			oneOf(at+".expires_in", p.ExpiresIn, ExpiresString, ExpiresInt, ExpiresDate),
		); err != nil {
			return err
		}
		if p.Mode == ModeSymmetric && p.ClientSecret == "" {
			return fmt.Errorf("%s.client_secret: symmetric mode needs it", at)
		}
		if (p.PublicKey == "") == (p.PublicKeyFile == "") {
			return fmt.Errorf("%s: give public_key or public_key_file", at)
		}
	}
	return nil
}

func (f *FinpayConfig) validate() error {
	if err := f.SNAPConfig.validate(); err != nil {
		return err
	}
	if f.MerchantID == "" || len(f.MerchantID) > 64 {
		return errors.New("merchant_id: 1 to 64 characters are needed")
	}
	if err := oneOf("page", f.Page, "control", "tls"); err != nil {
		return err
	}
	for _, op := range f.CustomerTokenOperations {
		if err := oneOf("customer_token_operations", op, "finpay.reset_pin", "finpay.bind", "finpay.unbind", "finpay.inquiry"); err != nil {
			return err
		}
	}
	if f.FixedOTP != "" && !digits(f.FixedOTP, 1, 8) {
		return errors.New("fixed_otp: 1 to 8 digits are needed")
	}
	return nil
}

func (p *PrepaidConfig) validate() error {
	if _, err := newEnvelope(p); err != nil {
		return err
	}
	if p.APIKey == "" || p.ClientID == "" || p.SecureCode == "" {
		return errors.New("api_key, client_id and secure_code are needed")
	}
	if !digits(p.BankID, 1, 18) || !digits(p.EntityID, 1, 18) {
		return errors.New("bank_id and entity_id are numbers of at most 18 digits")
	}
	if err := errors.Join(
		oneOf("answer_field", p.AnswerField, "token", "result"),
		oneOf("urn_as", p.URNAs, "number", "string"),
	); err != nil {
		return err
	}
	if p.PINMin < 4 || p.PINMax > 12 || p.PINMin > p.PINMax {
		return fmt.Errorf("pin_min %d and pin_max %d must lie within 4 to 12", p.PINMin, p.PINMax)
	}
	if _, err := time.LoadLocation(p.Zone); err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	for i, c := range p.Cards {
		if !digits(c.URN, 1, 11) || !digits(c.Last4Digits, 4, 4) || c.CustomerID == "" {
			return fmt.Errorf("cards[%d]: urn is 1 to 11 digits, last4_digits four, customer_id not empty", i)
		}
	}
	return nil
}

// checkLoopback refuses what other machines could reach: the sandbox hands out OTPs to whoever asks.
func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("address %q is not on loopback: use 127.0.0.1 or [::1]", addr)
	}
	return nil
}

func oneOf(name, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is not one of %s", name, value, strings.Join(allowed, ", "))
}

// digits reports whether s has between low and high characters, all of them ASCII digits.
func digits(s string, low, high int) bool {
	if len(s) < low || len(s) > high {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
