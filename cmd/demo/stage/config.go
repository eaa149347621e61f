package stage

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeConfig writes the agent's configuration and the files it names.
func (s *Stage) writeConfig() error {
	module, err := softHSM()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"api.key": s.APIKey, "secure.code": s.SecureCode,
		"staff.toml": fmt.Sprintf("[[staff]]\nid = \"demo-clerk\"\ncode = %q\n", s.StaffCode),
	} {
		if err := os.WriteFile(s.Path(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	d := s.plan.Delivery
	p("# Written for a demonstration. The times under [delivery] are shorter than a branch's.")
	p("[kiosk]\nnumber = 42")
	p("[token]\nmodule = %q\ntoken = \"pkcs11:token=%s\"\npin_file = %q\nlatch = %q", module, tokenLabel, s.Path("token.pin"), s.Path("state", "pin.latch"))
	p("environment = [%q]", "SOFTHSM2_CONF="+s.Path("softhsm2.conf"))
	p("[journal]\npath = %q\nkey_dir = %q", filepath.Join(s.State(), "journal.db"), s.KeyDir())
	p("[audit]\npath = %q", filepath.Join(s.State(), "audit.log"))
	p("[screen]\nlisten = %q\nbrand = \"Bank Demo\"\nstaff_file = %q", s.Screen, s.Path("staff.toml"))
	p("[admin]\nsocket = %q", filepath.Join(s.run, "admin.sock"))
	p("[limits]\ncustomer_hour = 100\nkiosk_hour = 100000")
	p("[delivery]\nretry_base = %q\nretry_max = %q\nreadback_base = %q\nreadback_max = %q\nquiet_time = %q\nunresolved_after = %q\nprobe_every = %q\ncall_timeout = %q\nlink_stagger = \"0s\"",
		d.RetryBase, d.RetryMax, d.ReadBase, d.ReadMax, d.Quiet, d.Unresolved, d.Probe, d.Call)
	p("[log]\nformat = \"text\"")
	ca := s.CAFile()
	p("[finpay]\nbase_url = \"https://%s\"\nclient_id = %q\nchannel_id = %q\norigin = %q\nmerchant_id = %q\nsign_key = \"pkcs11:object=finpay-sign\"\nsecret_key = \"pkcs11:object=finpay-secret\"\ntls.ca_file = %q",
		s.Finpay, FinpayClient, ChannelID, Origin, MerchantID, ca)
	if s.plan.OTPLife != "" {
		p("otp_life = %q", s.plan.OTPLife)
	}
	p("[netzme]\nbase_url = \"https://%s\"\nclient_id = %q\nchannel_id = %q\nsign_key = \"pkcs11:object=netzme-sign\"\nsecret_key = \"pkcs11:object=netzme-secret\"\ntls.ca_file = %q",
		s.Netzme, NetzmeClient, ChannelID, ca)
	p("[prepaid]\nbase_url = \"https://%s\"\nclient_id = %q\nbank_id = %q\nverification = \"staff\"\noffline = \"hold\"\noffline_approval = \"the demo's own issuer\"\nenvelope_key = \"pkcs11:object=prepaid-envelope\"\napi_key_file = %q\nsecure_code_file = %q\ntls.ca_file = %q\npin_max = %d",
		s.Prepaid, PrepaidClient, BankID, s.Path("api.key"), s.Path("secure.code"), ca, s.plan.PINMax)
	if err := os.WriteFile(s.Path("gardu.toml"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

// CAFile is the authority of the sandbox's certificate, once the sandbox has been
// started.
func (s *Stage) CAFile() string { return s.Path("certs", "ca.pem") }

// writeSandbox tells the sandbox who we are, as a platform would be told: with
// the public keys that gardu prints.
func (s *Stage) writeSandbox(ctx context.Context) error {
	keys := map[string]string{}
	for _, name := range []string{"finpay-sign", "netzme-sign"} {
		out, err := s.Gardu(ctx, "", "keys", "show", "pkcs11:object="+name)
		if err != nil {
			return err
		}
		keys[name] = string(out)
	}
	type m = map[string]any
	partners := func(client, secret, key string) []m {
		all := []m{{"client_id": client, "client_secret": secret, "public_key": key}}
		for _, p := range s.plan.Partners {
			all = append(all, m{"client_id": p.ClientID, "client_secret": secret, "public_key": p.PublicKey})
		}
		return all
	}
	dedupe := !s.plan.CountRepeats
	cfg := m{
		"pin_salt": s.PINSalt,
		"listen":   m{"finpay": s.Finpay, "netzme": s.Netzme, "prepaid": s.Prepaid, "control": s.Control},
		"finpay": m{
			"partners": partners(FinpayClient, s.FinpaySecret, keys["finpay-sign"]), "dedupe": dedupe, "unique_external_id": dedupe,
			"merchant_id": MerchantID, "any_customer": true, "fixed_otp": s.plan.OTP, "page": "tls",
			"customers": []m{{"phone": Linked, "linked": true}},
		},
		"netzme": m{
			"partners": partners(NetzmeClient, s.NetzmeSecret, keys["netzme-sign"]), "dedupe": dedupe, "unique_external_id": dedupe,
			"any_customer": true, "time_left_millis": 60_000, "enforce_wait": dedupe,
		},
		"prepaid": m{
			"key": s.EnvelopeKey, "api_key": s.APIKey, "client_id": PrepaidClient, "bank_id": BankID, "secure_code": s.SecureCode, "pin_max": s.plan.PINMax,
			"cards":    []m{{"urn": CardURN, "last4_digits": CardLast4, "customer_id": CardCustomer}},
			"any_card": s.plan.AnyCard,
		},
	}
	b, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("write the sandbox's configuration: %w", err)
	}
	if err := os.WriteFile(s.Path("sandbox.json"), b, 0o600); err != nil {
		return fmt.Errorf("write the sandbox's configuration: %w", err)
	}
	return nil
}
