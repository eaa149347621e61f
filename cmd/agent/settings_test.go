package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/config"
)

const sample = "../../packaging/gardu.toml"

func TestTheSampleConfigurationIsAccepted(t *testing.T) {
	s, err := loadSettings(sample)
	require.NoError(t, err)
	require.Equal(t, "your-merchant-id", tableOf[*finpaySettings](s).MerchantID)
	require.Equal(t, "base64", tableOf[*finpaySettings](s).SignatureEncoding)
	require.Equal(t, "hex", tableOf[*netzmeSettings](s).SignatureEncoding)
	require.True(t, tableOf[*prepaidSettings](s).URNAsNumber)
}

// TestTheSampleNamesEveryKey keeps the sample honest: a key that the program reads
// and the sample does not show is one that nobody in a branch will ever find, and
// a key in a comment that the program does not read is a trap.
func TestTheSampleNamesEveryKey(t *testing.T) {
	b, err := os.ReadFile(sample)
	require.NoError(t, err)
	shown := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?([a-z_]+) = `).FindAllStringSubmatch(string(b), -1) {
		shown[m[1]] = true
	}
	known := map[string]bool{}
	var walk func(rt reflect.Type)
	walk = func(rt reflect.Type) {
		for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice {
			rt = rt.Elem()
		}
		if rt.Kind() != reflect.Struct {
			return
		}
		for i := range rt.NumField() {
			f := rt.Field(i)
			tag := f.Tag.Get("toml")
			if f.Anonymous {
				walk(f.Type)
				continue
			}
			if tag == "" || tag == "-" {
				continue
			}
			known[tag] = true
			walk(f.Type)
		}
	}
	set := defaultSettings()
	every := map[string]any{}
	for _, r := range registry {
		every[r.name] = true
	}
	set.providers = providersOf(every)
	walk(reflect.TypeOf(set.document()))
	tables := strings.Fields("kiosk token wrapped journal audit screen admin limits delivery log update tls path customer_token")
	for k := range known {
		if slices.Contains(tables, k) || every[k] != nil {
			continue
		}
		require.True(t, shown[k], "packaging/gardu.toml does not show %q", k)
	}
	for k := range shown {
		require.True(t, known[k], "packaging/gardu.toml shows %q, which the program does not read", k)
	}
}

// TestTheSampleHasATableForEveryProvider: a key of one provider is not shown by
// another's of the same name, unless the table says so ("The other keys of [x]").
func TestTheSampleHasATableForEveryProvider(t *testing.T) {
	b, err := os.ReadFile(sample)
	require.NoError(t, err)
	head := regexp.MustCompile(`(?m)^(?:# )?\[\[?([a-z_.]+)\]\]?$`)
	at, names := head.FindAllStringIndex(string(b), -1), head.FindAllStringSubmatch(string(b), -1)
	section := map[string]string{}
	for i := range at {
		end := len(b)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		section[names[i][1]] += string(b[at[i][1]:end])
	}
	for _, r := range registry {
		text, there := section[r.name]
		require.True(t, there, "packaging/gardu.toml has no table [%s]", r.name)
		if m := regexp.MustCompile(`The other keys of \[([a-z_]+)\]`).FindStringSubmatch(text); m != nil {
			text += section[m[1]]
		}
		var walk func(rt reflect.Type)
		walk = func(rt reflect.Type) {
			for i := range rt.NumField() {
				f := rt.Field(i)
				tag := f.Tag.Get("toml")
				switch {
				case f.Anonymous:
					walk(f.Type)
				case tag != "" && tag != "-" && tag != "tls": // whose keys are the same for all
					require.Regexp(t, `(?m)^(?:# )?`+regexp.QuoteMeta(tag)+` = `, text, "packaging/gardu.toml, [%s], does not show %q", r.name, tag)
				}
			}
		}
		walk(reflect.TypeOf(r.table()).Elem())
	}
}

func TestWrongSettingsNameFileLineAndKey(t *testing.T) {
	b, err := os.ReadFile(sample)
	require.NoError(t, err)
	for _, c := range []struct{ name, from, to, key, say string }{
		{"unknown key", "brand = ", "brnad = ", "screen.brnad", "unknown key"},
		{"kiosk number", "number = 1 ", "number = 0 ", "kiosk.number", "is 0; give this kiosk's own number"},
		{"wrong type", "number = 1 ", "number = \"one\" ", "kiosk.number", "correct this line"},
		{"screen for everybody", `listen = "127.0.0.1:8700"`, `listen = "0.0.0.0:8700"`, "screen.listen", "not 127.0.0.1"},
		{"negative count", `# max_requests = 10000`, `max_requests = -1`, "journal.max_requests", "is -1"},
		{"negative duration", `# call_timeout = "30s"`, `call_timeout = "-5s"`, "delivery.call_timeout", "is negative"},
		{"duration without unit", `# call_timeout = "30s"`, `call_timeout = 30`, "delivery.call_timeout", "has no unit"},
		{"duration without unit in a provider", `# dial_timeout = "10s"`, `dial_timeout = 10`, "finpay.tls.dial_timeout", "has no unit"},
		{"one key, two roles", `envelope_key = "pkcs11:object=prepaid-envelope"`, `envelope_key = "pkcs11:object=journal-kek"`, "", "name the same key"},
		{"one key, two roles, other spelling", "object=journal-pin-kek", "object=journal-kek;type=secret-key", "", "name the same key"},
		{"scale", `px_per_mm = 4.03 `, `px_per_mm = 0.0 `, "screen.px_per_mm", "measure the screen"},
		{"colour", `# brand_colour = "#0b4f6c"`, `brand_colour = "blue"`, "screen.brand_colour", "is no colour"},
		{"colour that nobody can read upon", `# brand_colour = "#0b4f6c"`, `brand_colour = "#e87722"`, "screen.brand_colour", "needs 7:1; take a darker one such as #"},
		{"accent like the colour", `# accent_colour = "#f5b52e"`, `accent_colour = "#0b5a7c"`, "screen.accent_colour", "cannot be told from"},
		{"logo that is not there", `# logo_file = ""`, `logo_file = "/nowhere/logo.svg"`, "screen.logo_file", "no such file"},
		{"relative helper", `# helper_path = ""`, `helper_path = "token-worker"`, "token.helper_path", "is not an absolute path"},
		{"a repository that is no address", `# repository = ""`, `repository = "updates.bank.example"`, "update.repository", "is not https://host/path/"},
		{"a repository in clear", `# repository = ""`, `repository = "http://updates.bank.example/"`, "update.repository", "is not https://host/path/"},
		{"window", `# windows = []`, `windows = ["1-5"]`, "update.windows", "is not a time of day"},
		{"zone of the windows", `# zone = ""                                  # of`, `zone = "Nowhere"  # of`, "update.zone", "unknown time zone"},
		{"a trial shorter than the watchdog's time", `# settle = "1m" `, `settle = "29s" `, "update.settle", "is 29s, which is too short to see that a version hangs"},
		{"no trial", `# settle = "1m" `, `settle = "0s" `, "update.settle", "is 0s"},
		{"relative path", `path = "/var/lib/gardu/audit.log"`, `path = "audit.log"`, "audit.path", "is not an absolute path"},
		{"same KEK", "object=journal-pin-kek", "object=journal-kek", "journal.pin_kek", "same key as journal.kek"},
		{"bad URI", `kek = "pkcs11:object=journal-kek"`, `kek = "journal-kek"`, "journal.kek", ""},
		{"http", `base_url = "https://snapstag`, `base_url = "http://snapstag`, "finpay.base_url", "must be https"},
		{"mode", `# mode = "symmetric"`, `mode = "both"`, "finpay.mode", "must be"},
		{"ecb", `# iv = "prefix"`, `iv = "ecb"`, "prepaid.iv", "refused"},
		{"hold without approval", `# offline = "refuse"`, `offline = "hold"`, "prepaid.offline_approval", "is missing"},
		{"staff without file", `# verification = "staff"`, `verification = "staff"`, "screen.staff_file", "is missing"},
		{"mechanism of another role", `# kek_mechanism = ""`, `kek_mechanism = "RSA_PKCS"`, "journal.kek_mechanism", "give one of AES_GCM, RSA_OAEP_SHA256, RSA_OAEP_SHA1"},
		{"mechanism that is none", `# sign_mechanism = ""`, `sign_mechanism = "MD5_RSA_PKCS"`, "finpay.sign_mechanism", "give one of SHA256_RSA_PKCS, RSA_PKCS"},
		{"client key without certificate", "\n[finpay.tls]\n", "\n[finpay.tls]\nclient_key = \"pkcs11:object=finpay-tls\"\n", "finpay.tls.client_cert", "is missing"},
		{"client certificate without key", "\n[finpay.tls]\n", "\n[finpay.tls]\nclient_cert = \"/etc/gardu/finpay.pem\"\n", "finpay.tls.client_key", "is missing"},
		{"the repository's client key without certificate", `# client_key = ""`, `client_key = "pkcs11:object=update-tls"`, "update.client_cert", "is missing"},
		{"the repository's client certificate without key", `# client_cert = ""`, `client_cert = "/etc/gardu/update.pem"`, "update.client_key", "is missing"},
		{"no PIN source", `pin_credential = "token-pin"`, ``, "token.pin_credential", "is missing"},
		{"two PIN sources", `# pin_file`, `pin_file`, "token.pin_file", "keep one of the two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(string(b), c.from, c.to, 1)
			require.NotEqual(t, string(b), text)
			p := filepath.Join(t.TempDir(), "gardu.toml")
			require.NoError(t, os.WriteFile(p, []byte(text), 0o600))
			_, err := loadSettings(p)
			var ce *config.Error
			require.ErrorAs(t, err, &ce)
			require.Equal(t, c.key, ce.Key, err)
			require.ErrorContains(t, err, p)
			require.ErrorContains(t, err, c.say)
			require.NotEmpty(t, ce.Hint, err)
		})
	}
}
