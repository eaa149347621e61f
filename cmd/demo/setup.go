package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// setup is one demo's folder with everything in it.
type setup struct {
	dir     string
	run     string // on tmpfs: the admin socket, the keys of PINs
	Screen  string `json:"screen"`
	Front   string `json:"front"`
	Finpay  string `json:"finpay"`
	Netzme  string `json:"netzme"`
	Prepaid string `json:"prepaid"`
	Control string `json:"control"`

	StaffCode    string `json:"staff_code"`
	TokenPIN     string `json:"token_pin"`
	FinpaySecret string `json:"finpay_secret"`
	NetzmeSecret string `json:"netzme_secret"`
	EnvelopeKey  string `json:"envelope_key"`
	APIKey       string `json:"api_key"`
	SecureCode   string `json:"secure_code"`
	PINSalt      string `json:"pin_salt"`
}

// variant is what differs between the demo for people and the check: the check's
// times are short, so that a doubt is settled while somebody waits, and its PINs
// and one-time passwords are long, so that finding one somewhere is no accident.
type variant struct {
	retryBase, retryMax, readBase, readMax, quiet, unresolved, probe string
	pinMax                                                           int
	otp                                                              string
}

var (
	forPeople = variant{"500ms", "5s", "2s", "10s", "30s", "2m", "5s", 6, ""}
	forCheck  = variant{"200ms", "1s", "300ms", "1s", "4s", "8s", "1s", 12, "90471836"}
)

const (
	customer      = "081234567890" // a phone the sandbox knows, not linked
	linked        = "081299990000" // linked at the start
	merchant      = "M_F5rX23Vw"
	cardURN       = "70000000008"
	cardLast4     = "1745"
	cardCustomer  = "IN00001201001868"
	merchantID    = "F7778YIF6A3TC"
	finpayClient  = "gardu-demo-finpay"
	netzmeClient  = "gardu-demo-netzme"
	prepaidClient = "2000"
	bankID        = "7000"
	tokenLabel    = "gardu-demo"
)

// runtimeDir is on tmpfs, where the journal insists to keep the keys of PINs, and
// short, since a socket's path may have 107 bytes.
func runtimeDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/dev/shm/gardu-demo-" + hex.EncodeToString(sum[:4])
}

func (s *setup) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// setUp makes what is missing in the demo's folder and reuses what is there.
func setUp(ctx context.Context, dir string, v variant) (*setup, error) {
	s := &setup{dir: dir, run: runtimeDir(dir)}
	for _, d := range []string{s.path("bin"), s.path("tokens"), s.path("certs"), s.path("state"), s.path("log"), s.run, filepath.Join(s.run, "keys")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the demo's folder: %w", err)
		}
	}
	say("building gardu and the sandbox")
	for name, pkg := range map[string]string{"gardu": "./cmd/agent", "sandbox": "./cmd/sandbox"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", s.path("bin", name), pkg) //nolint:gosec // G204: our own names
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	fresh, err := s.recall(ctx)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := s.makeToken(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.writeConfig(v); err != nil {
		return nil, err
	}
	if fresh {
		if err := s.makeKeys(ctx); err != nil {
			return nil, err
		}
		if err := s.remember(); err != nil {
			return nil, err
		}
	}
	if err := s.writeSandbox(ctx, v); err != nil {
		return nil, err
	}
	return s, nil
}

// recall reads what an earlier start chose. It is written last, so a start that
// was cut short begins anew.
func (s *setup) recall(ctx context.Context) (fresh bool, err error) {
	b, err := os.ReadFile(s.path("demo.json"))
	if err == nil {
		if err := json.Unmarshal(b, s); err != nil {
			return false, fmt.Errorf("read %s: %w; run make demo-clean", s.path("demo.json"), err)
		}
		say("reusing the token and keys in %s", s.dir)
		return false, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read the demo's notes: %w", err)
	}
	for _, d := range []string{"tokens", "state"} {
		if err := os.RemoveAll(s.path(d)); err != nil {
			return false, fmt.Errorf("remove what a cut start left: %w", err)
		}
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return false, fmt.Errorf("make the demo's folder: %w", err)
		}
	}
	ports, err := freePorts(ctx, 6)
	if err != nil {
		return false, err
	}
	s.Screen, s.Front, s.Finpay, s.Netzme, s.Prepaid, s.Control = ports[0], ports[1], ports[2], ports[3], ports[4], ports[5]
	s.StaffCode, s.TokenPIN = randomDigits(8), randomDigits(8)
	s.FinpaySecret, s.NetzmeSecret, s.APIKey, s.SecureCode, s.PINSalt = randomHex(24), randomHex(24), randomHex(16), randomHex(16), randomHex(8)
	s.EnvelopeKey = randomHex(24)
	return true, nil
}

func (s *setup) remember() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the demo's notes: %w", err)
	}
	if err := os.WriteFile(s.path("demo.json"), b, 0o600); err != nil {
		return fmt.Errorf("write the demo's notes: %w", err)
	}
	return nil
}

// softHSM finds the module where Debian's package puts it.
func softHSM() (string, error) {
	for _, p := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errors.New("SoftHSM is not installed; run make deps")
}

func (s *setup) makeToken(ctx context.Context) error {
	say("making a SoftHSM token")
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", s.path("tokens"))
	if err := os.WriteFile(s.path("softhsm2.conf"), []byte(conf), 0o600); err != nil {
		return fmt.Errorf("write SoftHSM's configuration: %w", err)
	}
	if err := os.WriteFile(s.path("token.pin"), []byte(s.TokenPIN+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the token's PIN: %w", err)
	}
	// A demo's PIN may stand on a command line for a moment; a branch's never does.
	cmd := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", tokenLabel, "--so-pin", randomDigits(8), "--pin", s.TokenPIN) //nolint:gosec // G204: our own values
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+s.path("softhsm2.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the token: %w\n%s", err, out)
	}
	return nil
}

func (s *setup) writeConfig(v variant) error {
	module, err := softHSM()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"api.key": s.APIKey, "secure.code": s.SecureCode,
		"staff.toml": fmt.Sprintf("[[staff]]\nid = \"demo-clerk\"\ncode = %q\n", s.StaffCode),
	} {
		if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	p("# Written by make demo. The times under [delivery] are shorter than a branch's.")
	p("[kiosk]\nnumber = 42")
	p("[token]\nmodule = %q\ntoken = \"pkcs11:token=%s\"\npin_file = %q\nlatch = %q", module, tokenLabel, s.path("token.pin"), s.path("state", "pin.latch"))
	p("environment = [%q]", "SOFTHSM2_CONF="+s.path("softhsm2.conf"))
	p("[journal]\npath = %q\nkey_dir = %q", s.path("state", "journal.db"), filepath.Join(s.run, "keys"))
	p("[audit]\npath = %q", s.path("state", "audit.log"))
	p("[screen]\nlisten = %q\nbrand = \"Bank Demo\"\nstaff_file = %q", s.Screen, s.path("staff.toml"))
	p("[admin]\nsocket = %q", s.socket())
	p("[limits]\ncustomer_hour = 100\nkiosk_hour = 1000")
	p("[delivery]\nretry_base = %q\nretry_max = %q\nreadback_base = %q\nreadback_max = %q\nquiet_time = %q\nunresolved_after = %q\nprobe_every = %q\ncall_timeout = \"10s\"\nlink_stagger = \"0s\"",
		v.retryBase, v.retryMax, v.readBase, v.readMax, v.quiet, v.unresolved, v.probe)
	p("[log]\nformat = \"text\"")
	ca := s.path("certs", "ca.pem")
	p("[finpay]\nbase_url = \"https://%s\"\nclient_id = %q\nchannel_id = \"95221\"\norigin = \"kiosk.example\"\nmerchant_id = %q\nsign_key = \"pkcs11:object=finpay-sign\"\nsecret_key = \"pkcs11:object=finpay-secret\"\ntls.ca_file = %q",
		s.Finpay, finpayClient, merchantID, ca)
	p("[netzme]\nbase_url = \"https://%s\"\nclient_id = %q\nchannel_id = \"95221\"\nsign_key = \"pkcs11:object=netzme-sign\"\nsecret_key = \"pkcs11:object=netzme-secret\"\ntls.ca_file = %q",
		s.Netzme, netzmeClient, ca)
	p("[prepaid]\nbase_url = \"https://%s\"\nclient_id = %q\nbank_id = %q\nverification = \"staff\"\noffline = \"hold\"\noffline_approval = \"the demo's own issuer\"\nenvelope_key = \"pkcs11:object=prepaid-envelope\"\napi_key_file = %q\nsecure_code_file = %q\ntls.ca_file = %q\npin_max = %d",
		s.Prepaid, prepaidClient, bankID, s.path("api.key"), s.path("secure.code"), ca, v.pinMax)
	if err := os.WriteFile(s.path("gardu.toml"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}

func (s *setup) socket() string { return filepath.Join(s.run, "admin.sock") }

// gardu runs one gardu command and returns what it printed.
func (s *setup) gardu(ctx context.Context, in string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.path("bin", "gardu"), append([]string{"--config", s.path("gardu.toml")}, args...)...) //nolint:gosec // G204: our own program
	cmd.Stdin = strings.NewReader(in)
	var errText strings.Builder
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("gardu %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errText.String()))
	}
	return out, nil
}

func (s *setup) makeKeys(ctx context.Context) error {
	say("making keys in the token (gardu init), importing the platforms' secrets (gardu keys import)")
	if _, err := s.gardu(ctx, "", "init"); err != nil {
		return err
	}
	for _, k := range []struct{ name, kind, encoding, value string }{
		{"finpay-secret", "hmac-sha512", "text", s.FinpaySecret},
		{"netzme-secret", "hmac-sha512", "text", s.NetzmeSecret},
		{"prepaid-envelope", "aes-192", "hex", s.EnvelopeKey},
	} {
		if _, err := s.gardu(ctx, k.value, "keys", "import", k.name, k.kind, "--file", "-", "--encoding", k.encoding); err != nil {
			return err
		}
	}
	return nil
}

// writeSandbox tells the sandbox who we are, as a platform would be told: with
// the public keys that gardu prints.
func (s *setup) writeSandbox(ctx context.Context, v variant) error {
	keys := map[string]string{}
	for _, name := range []string{"finpay-sign", "netzme-sign"} {
		out, err := s.gardu(ctx, "", "keys", "show", "pkcs11:object="+name)
		if err != nil {
			return err
		}
		keys[name] = string(out)
	}
	type m = map[string]any
	cfg := m{
		"pin_salt": s.PINSalt,
		"listen":   m{"finpay": s.Finpay, "netzme": s.Netzme, "prepaid": s.Prepaid, "control": s.Control},
		"finpay": m{
			"partners":    []m{{"client_id": finpayClient, "client_secret": s.FinpaySecret, "public_key": keys["finpay-sign"]}},
			"merchant_id": merchantID, "any_customer": true, "fixed_otp": v.otp, "page": "tls",
			"customers": []m{{"phone": linked, "linked": true}},
		},
		"netzme": m{
			"partners":     []m{{"client_id": netzmeClient, "client_secret": s.NetzmeSecret, "public_key": keys["netzme-sign"]}},
			"any_customer": true, "time_left_millis": 60_000,
		},
		"prepaid": m{
			"key": s.EnvelopeKey, "api_key": s.APIKey, "client_id": prepaidClient, "bank_id": bankID, "secure_code": s.SecureCode, "pin_max": v.pinMax,
			"cards": []m{{"urn": cardURN, "last4_digits": cardLast4, "customer_id": cardCustomer}},
		},
	}
	b, err := json.MarshalIndent(cfg, "", "  ")
	if err != nil {
		return fmt.Errorf("write the sandbox's configuration: %w", err)
	}
	if err := os.WriteFile(s.path("sandbox.json"), b, 0o600); err != nil {
		return fmt.Errorf("write the sandbox's configuration: %w", err)
	}
	return nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func randomDigits(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = '0' + b[i]%10 // a little uneven, which a demo's code may be
	}
	return string(b)
}

func say(format string, a ...any) { fmt.Printf("· "+format+"\n", a...) }
