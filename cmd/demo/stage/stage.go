// Package stage sets the whole product up in one folder, for programs that drive
// it from outside: a SoftHSM token with keys, certificates, the configurations of
// agent and sandbox, and then the two as the programs they are. It brings what a
// driver needs: the customer's screen (Kiosk), the platforms' side (Platforms), and
// the gardu command.
//
// It imports nothing of the agent: it sees what a branch sees.
package stage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Whom the sandbox knows from the start.
const (
	Customer     = "081234567890" // a phone, not linked
	Linked       = "081299990000" // a phone, linked
	Merchant     = "M_F5rX23Vw"
	CardURN      = "70000000008"
	CardLast4    = "1745"
	CardCustomer = "IN00001201001868"
)

// What agent and sandbox call each other.
const (
	FinpayClient  = "gardu-demo-finpay"
	NetzmeClient  = "gardu-demo-netzme"
	PrepaidClient = "2000"
	MerchantID    = "F7778YIF6A3TC"
	BankID        = "7000"
	ChannelID     = "95221"
	Origin        = "kiosk.example"
	tokenLabel    = "gardu-demo"
)

// Stage is one folder with everything in it. Its addresses and secrets are chosen
// once and kept, so that they stay the same from start to start.
type Stage struct {
	plan Plan
	dir  string
	run  string // on tmpfs: the admin socket, the keys of PINs

	Screen  string `json:"screen"`
	Front   string `json:"front"` // a port that nothing here listens on
	Finpay  string `json:"finpay"`
	Netzme  string `json:"netzme"`
	Prepaid string `json:"prepaid"`
	Control string `json:"control"`

	StaffCode    string `json:"staff_code"`
	TokenPIN     string `json:"token_pin"`
	FinpaySecret string `json:"finpay_secret"`
	NetzmeSecret string `json:"netzme_secret"`
	EnvelopeKey  string `json:"envelope_key"` // hexadecimal
	APIKey       string `json:"api_key"`
	SecureCode   string `json:"secure_code"`
	PINSalt      string `json:"pin_salt"` // goes before the PIN in the sandbox's digests
}

// Plan is what differs between one use and another.
type Plan struct {
	Delivery Delivery
	PINMax   int    // digits of a prepaid PIN at most
	OTP      string // the one-time password of every unbinding; empty: a random one each
	// State is the folder of journal and audit record; empty: one below the stage's
	// own. It may be on a file system that is not there yet when the stage is set up.
	State   string
	OTPLife string // how long the agent waits for one; empty: its default
	// Partners are further clients that Finpay and Netzme know.
	Partners []Partner
	// CountRepeats lets the platforms carry out whatever they are asked, also what
	// they have carried out before, so that a repetition shows as a second effect.
	CountRepeats bool
	AnyCard      bool                          // the prepaid platform knows every card
	Say          func(format string, a ...any) // hears what is being done; nil: nobody
}

// Delivery holds the agent's times in its own notation.
type Delivery struct {
	RetryBase, RetryMax, ReadBase, ReadMax, Quiet, Unresolved, Probe, Call string
}

// Partner is a client of Finpay and Netzme with the same keys at both.
type Partner struct {
	ClientID  string
	PublicKey string // PEM
}

// RuntimeDir is the folder on tmpfs that belongs to a stage. The journal insists
// on tmpfs for the keys of PINs; the name is short, since a socket's path may have
// 107 bytes.
func RuntimeDir(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "/dev/shm/gardu-demo-" + hex.EncodeToString(sum[:4])
}

// Remove removes what belongs to the stage in dir.
func Remove(dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(RuntimeDir(dir))); err != nil {
		return fmt.Errorf("remove the stage: %w", err)
	}
	return nil
}

// Path names a file of the stage.
func (s *Stage) Path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// Run is the stage's folder on tmpfs.
func (s *Stage) Run() string { return s.run }

// KeyDir is where the keys of PINs are.
func (s *Stage) KeyDir() string { return filepath.Join(s.run, "keys") }

// State is the folder of journal and audit record.
func (s *Stage) State() string {
	if s.plan.State != "" {
		return s.plan.State
	}
	return s.Path("state")
}

func (s *Stage) say(format string, a ...any) {
	if s.plan.Say != nil {
		s.plan.Say(format, a...)
	}
}

// SetUp makes what is missing in a folder, given as an absolute path, and reuses
// what is there.
func SetUp(ctx context.Context, dir string, plan Plan) (*Stage, error) {
	s := &Stage{plan: plan, dir: dir, run: RuntimeDir(dir)}
	for _, d := range []string{s.Path("bin"), s.Path("tokens"), s.Path("certs"), s.Path("state"), s.Path("log"), s.run, s.KeyDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make the stage's folder: %w", err)
		}
	}
	s.say("building gardu and the sandbox")
	for name, pkg := range map[string]string{"gardu": "./cmd/agent", "sandbox": "./cmd/sandbox"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", s.Path("bin", name), pkg) //nolint:gosec // G204: our own names
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
	if err := s.writeConfig(); err != nil {
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
	if err := s.writeSandbox(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// recall reads what an earlier start chose. It is written last, so a start that
// was cut short begins anew.
func (s *Stage) recall(ctx context.Context) (fresh bool, err error) {
	b, err := os.ReadFile(s.Path("demo.json"))
	if err == nil {
		if err := json.Unmarshal(b, s); err != nil {
			return false, fmt.Errorf("read %s: %w; run make demo-clean", s.Path("demo.json"), err)
		}
		s.say("reusing the token and keys in %s", s.dir)
		return false, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("read the stage's notes: %w", err)
	}
	for _, d := range []string{"tokens", "state"} {
		if err := os.RemoveAll(s.Path(d)); err != nil {
			return false, fmt.Errorf("remove what a cut start left: %w", err)
		}
		if err := os.MkdirAll(s.Path(d), 0o700); err != nil {
			return false, fmt.Errorf("make the stage's folder: %w", err)
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

func (s *Stage) remember() error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the stage's notes: %w", err)
	}
	if err := os.WriteFile(s.Path("demo.json"), b, 0o600); err != nil {
		return fmt.Errorf("write the stage's notes: %w", err)
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

func (s *Stage) makeToken(ctx context.Context) error {
	s.say("making a SoftHSM token")
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", s.Path("tokens"))
	if err := os.WriteFile(s.Path("softhsm2.conf"), []byte(conf), 0o600); err != nil {
		return fmt.Errorf("write SoftHSM's configuration: %w", err)
	}
	if err := os.WriteFile(s.Path("token.pin"), []byte(s.TokenPIN+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the token's PIN: %w", err)
	}
	// Here a PIN may stand on a command line for a moment; a branch's never does.
	cmd := exec.CommandContext(ctx, "softhsm2-util", "--init-token", "--free", "--label", tokenLabel, "--so-pin", randomDigits(8), "--pin", s.TokenPIN) //nolint:gosec // G204: our own values
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+s.Path("softhsm2.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the token: %w\n%s", err, out)
	}
	return nil
}

func (s *Stage) makeKeys(ctx context.Context) error {
	s.say("making keys in the token (gardu init), importing the platforms' secrets (gardu keys import)")
	if _, err := s.Gardu(ctx, "", "init"); err != nil {
		return err
	}
	// Netzme hands its signing key out; the demo's Netzme leaves that to the kiosk.
	if _, err := s.Gardu(ctx, "", "keys", "generate", "netzme-sign", "rsa-2048"); err != nil {
		return err
	}
	for _, k := range []struct{ name, kind, encoding, value string }{
		{"finpay-secret", "hmac-sha512", "text", s.FinpaySecret},
		{"netzme-secret", "hmac-sha512", "text", s.NetzmeSecret},
		{"prepaid-envelope", "aes-192", "hex", s.EnvelopeKey},
	} {
		if _, err := s.Gardu(ctx, k.value, "keys", "import", k.name, k.kind, "--file", "-", "--encoding", k.encoding); err != nil {
			return err
		}
	}
	return nil
}

// Gardu runs one gardu command and returns what it printed.
func (s *Stage) Gardu(ctx context.Context, in string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.Path("bin", "gardu"), append([]string{"--config", s.Path("gardu.toml")}, args...)...) //nolint:gosec // G204: our own program
	cmd.Stdin = strings.NewReader(in)
	var errText strings.Builder
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("gardu %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errText.String()))
	}
	return out, nil
}

// freePorts finds loopback ports that nobody has. They lie below those that the
// kernel gives out by itself (from 32768 on), and apart from those of the tests, so that
// nobody gets one while what listens there is down.
func freePorts(ctx context.Context, n int) ([]string, error) {
	const first, count, tries = 28_000, 4_000, 1000
	var ls []net.Listener
	defer func() {
		for _, l := range ls {
			_ = l.Close()
		}
	}()
	var out []string
	var last error
	for range tries {
		port := first + mathrand.IntN(count) //nolint:gosec // G404: no secret
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		ls = append(ls, l)
		if out = append(out, l.Addr().String()); len(out) == n {
			return out, nil
		}
	}
	return nil, fmt.Errorf("find a free port: %w", last)
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
		b[i] = '0' + b[i]%10 // a little uneven, which is good enough for a stage
	}
	return string(b)
}
