package snap

import (
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"

	"gardu/internal/wire"
)

func decode(t *testing.T, text string, into any) error {
	t.Helper()
	d := toml.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

func TestDefaultsNeedOnlyWhoWeAre(t *testing.T) {
	f := FinpayDefaults()
	require.NoError(t, decode(t, `
base_url = "https://snapstag.finnet.co.id"
client_id = "bank-branch-12"
channel_id = "95221"
origin = "www.bank.example"
merchant_id = "F7778YIF6A3TC"
`, &f))
	require.NoError(t, f.Validate())
	require.True(t, f.SignQuery)
	require.True(t, f.InquireBeforeBind)

	n := NetzmeDefaults()
	require.NoError(t, decode(t, `
base_url = "https://tokoapisnap-stg.netzme.com"
client_id = "TokoNetmeClientId"
channel_id = "95221"
`, &n))
	require.NoError(t, n.Validate())
	require.Equal(t, "/api/v1.0/merchant/forgot-pin", n.forgotPINPath())
}

// TestEverySettingHasItsName decodes a file that sets everything, strictly.
func TestEverySettingHasItsName(t *testing.T) {
	f := FinpayDefaults()
	require.NoError(t, decode(t, `
base_url = "https://h"
client_id = "c"
partner_id = "p"
channel_id = "1"
origin = "o"
device_id = "d"
mode = "asymmetric"
signature_encoding = "hex"
sign_query = false
empty_body = "blank"
min_rsa_bits = 3072
token_path = "/t"
token_body = '{"grantType":"client_credentials"}'
token_margin = "30s"
token_life = "2m"
token_jitter = "0s"
clock_tolerance = "90s"
clock_bound = "1h"
cooldown = "2h"
merchant_id = "m"
binding_reference_field = "refrenceNo"
send_binding_reference = true
binding_token_param = "token"
inquire_before_bind = false
link_life = "4m"
otp_life = "3m"
customer_token_path = "/v1.0/access-token/b2b2c?x=1"
refresh_life = "240h"
pending_suffix = "WAIT"
[reset_pin]
path = "/r"
customer_token = true
[bind]
path = "/b"
[unbind]
path = "/u"
[inquiry]
path = "/i?x=y"
`, &f))
	require.NoError(t, f.Validate())
	want := FinpayConfig{
		Config: Config{
			BaseURL: "https://h", ClientID: "c", PartnerID: "p", ChannelID: "1", Origin: "o", DeviceID: "d",
			Mode: Asymmetric, SignatureEncoding: Hex, EmptyBody: EmptyBlank, MinRSABits: 3072,
			TokenPath: "/t", TokenBody: `{"grantType":"client_credentials"}`,
			TokenMargin: wire.Duration(30 * time.Second), TokenLife: wire.Duration(2 * time.Minute),
			ClockTolerance: wire.Duration(90 * time.Second), ClockBound: wire.Duration(time.Hour), Cooldown: wire.Duration(2 * time.Hour),
		},
		MerchantID: "m", BindingReferenceField: "refrenceNo", SendBindingReference: true, BindingTokenParam: "token",
		LinkLife: wire.Duration(4 * time.Minute), OTPLife: wire.Duration(3 * time.Minute), PendingSuffix: "WAIT",
		CustomerTokenPath: "/v1.0/access-token/b2b2c?x=1", RefreshLife: wire.Duration(240 * time.Hour),
		ResetPIN: Operation{"/r", true}, Bind: Operation{Path: "/b"}, Unbind: Operation{Path: "/u"}, Inquiry: Operation{Path: "/i?x=y"},
	}
	require.Equal(t, want, f)

	n := NetzmeDefaults()
	require.NoError(t, decode(t, `
version = "v2.0"
require_echo = false
max_cooldown = "1h"
[forgot_pin]
path = "/f"
customer_token = false
`, &n))
	require.False(t, n.RequireEcho)
	require.Equal(t, "/f", n.forgotPINPath())
	require.Error(t, decode(t, `merchant_id = "x"`, &n), "a setting of the other provider is a mistake")
}

func TestValidateNamesTheSetting(t *testing.T) {
	for _, tc := range []struct {
		setting string
		change  func(*FinpayConfig)
	}{
		{"base_url", func(c *FinpayConfig) { c.BaseURL = "" }},
		{"base_url", func(c *FinpayConfig) { c.BaseURL = "http://snap.finnet.co.id" }},
		{"base_url", func(c *FinpayConfig) { c.BaseURL = "https://snap.finnet.co.id/v1.0" }},
		{"base_url", func(c *FinpayConfig) { c.BaseURL = "https://u:p@snap.finnet.co.id" }},
		{"client_id", func(c *FinpayConfig) { c.ClientID = "" }},
		{"client_id", func(c *FinpayConfig) { c.ClientID = "a\nb" }},
		{"partner_id", func(c *FinpayConfig) { c.PartnerID = strings.Repeat("p", 37) }},
		{"partner_id", func(c *FinpayConfig) { c.ClientID = strings.Repeat("p", 37) }},
		{"channel_id", func(c *FinpayConfig) { c.ChannelID = "" }},
		{"channel_id", func(c *FinpayConfig) { c.ChannelID = "123456" }},
		{"origin", func(c *FinpayConfig) { c.Origin = "" }},
		{"device_id", func(c *FinpayConfig) { c.DeviceID = "a b" }},
		{"device_id", func(c *FinpayConfig) { c.ResetPIN.CustomerToken = true }},
		{"bind.customer_token", func(c *FinpayConfig) { c.Bind.CustomerToken, c.DeviceID = true, "kiosk-12" }},
		{"customer_token_path", func(c *FinpayConfig) { c.CustomerTokenPath = "b2b2c" }},
		{"refresh_life", func(c *FinpayConfig) { c.RefreshLife = 0 }},
		{"mode", func(c *FinpayConfig) { c.Mode = "both" }},
		{"signature_encoding", func(c *FinpayConfig) { c.SignatureEncoding = "HEX" }},
		{"empty_body", func(c *FinpayConfig) { c.EmptyBody = "" }},
		{"min_rsa_bits", func(c *FinpayConfig) { c.MinRSABits = 512 }},
		{"token_path", func(c *FinpayConfig) { c.TokenPath = "v1.0" }},
		{"token_body", func(c *FinpayConfig) { c.TokenBody = "grant_type=x" }},
		{"token_margin", func(c *FinpayConfig) { c.TokenMargin = -1 }},
		{"token_life", func(c *FinpayConfig) { c.TokenLife = 0 }},
		{"token_jitter", func(c *FinpayConfig) { c.TokenJitter = -1 }},
		{"clock_tolerance", func(c *FinpayConfig) { c.ClockTolerance = wire.Duration(time.Second) }},
		{"clock_bound", func(c *FinpayConfig) { c.ClockBound = wire.Duration(time.Second) }},
		{"cooldown", func(c *FinpayConfig) { c.Cooldown = -1 }},
		{"merchant_id", func(c *FinpayConfig) { c.MerchantID = "a/b" }},
		{"binding_reference_field", func(c *FinpayConfig) { c.BindingReferenceField = "" }},
		{"binding_token_param", func(c *FinpayConfig) { c.BindingTokenParam = "a&b" }},
		{"link_life", func(c *FinpayConfig) { c.LinkLife = 0 }},
		{"otp_life", func(c *FinpayConfig) { c.OTPLife = 0 }},
		{"pending_suffix", func(c *FinpayConfig) { c.PendingSuffix = "a b" }},
		{"reset_pin.path", func(c *FinpayConfig) { c.ResetPIN.Path = "" }},
		{"bind.path", func(c *FinpayConfig) { c.Bind.Path = "/a b" }},
		{"unbind.path", func(c *FinpayConfig) { c.Unbind.Path = "/a#b" }},
		{"inquiry.path", func(c *FinpayConfig) { c.Inquiry.Path = "/a%zz" }},
	} {
		t.Run(tc.setting, func(t *testing.T) {
			c := finpayConfig()
			require.NoError(t, c.Validate())
			tc.change(&c)
			err := c.Validate()
			var se *SettingError
			require.ErrorAs(t, err, &se)
			require.Equal(t, tc.setting, se.Setting, "%v", err)
			_, err = NewFinpay(c, testKeys(), &fakeHTTP{}, newLog(t), nil)
			require.ErrorContains(t, err, "finpay: "+tc.setting)
		})
	}
	for setting, change := range map[string]func(*NetzmeConfig){
		"version":         func(c *NetzmeConfig) { c.Version = "1.0" },
		"max_cooldown":    func(c *NetzmeConfig) { c.MaxCooldown = 0 },
		"forgot_pin.path": func(c *NetzmeConfig) { c.ForgotPIN.Path = "x" },
	} {
		t.Run("netzme "+setting, func(t *testing.T) {
			c := netzmeConfig()
			change(&c)
			_, err := NewNetzme(c, testKeys(), &fakeHTTP{}, newLog(t), nil)
			require.ErrorContains(t, err, setting)
		})
	}
	t.Run("all at once", func(t *testing.T) {
		c := FinpayDefaults()
		var list interface{ Unwrap() []error }
		require.ErrorAs(t, c.Validate(), &list)
		require.Len(t, list.Unwrap(), 5, "base_url, client_id, channel_id, origin and merchant_id have no default")
	})
}

func TestSignerProblemsAreFoundAtStart(t *testing.T) {
	c := netzmeConfig()
	c.MinRSABits = 4096
	_, err := NewNetzme(c, testKeys(), &fakeHTTP{}, newLog(t), nil)
	require.ErrorContains(t, err, "netzme: the token key has 2048 bits, at least 4096 are needed; ask Netzme")
	fc := finpayConfig()
	fc.ResetPIN.CustomerToken, fc.DeviceID = true, "kiosk-12"
	_, err = NewFinpay(fc, testKeys(), &fakeHTTP{}, newLog(t), nil)
	require.ErrorContains(t, err, "reset_pin.customer_token is on, but this agent has nowhere to keep customer tokens")
	nc := netzmeConfig()
	nc.ForgotPIN.CustomerToken, nc.DeviceID = true, "kiosk-12"
	require.ErrorContains(t, nc.Validate(), "Netzme documents no customer token")
}
