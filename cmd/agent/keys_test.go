package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gardu/internal/keystore"
)

func TestSubjects(t *testing.T) {
	for _, c := range []struct{ in, want, says string }{
		{"CN=kiosk 7", "CN=kiosk 7", ""},
		{`cn=kiosk 7, O=Bank\, Contoh,OU=A,OU=B,C=ID`, `CN=kiosk 7,OU=A+OU=B,O=Bank\, Contoh,C=ID`, ""},
		{"CN=a,serialNumber=0042", "SERIALNUMBER=0042,CN=a", ""},
		{"", "", "is not a list"},
		{"CN=", "", "is not a list"},
		{"O=Bank", "", "has no CN"},
		{"CN=a,EMAIL=b", "", "unknown attribute EMAIL"},
	} {
		n, err := parseSubject(c.in)
		if c.says != "" {
			require.ErrorContains(t, err, c.says, c.in)
			continue
		}
		require.NoError(t, err, c.in)
		require.Equal(t, c.want, n.String(), c.in)
	}
}

func TestConfirmingTakesTheWordOrNothing(t *testing.T) {
	for in, ok := range map[string]bool{"finpay-sign\n": true, "finpay-sign\r\n": true, "finpay-sign": true, "": false, "\n": false, "yes\n": false, "finpay-sign2\n": false} {
		var asked bytes.Buffer
		a := &app{in: strings.NewReader(in), err: &asked}
		err := a.confirmAct(&acting{}, "Destroy it?", "finpay-sign")
		require.Equal(t, ok, err == nil, "%q: %v", in, err)
		require.Contains(t, asked.String(), "Type finpay-sign to go on")
	}
	require.NoError(t, (&app{}).confirmAct(&acting{yes: true}, "?", "word"), "--yes asks nothing")
}

func rowsOf(labels ...string) []keyRow {
	var all []keyRow
	for _, l := range labels {
		n := keystore.ParseName(l)
		all = append(all, keyRow{
			KeyInfo: keystore.KeyInfo{Label: l, Class: "private", ID: keystore.KeyID(l)}, Name: n.String(), Base: n.Base, Generation: n.Number,
		})
	}
	for i, g := range keystore.States(all[0].Base, labels) {
		all[i].State = g.State
	}
	return all
}

func TestWhichKeyAnArgumentMeans(t *testing.T) {
	all := rowsOf("k", "k@g2", "k@g3~pending")
	all = append(all, keyRow{KeyInfo: keystore.KeyInfo{Label: "k", Class: "public"}, Name: "k", Base: "k"})
	for arg, want := range map[string]string{
		"k": "k@g2", "k@g1": "k", "k@g2": "k@g2", "k@g3": "k@g3~pending", "pkcs11:object=k": "k@g2",
		"pkcs11:object=k@g3;type=private": "k@g3~pending", "pkcs11:id=%6b": "k",
	} {
		got, err := one(all, arg)
		require.NoError(t, err, arg)
		require.Equal(t, want, got.Label, arg)
	}
	found, err := matching(all, "pkcs11:object=k;type=public")
	require.NoError(t, err)
	require.Equal(t, "public", found[0].Class)
	for arg, code := range map[string]int{"other": exitToken, "k@g4": exitToken, "pkcs11:foo=bar": exitUsage} {
		_, err := one(all, arg)
		var c *codeError
		require.ErrorAs(t, err, &c, arg)
		require.Equal(t, code, c.code, arg)
		require.NotContains(t, err.Error(), "restart gardu")
	}
	for _, arg := range []string{"k@g2", "k~pending", "", "pkcs11:token=x"} {
		_, err := plainName(arg)
		require.Error(t, err, arg)
	}
}

func TestKindsOfOneFamily(t *testing.T) {
	for _, c := range []struct {
		a, b keystore.Kind
		same bool
	}{
		{keystore.KindRSA2048, keystore.KindRSA4096, true},
		{keystore.KindRSA2048, keystore.KindRSA2048Unwrap, false},
		{keystore.KindRSA2048, keystore.KindTransport2048, false},
		{keystore.KindECP256, keystore.KindECP384, true},
		{keystore.KindAES192, keystore.KindAES256, false},
		{keystore.KindAES192, keystore.KindAES192, true},
		{keystore.KindHMAC, keystore.KindHMAC, true},
	} {
		require.Equal(t, c.same, sameFamily(c.a, c.b), "%s %s", c.a, c.b)
	}
	for _, k := range keystore.Kinds() {
		require.NoError(t, knownKind(string(k)))
		require.Contains(t, kindsHelp, strings.Split(string(k), "-")[0])
	}
	require.Error(t, knownKind("rsa-512"))
}

func TestWhichKeyAURIOfTheConfigurationMeans(t *testing.T) {
	k := rowsOf("kek@g2")[0]
	k.ID = []byte{1, 2}
	for uri, want := range map[string][2]bool{
		"pkcs11:object=kek":                 {true, false},
		"pkcs11:object=kek;type=secret-key": {true, false},
		"pkcs11:object=kek@g2":              {true, true},
		"pkcs11:object=kek@g3":              {true, false},
		"pkcs11:object=other":               {false, false},
		"pkcs11:id=%01%02":                  {true, true},
		"pkcs11:object=kek;id=%01%02":       {true, true},
		"pkcs11:object=kek@g2;id=%01%03":    {false, false},
		"nonsense":                          {false, true},
	} {
		require.Equal(t, want, [2]bool{k.isFor(uri), k.isOne(uri)}, uri)
	}
}

func TestWhatIsSaidOfAKeysOrigin(t *testing.T) {
	for want, at := range map[string]map[string]string{
		"made in token":   {"CKA_LOCAL": "yes", "CKA_NEVER_EXTRACTABLE": "yes", "CKA_ALWAYS_SENSITIVE": "yes"},
		"origin not told": {"CKA_LOCAL": "no", "CKA_NEVER_EXTRACTABLE": "yes", "CKA_ALWAYS_SENSITIVE": "yes"},
		"imported":        {"CKA_LOCAL": "no", "CKA_NEVER_EXTRACTABLE": "no", "CKA_ALWAYS_SENSITIVE": "no"},
	} {
		at["CKA_SENSITIVE"], at["CKA_EXTRACTABLE"] = "yes", "no"
		require.Equal(t, want, safety(&keystore.KeyInfo{Class: "private", Attributes: at}))
		at["CKA_EXTRACTABLE"] = "yes"
		require.Equal(t, "READABLE", safety(&keystore.KeyInfo{Class: "private", Attributes: at}))
	}
}

func TestAJournalsKeyIsMadeAsItsURISays(t *testing.T) {
	s := defaultSettings()
	s.Journal.KEK = "pkcs11:object=journal-kek;type=private"
	require.Equal(t, keystore.KindRSA3072Unwrap, s.roles()[0].kind)
	require.Equal(t, keystore.KindAES256, s.roles()[1].kind)
	require.True(t, suits(keystore.KindRSA3072Unwrap, keystore.KindRSA4096Unwrap))
	require.False(t, suits(keystore.KindRSA3072Unwrap, keystore.KindAES256))
}
