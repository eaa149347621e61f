package main

import (
	"context"
	"errors"
	"path/filepath"

	"gardu/internal/keystore"
	"gardu/internal/secret"
)

// wrappedSettings is one [[wrapped]] table: a symmetric key that the token cannot
// hold, kept in a file under a key that it can.
type wrappedSettings struct {
	Key  string `toml:"key"`  // the URI that a role names
	File string `toml:"file"` // where it is kept, wrapped
	By   string `toml:"by"`   // the token's key that wraps it
}

func (s *settings) wrappedKeys() []keystore.WrappedKey {
	var all []keystore.WrappedKey
	for _, w := range s.Wrapped {
		all = append(all, keystore.WrappedKey{Key: w.Key, File: w.File, By: w.By})
	}
	return all
}

// wrappedRole is the table of a name that is not kept in the token.
func (s *settings) wrappedRole(name string) (wrappedSettings, bool) {
	for _, w := range s.Wrapped {
		if u, err := keystore.ParseURI(w.Key); err == nil && u.Object == name {
			return w, true
		}
	}
	return wrappedSettings{}, false
}

func (s *settings) checkWrapped(bad problem) error {
	for _, w := range s.Wrapped {
		u, err := keystore.ParseURI(w.Key)
		if err != nil {
			return bad("wrapped.key", err.Error(), `name the key as its role does, such as "pkcs11:object=prepaid-envelope"`)
		}
		r := s.roleOf(u.Object)
		switch {
		case r.name == "" || r.kind != keystore.KindHMAC && r.kind != keystore.KindAES192:
			return bad("wrapped.key", "names "+w.Key+", which no role for a secret or an AES-192 key names", "name a secret_key or envelope_key, or leave the table out")
		case !filepath.IsAbs(w.File):
			return bad("wrapped.file", "is not an absolute path", "write it from the root, such as /etc/gardu/"+u.Object+".wrapped")
		}
		by, err := keystore.ParseURI(w.By)
		if err != nil {
			return bad("wrapped.by", err.Error(), `name a key of the token that wraps, such as "pkcs11:object=wrapper;type=private"`)
		}
		if other := s.roleOf(keystore.ParseName(by.Object).Base); other.name != "" {
			return bad("wrapped.by", "names the key of "+other.name, "give it a key of its own: 'gardu keys generate wrapper rsa-3072-decrypt'")
		}
	}
	return nil
}

// importOutside writes a wrapped key's file instead of an object of the token.
func (a *app) importOutside(ctx context.Context, t *ceremony, name string, kind keystore.Kind, check []byte, value *secret.Value, o *importOptions, w wrappedSettings, attrs map[string]string) error {
	if o.wrapped != "" || o.next {
		return withCode(exitUsage, errors.New("the configuration keeps "+name+" outside the token (see [[wrapped]]); such a key is imported with --file, and replaced by removing "+w.File+" first"))
	}
	attrs["outside_token"] = w.File
	info, err := t.act(ctx, "key.import", name, attrs, func() (keystore.KeyInfo, error) {
		return t.keys.ImportWrapped(ctx, keystore.NewKey{Label: name, Kind: kind, Check: check, AllowWeak: o.weak}, value)
	})
	if err != nil {
		return err
	}
	return a.report("imported, outside the token,", &info)
}

// wrappedRows are the keys that are kept outside the token.
func (t *ceremony) wrappedRows(ctx context.Context) []keyRow {
	var all []keyRow
	for _, w := range t.set.Wrapped {
		u, err := keystore.ParseURI(w.Key)
		if err != nil {
			continue
		}
		info, err := t.keys.DescribeWrapped(ctx, u.Object)
		if err != nil {
			info = keystore.KeyInfo{Label: u.Object, Class: classWrapped, Attributes: map[string]string{}}
		}
		all = append(all, keyRow{KeyInfo: info, Name: u.Object, Base: u.Object, Generation: 1, State: keystore.StateActive, Role: t.set.roleOf(u.Object).name})
	}
	return all
}

// whereKept is a role's key as check shows it: one that is not in the token is not
// to be overlooked.
func (s *settings) whereKept(r role) string {
	u, err := keystore.ParseURI(r.uri)
	if err != nil {
		return r.uri
	}
	if w, ok := s.wrappedRole(u.Object); ok {
		return r.uri + "; NOT IN THE TOKEN: kept in " + w.File + " under " + w.By + ", and in memory while gardu runs"
	}
	return r.uri
}
