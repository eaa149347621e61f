package prepaid

import (
	"log/slog"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"

	"gardu/internal/secret"
	"gardu/internal/txn"
)

func TestDefaultNeedsOnlyWhatHasNoDefault(t *testing.T) {
	c := Default()
	require.Error(t, c.Validate())
	c.BaseURL, c.ClientID, c.BankID = "https://cards.example.com", "2000", "7000"
	require.NoError(t, c.Validate())
}

func TestValidateNamesTheSetting(t *testing.T) {
	tests := []struct {
		name    string
		setting string
		change  func(*Config)
	}{
		{"no address", "base_url", func(c *Config) { c.BaseURL = "" }},
		{"clear text", "base_url", func(c *Config) { c.BaseURL = "http://cards.example.com" }},
		{"no host", "base_url", func(c *Config) { c.BaseURL = "https:///x" }},
		{"user in address", "base_url", func(c *Config) { c.BaseURL = "https://u:p@cards.example.com" }},
		{"query in address", "base_url", func(c *Config) { c.BaseURL = "https://cards.example.com?x=1" }},
		{"unreadable address", "base_url", func(c *Config) { c.BaseURL = "https://[::1" }},
		{"relative path", "reset_path", func(c *Config) { c.ResetPath = "resetPin" }},
		{"query in path", "reset_path", func(c *Config) { c.ResetPath = "/a?b" }},
		{"space in path", "reset_path", func(c *Config) { c.ResetPath = "/a b" }},
		{"no client", "client_id", func(c *Config) { c.ClientID = "" }},
		{"client with line end", "client_id", func(c *Config) { c.ClientID = "a\r\nb" }},
		{"bank in words", "bank_id", func(c *Config) { c.BankID = "BANK" }},
		{"no entity", "entity_id", func(c *Config) { c.EntityID = "" }},
		{"consumer with space", "consumer_custom_id", func(c *Config) { c.ConsumerCustomID = "a b" }},
		{"long message code", "message_code", func(c *Config) { c.MessageCode = "11200" }},
		{"empty answer code", "answer_message_code", func(c *Config) { c.AnswerMessageCode = "" }},
		{"ecb", "iv", func(c *Config) { c.IV = "ecb" }},
		{"unknown iv", "iv", func(c *Config) { c.IV = "gcm" }},
		{"static without iv", "static_iv", func(c *Config) { c.IV = IVStatic }},
		{"short static iv", "static_iv", func(c *Config) { c.IV, c.StaticIV = IVStatic, "00ff" }},
		{"static iv unused", "static_iv", func(c *Config) { c.StaticIV = "00" }},
		{"answer field", "answer_field", func(c *Config) { c.AnswerField = "data" }},
		{"zone", "zone", func(c *Config) { c.Zone = "Asia/Nowhere" }},
		{"empty zone", "zone", func(c *Config) { c.Zone = "" }},
		{"the machine's zone", "zone", func(c *Config) { c.Zone = "Local" }},
		{"short pin", "pin_min", func(c *Config) { c.PINMin = 3 }},
		{"long pin", "pin_max", func(c *Config) { c.PINMax = 13 }},
		{"pin bounds crossed", "pin_max", func(c *Config) { c.PINMin, c.PINMax = 6, 4 }},
		{"no success", "success_codes", func(c *Config) { c.SuccessCodes = nil }},
		{"empty success", "success_codes", func(c *Config) { c.SuccessCodes = []string{""} }},
		{"success is rejection", "success_codes", func(c *Config) { c.SuccessCodes = []string{"1309"} }},
		{"reject reason", "reject_codes", func(c *Config) { c.RejectCodes = map[string]string{"1400": "confirmed"} }},
		{"reject code", "reject_codes", func(c *Config) { c.RejectCodes = map[string]string{"": "refused"} }},
		{"verification", "verification", func(c *Config) { c.Verification = "none" }},
		{"verify without code", "verify_message_code", func(c *Config) { c.Verification = VerifyByCardholder }},
		{"verify without answer code", "verify_answer_message_code", func(c *Config) {
			c.Verification, c.VerifyMessageCode = VerifyByCardholder, "1130"
		}},
		{"verify path", "verify_path", func(c *Config) { c.Verification, c.VerifyPath = VerifyByCardholder, "" }},
		{"offline", "offline", func(c *Config) { c.Offline = "wait" }},
		{"hold without approval", "offline_approval", func(c *Config) { c.Offline, c.OfflineApproval = OfflineHold, " " }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig(tt.change)
			err := c.Validate()
			var se *SettingError
			require.ErrorAs(t, err, &se)
			require.Equal(t, tt.setting, se.Setting)
			require.Contains(t, err.Error(), "prepaid."+tt.setting+" ")
			require.NotEmpty(t, se.Problem)
			require.NotEmpty(t, se.Hint)
			_, err = New(c, testSecrets(), newCipher(t), ScreenEntry{}, answers(200, ""), slog.New(slog.DiscardHandler))
			require.ErrorAs(t, err, &se)
		})
	}
}

func TestConfigFromTOML(t *testing.T) {
	c := Default()
	err := toml.Unmarshal([]byte(`
base_url = "https://gw.example.com/prepaid"
client_id = "2000"
bank_id = "7000"
consumer_custom_id = "kiosk"
iv = "static"
static_iv = "000102030405060708090a0b0c0d0e0f"
answer_field = "result"
zone = "Asia/Jakarta"
pin_min = 6
pin_max = 6
urn_as_number = false
success_codes = ["00"]
verification = "verify_cardholder"
verify_message_code = "1130"
verify_answer_message_code = "1131"
offline = "hold"
offline_approval = "Issuer, letter 12 of 2026"
[reject_codes]
1400 = "blocked"
1309 = "unknown"
`), &c)
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	require.Equal(t, []string{"00"}, c.SuccessCodes)
	require.False(t, c.URNAsNumber)
	require.Equal(t, "/mob1/api/onboarding/v1/resetPin", c.ResetPath)
	table := c.rejections()
	require.Equal(t, txn.ReasonBlocked, table["1400"])
	require.Equal(t, txn.ReasonNotFound, table["1001"])
	require.NotContains(t, table, "1309")
}

func TestNewRefusesSecretsThatNoHeaderHolds(t *testing.T) {
	good := secret.Clone([]byte("good"))
	for name, s := range map[string]Secrets{
		"no api key":            {SecureCode: good},
		"no secure code":        {APIKey: good},
		"line end in the key":   {APIKey: secret.Clone([]byte("hidden-canary\n")), SecureCode: good},
		"space in the code":     {APIKey: good, SecureCode: secret.Clone([]byte("hidden-canary x"))},
		"code beyond the ASCII": {APIKey: good, SecureCode: secret.Clone([]byte("hidden-canaryé"))},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(testConfig(), s, newCipher(t), ScreenEntry{}, answers(200, ""), slog.New(slog.DiscardHandler))
			var se *SettingError
			require.ErrorAs(t, err, &se)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestPolicies(t *testing.T) {
	pol := newProvider(t, testConfig(), newCipher(t), answers(200, "")).Policies()
	require.Len(t, pol, 1)
	require.True(t, pol[0].Enabled)
	require.Empty(t, pol[0].Why)
	require.Equal(t, txn.PrepaidResetPIN, pol[0].Operation)
	require.Equal(t, &txn.Field{Name: "newPIN", Min: 4, Max: 6, Digits: true}, pol[0].Secret)
	require.Nil(t, pol[0].OTP)
	require.Equal(t, wait, pol[0].Wait)
	require.Equal(t, settle, pol[0].Settle)
	require.Equal(t, txn.Rejected, pol[0].NotThere)
	require.True(t, pol[0].ShortRef)
	require.False(t, pol[0].Readback)
	require.False(t, pol[0].HoldOffline)
	require.Equal(t, "prepaid:70000000008", pol[0].Customer(testCall().Request.Fields))
	require.NoError(t, pol[0].CheckFields(testCall().Request.Fields))

	off := newProvider(t, testConfig(func(c *Config) { c.Verification = "" }), newCipher(t), answers(200, "")).Policies()
	require.False(t, off[0].Enabled)
	require.Contains(t, off[0].Why, "prepaid.verification")

	require.True(t, pol[0].StaffVerify)
	require.False(t, pol[0].CardVerify)
	call := newProvider(t, verifyConfig(), newCipher(t), answers(200, "")).Policies()
	require.True(t, call[0].Enabled)
	require.True(t, call[0].CardVerify)
	require.False(t, call[0].StaffVerify)

	hold := newProvider(t, testConfig(func(c *Config) {
		c.Offline, c.OfflineApproval, c.PINMin, c.PINMax = OfflineHold, "Issuer, 2026-01-05", 6, 12
	}), newCipher(t), answers(200, "")).Policies()
	require.True(t, hold[0].HoldOffline)
	require.Equal(t, 12, hold[0].Secret.Max)
}
