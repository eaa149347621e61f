package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gardu/internal/keystore"
)

// classWrapped is the class of a key that is kept outside the token, wrapped by a
// key of it.
const classWrapped = "wrapped"

// keyRow is one key as the commands show it.
type keyRow struct {
	keystore.KeyInfo
	Name        string            `json:"name"` // finpay-sign@g2, whether it is pending or not
	Base        string            `json:"-"`
	Generation  int               `json:"generation,omitempty"`
	State       keystore.GenState `json:"state,omitempty"`
	Role        string            `json:"role,omitempty"`
	Fingerprint string            `json:"fingerprint,omitempty"` // SHA-256 of the public half
}

// own is true for a key, and false for a public half or a certificate.
func (k *keyRow) own() bool { return k.Class == "private" || k.Class == "secret-key" }

// check is what two people compare by voice: the check value of a secret, and the
// beginning of a key pair's fingerprint.
func (k *keyRow) check() string {
	if k.KCV == "" && len(k.Fingerprint) > 16 {
		return k.Fingerprint[:16]
	}
	return k.KCV
}

// isFor says whether a URI of the configuration means this key, in any generation.
func (k *keyRow) isFor(uri string) bool {
	u, err := keystore.ParseURI(uri)
	if err != nil {
		return false
	}
	if len(u.ID) > 0 {
		return string(u.ID) == string(k.ID)
	}
	return keystore.ParseName(u.Object).Base == k.Base
}

// isOne says whether a URI means this key and no other generation of it; one that
// cannot be read might.
func (k *keyRow) isOne(uri string) bool {
	u, err := keystore.ParseURI(uri)
	if err != nil {
		return true
	}
	if len(u.ID) > 0 {
		return string(u.ID) == string(k.ID)
	}
	return keystore.ParseName(u.Object).String() == k.Name
}

// uri names exactly this object.
func (k *keyRow) uri() string { return k.URI() }

// rows lists the token with what gardu makes of it.
func (t *ceremony) rows(ctx context.Context) ([]keyRow, error) {
	list, err := t.keys.List(ctx)
	if err != nil {
		return nil, withCode(exitToken, err)
	}
	type name struct{ class, base string }
	labels := map[name][]string{}
	all := make([]keyRow, len(list))
	for i := range list {
		n := keystore.ParseName(list[i].Label)
		all[i] = keyRow{KeyInfo: list[i], Name: n.String(), Base: n.Base, Fingerprint: list[i].Fingerprint()}
		if k := &all[i]; k.own() {
			k.Generation, k.Role = n.Number, t.set.roleOf(n.Base).name
			labels[name{k.Class, n.Base}] = append(labels[name{k.Class, n.Base}], k.Label)
		}
	}
	for i := range all {
		k := &all[i]
		for _, g := range keystore.States(k.Base, labels[name{k.Class, k.Base}]) {
			if k.own() && g.Label == k.Label {
				k.State = g.State
			}
		}
	}
	all = append(all, t.wrappedRows(ctx)...)
	slices.SortStableFunc(all, func(a, b keyRow) int {
		if c := strings.Compare(a.Base, b.Base); c != 0 {
			return c
		}
		return a.Generation - b.Generation
	})
	return all, nil
}

// roleOf is the role that the configuration gives to a name; one without a name
// where it gives none.
func (s *settings) roleOf(base string) role {
	for _, r := range s.roles() {
		if u, err := keystore.ParseURI(r.uri); err == nil && keystore.ParseName(u.Object).Base == base {
			return r
		}
	}
	return role{}
}

// matching are the keys that a command's argument means: a name, a name with its
// generation, or a URI.
func matching(all []keyRow, arg string) ([]*keyRow, error) {
	var u keystore.URI
	if strings.HasPrefix(strings.ToLower(arg), "pkcs11:") {
		var err error
		if u, err = keystore.ParseURI(arg); err != nil {
			return nil, badURI(err)
		}
	} else {
		u.Object = arg
	}
	given := keystore.ParseName(u.Object)
	var found []*keyRow
	for i := range all {
		k := &all[i]
		switch {
		case u.Type == "" && !k.own() && k.Class != classWrapped, u.Type != "" && k.Class != u.Type,
			len(u.ID) > 0 && string(u.ID) != string(k.ID),
			u.Object != "" && given.Given && k.Name != given.String(),
			u.Object != "" && !given.Given && k.Base != given.Base:
			continue
		}
		found = append(found, k)
	}
	if len(found) == 0 {
		return nil, withCode(exitToken, fmt.Errorf("key not found: the token holds no key %s; compare the name with 'gardu keys list'", arg))
	}
	return found, nil
}

// one is the key that an argument means: of several generations the active one.
func one(all []keyRow, arg string) (*keyRow, error) {
	found, err := matching(all, arg)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		active := slices.DeleteFunc(slices.Clone(found), func(k *keyRow) bool { return k.State != keystore.StateActive })
		if len(active) != 1 {
			return nil, withCode(exitToken, fmt.Errorf("%s is ambiguous: the token holds %d keys of this name; give one's generation, or id= or type= in a pkcs11: URI", arg, len(found)))
		}
		return active[0], nil
	}
	return found[0], nil
}

// badURI is what is wrong with a URI on the command line, where the advice to correct
// the configuration would mislead.
func badURI(err error) error {
	var k *keystore.Error
	if errors.As(err, &k) {
		err = k.Err
	}
	return withCode(exitUsage, fmt.Errorf("read the key's name: %w; give it as 'gardu keys list' shows it", err))
}

// plainName reads the name of a new key.
func plainName(arg string) (string, error) {
	if strings.HasPrefix(strings.ToLower(arg), "pkcs11:") {
		u, err := keystore.ParseURI(arg)
		if err != nil {
			return "", badURI(err)
		}
		arg = u.Object
	}
	if n := keystore.ParseName(arg); n.Given || n.Base == "" || strings.HasSuffix(arg, "~pending") {
		return "", withCode(exitUsage, errors.New("a new key gets a name without a generation; the next generation of one that is there is made by 'gardu keys rotate NAME', or 'gardu keys import NAME KIND --next'"))
	}
	return arg, nil
}

// kindOf is the kind that a key would be made as.
func kindOf(k *keystore.KeyInfo) keystore.Kind {
	may := func(a string) bool { return k.Attributes[a] == "yes" }
	switch {
	case k.Type == "rsa" && may("CKA_UNWRAP"):
		return keystore.Kind(fmt.Sprintf("rsa-%d-transport", k.Bits))
	case k.Type == "rsa" && may("CKA_DECRYPT"):
		return keystore.Kind(fmt.Sprintf("rsa-%d-decrypt", k.Bits))
	case k.Type == "rsa":
		return keystore.Kind(fmt.Sprintf("rsa-%d", k.Bits))
	case k.Type == "ec":
		return keystore.Kind(fmt.Sprintf("ec-p%d", k.Bits))
	case k.Type == "aes":
		return keystore.Kind(fmt.Sprintf("aes-%d", k.Bits))
	case k.Type == "generic":
		return keystore.KindHMAC
	}
	return ""
}

func knownKind(kind string) error {
	if slices.Contains(keystore.Kinds(), keystore.Kind(kind)) {
		return nil
	}
	return withCode(exitUsage, fmt.Errorf("there is no kind of key %q; choose one of %s", kind, kindList()))
}

func kindList() string {
	var names []string
	for _, k := range keystore.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func publicPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}
