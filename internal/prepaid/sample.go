package prepaid

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Sample is what a token of the platform says about the settings. It holds names
// and lengths, never a value: the token may hold a PIN.
type Sample struct {
	TokenBytes int           `json:"token_bytes"` // after Base64
	OpensWith  []IV          `json:"opens_with"`  // the settings of iv under which it opens
	Fields     []SampleField `json:"fields"`      // in their order; empty where it does not open
	Findings   []Finding     `json:"findings"`
}

// SampleField is one field of the decrypted message.
type SampleField struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"`   // string, number, null, true, false, object or array
	Length int    `json:"length"` // characters of a string or number as it stands there
}

// Finding is the verdict on one setting.
type Finding struct {
	Setting string `json:"setting"` // its name, or "key" for the key in the token
	Fits    bool   `json:"fits"`
	Text    string `json:"text"` // one sentence, with what to do where it does not fit
}

// Fits reports whether every setting that the sample can tell about fits.
func (s *Sample) Fits() bool {
	return !slices.ContainsFunc(s.Findings, func(f Finding) bool { return !f.Fits })
}

func (s *Sample) find(setting string, fits bool, yes, no string) {
	text := yes
	if !fits {
		text = no
	}
	s.Findings = append(s.Findings, Finding{setting, fits, text})
}

// What ReadSample says of a file in which there is no token. A person reads these,
// so unlike errUnreadable they say what is wrong.
var (
	ErrSampleEnvelope = errors.New(`the sample is neither {"token": "..."} nor {"result": "..."} nor one line of Base64; ` +
		`check its quotation marks (documents often have typographic ones) and that it is whole`)
	ErrSampleLength = errors.New("the sample's Base64 or its length is wrong: it must give whole blocks of 16 bytes; check that it is whole")
)

// ReadSample decrypts a token that the platform has published or sent and compares
// it with the settings. It uses no network. sample is the JSON envelope or the bare
// Base64. Every place of the IV is tried, so that the finding can name the one that
// fits; what the agent does at run time is set by Config.IV alone.
//
// Errors: a *SettingError, ErrSampleEnvelope, ErrSampleLength, or the Cipher's.
func ReadSample(ctx context.Context, cfg Config, c Cipher, sample []byte) (*Sample, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Sample{OpensWith: []IV{}, Fields: []SampleField{}}
	token, field, err := sampleToken(bytes.TrimSpace(sample))
	if err != nil {
		return nil, err
	}
	if field != "" {
		s.find("answer_field", field == cfg.AnswerField || field == fieldToken,
			"the envelope's field is "+field, `the envelope's field is "result"; if this is an answer, set answer_field = "result"`)
	}
	_, whole, err := envelope{iv: IVZero}.split(token)
	if err != nil {
		return nil, ErrSampleLength
	}
	s.TokenBytes = len(whole)

	tries := []IV{cfg.IV}
	for _, iv := range []IV{IVPrefix, IVSuffix, IVZero} {
		if iv != cfg.IV {
			tries = append(tries, iv)
		}
	}
	padded := false
	var text []byte // under the configured IV, or else the first under which it opens
	defer func() { clear(text) }()
	for _, iv := range tries {
		plain, good, err := trySample(ctx, &cfg, iv, c, token)
		if err != nil {
			return nil, err
		}
		padded = padded || good
		if good && eachMember(plain, func(string, []byte) error { return nil }) == nil {
			s.OpensWith = append(s.OpensWith, iv)
			if text == nil {
				text = plain
				continue
			}
		}
		clear(plain)
	}
	s.findEnvelope(&cfg, padded)
	if text == nil {
		return s, nil
	}
	if err := s.findFields(&cfg, text); err != nil {
		return nil, err
	}
	return s, nil
}

// sampleToken takes the token out of what a file holds, and the name of the
// envelope's field, "" for bare Base64.
func sampleToken(sample []byte) (token []byte, field string, err error) {
	if len(sample) == 0 {
		return nil, "", ErrSampleEnvelope
	}
	if sample[0] != '{' {
		if bytes.ContainsAny(sample, "{}\" \t\r\n") || !utf8.Valid(sample) {
			return nil, "", ErrSampleEnvelope
		}
		return sample, "", nil
	}
	err = eachMember(sample, func(name string, raw []byte) error {
		if (name != fieldToken && name != fieldResult) || raw[0] != '"' || field != "" {
			return nil
		}
		v, _, err := scalar(raw)
		token, field = v, name
		return err
	})
	if err != nil || field == "" {
		return nil, "", ErrSampleEnvelope
	}
	return token, field, nil
}

// trySample decrypts the token with its IV in one place. good is whether the
// padding is right; the text is then without it.
func trySample(ctx context.Context, cfg *Config, iv IV, c Cipher, token []byte) (text []byte, good bool, err error) {
	as := *cfg
	as.IV = iv
	env, err := newEnvelope(&as, c)
	if err != nil {
		return nil, false, err
	}
	vector, ct, err := env.split(token)
	if err != nil {
		return nil, false, nil //nolint:nilerr // one block alone cannot hold an IV and a text: it does not open this way
	}
	plain, err := c.DecryptCBC(ctx, vector, ct)
	if err != nil {
		return nil, false, &cipherError{"decrypt", err}
	}
	if len(plain) != len(ct) {
		return nil, false, &cipherError{"decrypt", errors.New("the token returned a text of another length")}
	}
	n, ok := unpad(plain)
	return plain[:n], ok == 1, nil
}

func (s *Sample) findEnvelope(cfg *Config, padded bool) {
	opens := len(s.OpensWith) > 0
	s.find("key", padded || opens, "the padding is right under this key",
		"the padding is wrong wherever the IV is taken from: most likely another key; compare the key check value and the key's encoding with the platform")
	if !padded && !opens {
		return
	}
	names := make([]string, len(s.OpensWith))
	for i, iv := range s.OpensWith {
		names[i] = fmt.Sprintf("%q", string(iv))
	}
	no := "the key seems right, but the text is none with any IV known here; ask the platform which IV it uses"
	if opens {
		no = "it opens with iv = " + strings.Join(names, " or ") + "; set that"
	}
	s.find("iv", slices.Contains(s.OpensWith, cfg.IV), "it opens with the configured IV", no)
}

// findFields lists the fields and compares those that settings speak of.
func (s *Sample) findFields(cfg *Config, text []byte) error {
	kinds := make(map[string]string)
	err := eachMember(text, func(name string, raw []byte) error {
		f := SampleField{Name: printable(name), Kind: kindOf(raw[0])}
		if v, ok, err := scalar(raw); err == nil && ok {
			f.Length = utf8.RuneCount(v)
			clear(v)
		} else if f.Kind == "number" {
			f.Length = len(raw)
		}
		kinds[name] = f.Kind
		s.Fields = append(s.Fields, f)
		return nil
	})
	if err != nil {
		return err
	}
	f, err := readFields(text)
	if err != nil {
		s.find("fields", false, "", "a known field is neither a string nor a whole number; the agent would not read such an answer")
		return nil
	}
	defer f.wipe()
	_, answer := kinds[fieldCode]
	if answer {
		s.findAnswer(cfg, f)
	} else {
		s.findRequest(cfg, f, kinds)
	}
	return nil
}

func (s *Sample) findAnswer(cfg *Config, f fields) {
	s.find("answer_message_code", f.is(fieldMessageCode, cfg.AnswerMessageCode), "the answer's messageCode is the configured one",
		"the answer has another messageCode; if it answers Reset PIN, set this")
	s.find("client_id", f.is(fieldClientID, cfg.ClientID), "the answer repeats the configured clientId",
		"the answer repeats another clientId or none; such an answer would leave every request in doubt")
	s.find("bank_id", f.is(fieldBankID, cfg.BankID), "the answer repeats the configured bankId",
		"the answer repeats another bankId or none; such an answer would leave every request in doubt")
	code := string(f[fieldCode])
	_, rejected := cfg.rejections()[code]
	success := slices.Contains(cfg.SuccessCodes, code)
	yes := "the response code is a listed rejection"
	if success {
		yes = "the response code is a success"
	}
	s.find("success_codes", success || rejected, yes,
		"the response code is in no table; if its meaning is known, add it to success_codes or reject_codes")
}

func (s *Sample) findRequest(cfg *Config, f fields, kinds map[string]string) {
	s.find("message_code", f.is(fieldMessageCode, cfg.MessageCode), "the request's messageCode is the configured one",
		"the request has another messageCode; if it is Reset PIN, set this")
	if kind, there := kinds[FieldURN]; there {
		number := kind == "number"
		s.find("urn_as_number", number == cfg.URNAsNumber, "the urn is written as configured",
			fmt.Sprintf("the urn is a %s; set urn_as_number = %t", kind, number))
	}
	for _, m := range s.Fields {
		if m.Name == FieldNewPIN {
			s.find("pin_max", m.Length >= cfg.PINMin && m.Length <= cfg.PINMax, "newPIN has a length between pin_min and pin_max",
				fmt.Sprintf("newPIN has %d digits; set pin_min and pin_max so that they hold it", m.Length))
		}
	}
}

func kindOf(c byte) string {
	switch c {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't':
		return "true"
	case 'f':
		return "false"
	case 'n':
		return "null"
	}
	return "number"
}
