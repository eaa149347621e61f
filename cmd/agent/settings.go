package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"time"
	"unicode/utf8"

	"gardu/internal/config"
	"gardu/internal/keystore"
	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/wire"
)

// settings is the whole configuration file. packaging/gardu.toml explains it key
// by key.
type settings struct {
	file string

	Kiosk    kioskSettings     `toml:"kiosk"`
	Token    tokenSettings     `toml:"token"`
	Journal  journalSettings   `toml:"journal"`
	Audit    auditSettings     `toml:"audit"`
	Wrapped  []wrappedSettings `toml:"wrapped"`
	Screen   screenSettings    `toml:"screen"`
	Admin    adminSettings     `toml:"admin"`
	Limits   limitSettings     `toml:"limits"`
	Delivery deliverySettings  `toml:"delivery"`
	Log      logSettings       `toml:"log"`
	Update   updateSettings    `toml:"update"`

	providers []provider // those that the file has a table for
}

type kioskSettings struct {
	Number uint32 `toml:"number"` // 1 to txn.MaxKiosk, unique over all kiosks that share a partner id
}

type tokenSettings struct {
	Module          string        `toml:"module"`
	Token           string        `toml:"token"`          // pkcs11: URI
	PINFile         string        `toml:"pin_file"`       // or
	PINCredential   string        `toml:"pin_credential"` // a systemd credential, with
	SealedPIN       string        `toml:"sealed_pin"`     // the sealed file it is made from: its change opens the wrong-PIN latch
	Latch           string        `toml:"latch"`
	InitReserved    string        `toml:"init_reserved"`
	Environment     []string      `toml:"environment"` // NAME=value, for the module
	Deadline        wire.Duration `toml:"deadline"`
	MinRSABits      int           `toml:"min_rsa_bits"`
	HelperPath      string        `toml:"helper_path"`       // a release's worker as a file, where nothing that gardu writes is executed
	TrustModulePath bool          `toml:"trust_module_path"` // demonstrations only
}

type journalSettings struct {
	Path            string             `toml:"path"`
	KeyDir          string             `toml:"key_dir"` // on tmpfs
	KEK             string             `toml:"kek"`
	PINKEK          string             `toml:"pin_kek"`
	KEKMechanism    keystore.Mechanism `toml:"kek_mechanism"`
	PINKEKMechanism keystore.Mechanism `toml:"pin_kek_mechanism"`
	MaxRequests     int                `toml:"max_requests"`
}

type auditSettings struct {
	Path string `toml:"path"`
}

type screenSettings struct {
	Listen    string  `toml:"listen"`
	Brand     string  `toml:"brand"`
	Colour    string  `toml:"brand_colour"`
	Accent    string  `toml:"accent_colour"`
	Logo      string  `toml:"logo_file"`
	Tones     bool    `toml:"tones"`
	PxPerMM   float64 `toml:"px_per_mm"`
	Staff     string  `toml:"staff_file"`     // who may confirm a card and a person
	Operators string  `toml:"operators_file"` // who may open the operator screen; empty: there is none
}

// look is the bank's own design of the screen.
func (s screenSettings) look() ui.Look {
	return ui.Look{Colour: s.Colour, Accent: s.Accent, LogoFile: s.Logo, Quiet: !s.Tones}
}

// lookKeys are the keys of the parts that a ui.LookError names.
var lookKeys = map[string]string{"colour": "screen.brand_colour", "accent": "screen.accent_colour", "logo": "screen.logo_file"}

type adminSettings struct {
	Socket    string `toml:"socket"`
	Group     string `toml:"group"`
	KioskUser string `toml:"kiosk_user"`
}

type limitSettings struct {
	CustomerHour int `toml:"customer_hour"`
	KioskHour    int `toml:"kiosk_hour"`
	InFlight     int `toml:"in_flight"`
}

type deliverySettings struct {
	RetryBase       wire.Duration `toml:"retry_base"`
	RetryMax        wire.Duration `toml:"retry_max"`
	ReadbackBase    wire.Duration `toml:"readback_base"`
	ReadbackMax     wire.Duration `toml:"readback_max"`
	CallTimeout     wire.Duration `toml:"call_timeout"`
	ProbeEvery      wire.Duration `toml:"probe_every"`
	Hold            wire.Duration `toml:"hold"`
	Drain           wire.Duration `toml:"drain"`
	LinkStagger     wire.Duration `toml:"link_stagger"`
	QuietTime       wire.Duration `toml:"quiet_time"`       // in place of each operation's own; 0 leaves them
	UnresolvedAfter wire.Duration `toml:"unresolved_after"` // in place of that of operations without a read-back
}

type logSettings struct {
	Level  string `toml:"level"`  // debug, info (default), warn, error
	Format string `toml:"format"` // json (default) or text
}

func defaultSettings() *settings {
	return &settings{
		Token:   tokenSettings{Latch: "/var/lib/gardu/pin.latch"},
		Journal: journalSettings{Path: "/var/lib/gardu/journal.db", KeyDir: "/run/gardu/keys", KEK: "pkcs11:object=journal-kek", PINKEK: "pkcs11:object=journal-pin-kek"},
		Audit:   auditSettings{Path: "/var/lib/gardu/audit.log"},
		Screen:  screenSettings{Listen: "127.0.0.1:8700", Brand: "Gardu", PxPerMM: 4.03, Tones: true},
		Admin:   adminSettings{Socket: "/run/gardu/admin.sock", Group: "gardu-ops", KioskUser: "gardu-kiosk"},
		Delivery: deliverySettings{
			LinkStagger: wire.Duration(5 * time.Second),
		},
		Update: defaultUpdate(),
	}
}

// loadSettings reads and checks the configuration. Every error names file, line
// and key.
func loadSettings(file string) (*settings, error) {
	s := defaultSettings()
	s.file = file
	// A provider's table is decoded over its defaults, and a provider without a
	// table stays absent: so which tables there are is looked at first.
	var tables map[string]any
	if err := config.Read(file, &tables); err != nil {
		return nil, err
	}
	s.providers = providersOf(tables)
	doc := s.document()
	if err := config.Read(file, doc); err != nil {
		return nil, err
	}
	if err := bareDuration(file, "", tables, reflect.TypeOf(doc)); err != nil {
		return nil, err
	}
	return s, s.check()
}

// bareDuration finds a duration that is written as a number. The decoder would take
// it for nanoseconds, and every call would end before it began.
func bareDuration(file, prefix string, table map[string]any, rt reflect.Type) error {
	for rt.Kind() == reflect.Pointer {
		rt = rt.Elem()
	}
	if rt.Kind() != reflect.Struct {
		return nil
	}
	for i := range rt.NumField() {
		f := rt.Field(i)
		if f.Anonymous {
			if err := bareDuration(file, prefix, table, f.Type); err != nil {
				return err
			}
			continue
		}
		name := f.Tag.Get("toml")
		switch v := table[name].(type) {
		case int64, float64:
			if f.Type == reflect.TypeFor[wire.Duration]() {
				key := prefix + name
				return &config.Error{File: file, Line: config.Line(file, key), Key: key, Err: fmt.Errorf("%v has no unit", v), Hint: `write it in quotation marks with its unit, such as "30s"`}
			}
		case map[string]any:
			if err := bareDuration(file, prefix+name+".", v, f.Type); err != nil {
				return err
			}
		}
	}
	return nil
}

// check holds every section against its own rules.
func (s *settings) check() error {
	bad := func(key, problem, hint string) error {
		return &config.Error{File: s.file, Line: config.Line(s.file, key), Key: key, Err: errors.New(problem), Hint: hint}
	}
	switch {
	case s.Kiosk.Number < 1 || s.Kiosk.Number > txn.MaxKiosk:
		return bad("kiosk.number", fmt.Sprintf("is %d", s.Kiosk.Number), fmt.Sprintf("give this kiosk's own number, 1 to %d", txn.MaxKiosk))
	case !filepath.IsAbs(s.Token.Module):
		return bad("token.module", "is not an absolute path", "name the PKCS#11 module, such as /usr/lib/softhsm/libsofthsm2.so")
	case s.Token.HelperPath != "" && !filepath.IsAbs(s.Token.HelperPath):
		return bad("token.helper_path", "is not an absolute path", "name the token-worker file that came with this release, such as /usr/lib/gardu/token-worker")
	case s.Token.Token == "":
		return bad("token.token", "is missing", `name the token, such as "pkcs11:token=gardu"`)
	case s.Token.PINFile != "" && s.Token.PINCredential != "":
		return bad("token.pin_file", "stands beside pin_credential", "keep one of the two")
	case s.Token.PINFile == "" && s.Token.PINCredential == "":
		return bad("token.pin_credential", "is missing", "name the systemd credential (or pin_file) that holds the token's PIN")
	case len(s.Admin.Socket) > maxSocketPath:
		return bad("admin.socket", fmt.Sprintf("has %d characters, and the kernel takes %d", len(s.Admin.Socket), maxSocketPath), "give a shorter path, such as /run/gardu/admin.sock")
	case !loopbackAddress(s.Screen.Listen):
		return bad("screen.listen", fmt.Sprintf("is %q, which is not 127.0.0.1 with a port", s.Screen.Listen), `give an address such as "127.0.0.1:8700"; the screen is never served to other machines`)
	case utf8.RuneCountInString(s.Screen.Brand) < 1 || utf8.RuneCountInString(s.Screen.Brand) > 40:
		return bad("screen.brand", "has no or more than 40 characters", "give the bank's name as customers read it")
	case s.Screen.PxPerMM < 1 || s.Screen.PxPerMM > 20:
		return bad("screen.px_per_mm", fmt.Sprintf("is %g", s.Screen.PxPerMM), "measure the screen and divide its width in pixels by its width in millimetres")
	case s.Journal.MaxRequests < 0 || s.Journal.MaxRequests > 1_000_000:
		return bad("journal.max_requests", fmt.Sprintf("is %d", s.Journal.MaxRequests), "give 1 to 1000000, or leave it out for 10000")
	case s.Token.MinRSABits != 0 && s.Token.MinRSABits < 1024:
		return bad("token.min_rsa_bits", fmt.Sprintf("is %d", s.Token.MinRSABits), "give 2048 or more; below 1024 nothing is verified")
	}
	var look *ui.LookError
	if err := s.Screen.look().Check(); errors.As(err, &look) {
		return bad(lookKeys[look.Part], look.Err.Error(), look.Hint)
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"limits.customer_hour", s.Limits.CustomerHour}, {"limits.kiosk_hour", s.Limits.KioskHour}, {"limits.in_flight", s.Limits.InFlight},
	} {
		if n.value < 0 {
			return bad(n.key, fmt.Sprintf("is %d", n.value), "give a number above zero, or leave it out")
		}
	}
	d := &s.Delivery
	for _, n := range []struct {
		key   string
		value wire.Duration
	}{
		{"token.deadline", s.Token.Deadline}, {"delivery.retry_base", d.RetryBase}, {"delivery.retry_max", d.RetryMax},
		{"delivery.readback_base", d.ReadbackBase}, {"delivery.readback_max", d.ReadbackMax}, {"delivery.call_timeout", d.CallTimeout},
		{"delivery.probe_every", d.ProbeEvery}, {"delivery.hold", d.Hold}, {"delivery.drain", d.Drain}, {"delivery.link_stagger", d.LinkStagger},
		{"delivery.quiet_time", d.QuietTime}, {"delivery.unresolved_after", d.UnresolvedAfter},
	} {
		if n.value < 0 {
			return bad(n.key, "is negative", `give a duration such as "30s", or leave it out`)
		}
	}
	for _, p := range []struct{ key, path string }{
		{"journal.path", s.Journal.Path}, {"journal.key_dir", s.Journal.KeyDir}, {"audit.path", s.Audit.Path},
		{"admin.socket", s.Admin.Socket}, {"token.latch", s.Token.Latch},
	} {
		if !filepath.IsAbs(p.path) {
			return bad(p.key, "is not an absolute path", "write it from the root, such as /var/lib/gardu/…")
		}
	}
	for _, k := range []struct{ key, uri string }{{"journal.kek", s.Journal.KEK}, {"journal.pin_kek", s.Journal.PINKEK}} {
		if _, err := keystore.ParseURI(k.uri); err != nil {
			return bad(k.key, err.Error(), `name the key, such as "pkcs11:object=journal-kek"`)
		}
	}
	if err := firstError(checkMechanism(bad, "journal.kek_mechanism", s.Journal.KEKMechanism, kekMechanisms),
		checkMechanism(bad, "journal.pin_kek_mechanism", s.Journal.PINKEKMechanism, kekMechanisms)); err != nil {
		return err
	}
	if s.Journal.KEK == s.Journal.PINKEK {
		return bad("journal.pin_kek", "is the same key as journal.kek", "give PINs a key of their own, so that it can be destroyed by itself")
	}
	if _, err := newLog(os.Stderr, s.Log); err != nil {
		return bad("log", err.Error(), "correct it")
	}
	if err := s.Update.check(bad); err != nil {
		return err
	}
	return s.checkProviders(bad)
}

// maxSocketPath is what fits into an address of a Unix socket, with its end (unix(7)).
const maxSocketPath = 107

// checkSeparation refuses one key in two roles: a key that does two things can be
// destroyed for neither, and a weakness of one use reaches the other.
func (s *settings) checkSeparation(bad problem) error {
	seen := map[string]string{}
	for _, r := range s.roles() {
		u, err := keystore.ParseURI(r.uri)
		if err != nil {
			return bad("", r.name+": "+err.Error(), "correct the key's URI")
		}
		name := u.Object + "\x00" + string(u.ID)
		if other := seen[name]; other != "" {
			return bad("", fmt.Sprintf("the roles %s and %s name the same key, %s", other, r.name, u.Object), "give each role a key of its own")
		}
		seen[name] = r.name
	}
	return nil
}

// loopbackAddress: 127.0.0.1 with a port, as ui demands.
func loopbackAddress(addr string) bool {
	ap, err := netip.ParseAddrPort(addr)
	return err == nil && ap.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// makeFolders makes the folders that gardu writes to, where they are missing.
func (s *settings) makeFolders() error {
	// The socket's folder comes first: the key folder may lie below it, and would
	// make it with rights that keep everybody else out.
	for _, d := range []string{
		filepath.Dir(s.Admin.Socket), filepath.Dir(s.Journal.Path), s.Journal.KeyDir, filepath.Dir(s.Audit.Path), filepath.Dir(s.Token.Latch),
	} {
		mode := os.FileMode(0o750)
		switch d {
		case s.Journal.KeyDir:
			mode = 0o700
		case filepath.Dir(s.Admin.Socket):
			mode = 0o755 // others may connect; the peer's credentials decide
		}
		if err := os.MkdirAll(d, mode); err != nil {
			return fmt.Errorf("make a folder that %s names: %w; make it writable for this user", s.file, err)
		}
	}
	return nil
}

// openKeystore opens the token as configured. It does not touch it yet.
func (s *settings) openKeystore(log *slog.Logger) (*keystore.Store, error) {
	pin := keystore.PINFile(s.Token.PINFile)
	if s.Token.PINCredential != "" {
		pin = keystore.PINCredential(s.Token.PINCredential, s.Token.SealedPIN)
	}
	return keystore.Open(keystore.Options{
		Module: s.Token.Module, InitReserved: s.Token.InitReserved, TrustModulePath: s.Token.TrustModulePath,
		Launcher: s.workerLauncher(log),
		Token:    s.Token.Token, PIN: pin, LatchPath: s.Token.Latch,
		Env: s.Token.Environment, Deadline: time.Duration(s.Token.Deadline), MinRSABits: s.Token.MinRSABits, Wrapped: s.wrappedKeys(), Log: log,
	})
}

func (s *settings) timing() txn.Timing {
	d := s.Delivery
	return txn.Timing{
		RetryBase: time.Duration(d.RetryBase), RetryMax: time.Duration(d.RetryMax),
		ReadBase: time.Duration(d.ReadbackBase), ReadMax: time.Duration(d.ReadbackMax),
		Call: time.Duration(d.CallTimeout), Probe: time.Duration(d.ProbeEvery),
		Hold: time.Duration(d.Hold), Drain: time.Duration(d.Drain), LinkStagger: time.Duration(d.LinkStagger),
	}
}
