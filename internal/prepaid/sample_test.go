package prepaid

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func finding(t *testing.T, s *Sample, setting string) Finding {
	t.Helper()
	for _, f := range s.Findings {
		if f.Setting == setting {
			return f
		}
	}
	require.Fail(t, "no finding", "%s in %+v", setting, s.Findings)
	return Finding{}
}

func TestReadSampleRequest(t *testing.T) {
	for _, shape := range []string{"%s", "\n%s\r\n", `{"token":"%s"}`, ` {"id":1, "token" : "%s"} `} {
		s, err := ReadSample(t.Context(), testConfig(), newCipher(t), fmt.Appendf(nil, shape, testToken(t, IVPrefix, []byte(golden))))
		require.NoError(t, err, shape)
		require.True(t, s.Fits(), "%+v", s)
		require.Equal(t, []IV{IVPrefix}, s.OpensWith)
		require.Equal(t, grown(len(golden))+16, s.TokenBytes)
		require.Equal(t, []SampleField{
			{"messageCode", "string", 4}, {"requestDateTime", "string", 14}, {"clientTxnId", "string", 14}, {"newPIN", "string", 6},
			{"urn", "number", 11}, {"last4Digits", "string", 4}, {"customerId", "string", 16},
		}, s.Fields)
	}
}

func TestReadSampleAnswer(t *testing.T) {
	s, err := ReadSample(t.Context(), testConfig(), newCipher(t), []byte(`{"result":"`+testToken(t, IVPrefix, reply(t, nil))+`"}`))
	require.NoError(t, err)
	require.False(t, finding(t, s, "answer_field").Fits)
	for _, setting := range []string{"key", "iv", "answer_message_code", "client_id", "bank_id", "success_codes"} {
		require.True(t, finding(t, s, setting).Fits, setting)
	}
}

func TestReadSampleNamesWhatDoesNotFit(t *testing.T) {
	request := func(old, with string) string { return strings.Replace(golden, old, with, 1) }
	for name, tt := range map[string]struct {
		sample  string
		setting string
		text    string
	}{
		"IV after it":    {testToken(t, IVSuffix, []byte(golden)), "iv", `"suffix"; set that`},
		"IV of zeros":    {testToken(t, IVZero, []byte(golden)), "iv", `"zero"; set that`},
		"IV unknown":     {testToken(t, IVStatic, []byte(golden)), "iv", "ask the platform"},
		"no key":         {base64.StdEncoding.EncodeToString(make([]byte, 64)), "key", "another key"},
		"one block":      {base64.StdEncoding.EncodeToString(make([]byte, 16)), "key", "another key"},
		"urn as text":    {testToken(t, IVPrefix, []byte(request(`70000000008`, `"70000000008"`))), "urn_as_number", "set urn_as_number = false"},
		"long PIN":       {testToken(t, IVPrefix, []byte(request(canaryPIN, "12345678"))), "pin_max", "8 digits"},
		"another code":   {testToken(t, IVPrefix, []byte(request(`1120`, `1140`))), "message_code", "another messageCode"},
		"another client": {testToken(t, IVPrefix, reply(t, map[string]any{"clientId": "9"})), "client_id", "in doubt"},
		"no bank":        {testToken(t, IVPrefix, reply(t, map[string]any{"bankId": nil})), "bank_id", "in doubt"},
		"unlisted code":  {testToken(t, IVPrefix, reply(t, map[string]any{"responseCode": "77"})), "success_codes", "in no table"},
		"fraction":       {testToken(t, IVPrefix, reply(t, map[string]any{"responseCode": 1.5})), "fields", "would not read"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ReadSample(t.Context(), testConfig(), newCipher(t), []byte(tt.sample))
			require.NoError(t, err)
			require.False(t, s.Fits())
			f := finding(t, s, tt.setting)
			require.False(t, f.Fits)
			require.Contains(t, f.Text, tt.text)
		})
	}
}

func TestReadSampleRefuses(t *testing.T) {
	good := testToken(t, IVPrefix, []byte(golden))
	for name, tt := range map[string]struct {
		sample string
		want   error
	}{
		"nothing":              {"", ErrSampleEnvelope},
		"typographic quotes":   {"{\n“token”: “" + good + "”}", ErrSampleEnvelope},
		"another object":       {`{"data":"` + good + `"}`, ErrSampleEnvelope},
		"cut object":           {`{"token":"` + good, ErrSampleEnvelope},
		"two lines":            {good[:50] + "\n" + good[50:], ErrSampleEnvelope},
		"cut token":            {good[:len(good)-8], ErrSampleLength},
		"no Base64":            {"token", ErrSampleLength},
		"empty token":          {`{"token":""}`, ErrSampleLength},
		"the document's token": {`h/0YSUdGzgNsMcmfYAvIIPgF3Z80`, ErrSampleLength},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadSample(t.Context(), testConfig(), newCipher(t), []byte(tt.sample))
			require.ErrorIs(t, err, tt.want)
		})
	}
	var se *SettingError
	_, err := ReadSample(t.Context(), Config{}, newCipher(t), []byte(good))
	require.ErrorAs(t, err, &se)

	c := newCipher(t)
	c.err = errors.New("token absent")
	_, err = ReadSample(t.Context(), testConfig(), c, []byte(good))
	require.ErrorIs(t, err, c.err)
}

func TestReadSampleHoldsNoValue(t *testing.T) {
	for _, plain := range [][]byte{[]byte(golden), reply(t, map[string]any{"responseMessage": canaryPIN, "x": canaryPIN, "y": 938271.5})} {
		c := newCipher(t)
		s, err := ReadSample(t.Context(), testConfig(), c, []byte(testToken(t, IVPrefix, plain)))
		require.NoError(t, err)
		js, err := json.Marshal(s)
		require.NoError(t, err)
		for _, value := range []string{canaryPIN, "70000000008", "IN00001201001868", "0001aB3d00007z"} {
			require.NotContains(t, string(js), value)
			require.NotContains(t, fmt.Sprintf("%+v", s), value)
		}
		for _, b := range c.gave {
			require.NotContains(t, string(b), canaryPIN, "cleared")
		}
	}
}

func FuzzReadSample(f *testing.F) {
	f.Add([]byte(testToken(f, IVPrefix, []byte(golden))))
	f.Add([]byte(`{"result":"` + testToken(f, IVZero, []byte(documentOrder)) + `"}`))
	f.Add([]byte(`{"token":1,"token":2}`))
	f.Fuzz(func(t *testing.T, sample []byte) {
		s, err := ReadSample(t.Context(), testConfig(), newCipher(t), sample)
		if err != nil {
			require.True(t, errors.Is(err, ErrSampleEnvelope) || errors.Is(err, ErrSampleLength))
			return
		}
		require.NotEmpty(t, s.Findings)
	})
}
