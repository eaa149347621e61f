package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const framePIN = "481516"

func TestParseFrame(t *testing.T) {
	f, err := parseFrame([]byte(` { "args" : {"pin":"48\u00315\u0031\u0036"} , "name":"submit_pin","screen":"PIN.7", "session":"S","id":"c-1","type":"command"} `))
	require.NoError(t, err)
	c := f.command
	require.Equal(t, []string{"c-1", "S", "PIN.7", "submit_pin", ""}, []string{c.id, c.session, c.screen, c.name, c.wrong})
	require.Equal(t, framePIN, string(c.secret.Bytes()))
	require.Empty(t, c.args, "a secret is no argument like others")
	c.wipe()
	require.Nil(t, c.secret)

	f, err = parseFrame([]byte(`{"type":"hello","token":"t","lang":"en","epoch":"E","since":9007199254740991}`))
	require.NoError(t, err)
	require.Equal(t, &hello{"t", English, "E", 1<<53 - 1}, f.hello)

	f, err = parseFrame([]byte(`{"type":"command","id":"c","session":"S","screen":"a","name":"submit_fields","args":{"urn":"7","x":"\ud83d\ude00\"\\\/\b\f\n\r\t"}}`))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"urn": "7", "x": "😀\"\\/\b\f\n\r\t"}, f.command.args)
}

func TestParseFrameRefuses(t *testing.T) {
	command := func(rest string) string {
		return `{"type":"command","id":"c","session":"S","screen":"a","name":"submit_pin"` + rest + `}`
	}
	for name, frame := range map[string]string{
		"nothing":                 ``,
		"a string":                `"type"`,
		"a list":                  `["type"]`,
		"null":                    `null`,
		"cut off":                 `{"type":"ack"`,
		"cut off in an escape":    `{"type":"ack\`,
		"cut off in a key":        `{"ty`,
		"a comma too many":        `{"type":"ack","id":"a",}`,
		"no comma":                `{"type":"ack" "id":"a"}`,
		"single quotes":           `{'type':'ack','id':'a'}`,
		"trailing":                `{"type":"ack","id":"a"} x`,
		"a raw control character": "{\"type\":\"ack\",\"id\":\"a\nb\"}",
		"an unknown escape":       `{"type":"ack","id":"\x61"}`,
		"a lone surrogate":        `{"type":"ack","id":"\ud83d"}`,
		"a wrong pair":            `{"type":"ack","id":"\ud83d\u0041"}`,
		"a short escape":          `{"type":"ack","id":"\u00"}`,
		"bad hex":                 `{"type":"ack","id":"\u00zz"}`,
		"a negative number":       `{"type":"hello","token":"t","lang":"id","since":-1}`,
		"a fraction":              `{"type":"hello","token":"t","lang":"id","since":1.5}`,
		"an exponent":             `{"type":"hello","token":"t","lang":"id","since":1e3}`,
		"a leading zero":          `{"type":"hello","token":"t","lang":"id","since":01}`,
		"a number too large":      `{"type":"hello","token":"t","lang":"id","since":9007199254740992}`,
		"a number as a string":    `{"type":"hello","token":"t","lang":"id","since":"1"}`,
		"a token too long":        `{"type":"hello","token":"` + strings.Repeat("t", 129) + `","lang":"id"}`,
		"args as a string":        command(`,"args":"x"`),
		"args as null":            command(`,"args":null`),
		"a number in args":        command(`,"args":{"pin":481516}`),
		"a key twice":             command(`,"args":{"pin":"1","pin":"2"}`),
		"a key twice, disguised":  command(`,"args":{"pin":"1","\u0070in":"2"}`),
		"seventeen keys":          command(`,"args":{` + manyKeys(17) + `}`),
		"a lone surrogate in pin": command(`,"args":{"pin":"\ud83d"}`),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := parseFrame([]byte(frame))
			require.Error(t, err)
			require.Nil(t, f.command)
			require.Nil(t, f.hello)
			require.NotContains(t, err.Error(), framePIN)
		})
	}
}

func manyKeys(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, `"k`+string(rune('a'+i))+`":"v"`)
	}
	return strings.Join(parts, ",")
}

func TestArgumentsThatDoNotFitAreNamed(t *testing.T) {
	for args, wrong := range map[string]string{
		``:                               "pin",
		`,"args":{}`:                     "pin",
		`,"args":{"otp":"1"}`:            "otp",
		`,"args":{"pin":"1","x":"2"}`:    "x",
		`,"args":{"pin":"1"}`:            "",
		`,"args":{"pin":"` + long + `"}`: "pin",
	} {
		f, err := parseFrame([]byte(`{"type":"command","id":"c","session":"S","screen":"a","name":"submit_pin"` + args + `}`))
		require.NoError(t, err)
		require.Equal(t, wrong, f.command.wrong, args)
		f.command.wipe()
	}
}

var long = strings.Repeat("1", 129)

func FuzzParseFrame(f *testing.F) {
	for _, seed := range []string{
		`{"type":"hello","token":"t","lang":"id","epoch":"E","since":3}`,
		`{"type":"command","id":"c","session":"S","screen":"PIN.1","name":"submit_pin","args":{"pin":"481516"}}`,
		`{"type":"command","id":"c","session":"S","screen":"IDENT.1","name":"submit_fields","args":{"urn":"7","x":"\u00e9\ud83d\ude00"}}`,
		`{"type":"activity","session":"S"}`,
		`{"type":"ack","id":"c"}`,
		`{"type":"ack","id":"\`, `{`, ``, `[]`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) {
			return // the connection refuses it before the parser
		}
		got, err := parseFrame(bytes.Clone(b))
		if err != nil {
			require.Nil(t, got.command)
			return
		}
		// Whatever we accept, a JSON decoder must accept and read the same.
		var want struct {
			Type, ID, Session, Screen, Name, Token, Lang, Epoch string
			Since                                               uint64
			Args                                                map[string]string
		}
		require.NoError(t, json.Unmarshal(b, &want))
		switch {
		case got.command != nil:
			c := got.command
			require.Equal(t, []string{"command", want.ID, want.Session, want.Screen, want.Name}, []string{want.Type, c.id, c.session, c.screen, c.name})
			for k, v := range c.args {
				require.Equal(t, want.Args[k], v)
			}
			if c.secret != nil && c.wrong == "" {
				require.Equal(t, want.Args[commandTable[c.name].Args[0].Name], string(c.secret.Bytes()))
			}
			c.wipe()
		case got.hello != nil:
			require.Equal(t, hello{want.Token, Lang(want.Lang), want.Epoch, want.Since}, *got.hello)
		default:
			require.NotEqual(t, got.activity == "", got.ack == "")
		}
	})
}
