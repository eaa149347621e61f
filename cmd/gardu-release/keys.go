package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/keystore"
	"gardu/internal/update/publish"
)

// keyOptions say how private keys are reached.
type keyOptions struct {
	passphraseFile string
	module         string
	pinFile        string
	latch          string
	environment    []string
	trustModule    bool
}

func (o *keyOptions) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&o.passphraseFile, "passphrase-file", "", "a `FILE` with the passphrase of key files; without it it is asked for")
	f.StringVar(&o.module, "module", "", "the PKCS#11 `MODULE` of keys that are named pkcs11:token=…;object=…")
	f.StringVar(&o.pinFile, "pin-file", "", "a `FILE` with that token's PIN")
	f.StringVar(&o.latch, "pin-latch", "", "a `FILE` that remembers a refused PIN; without it one beside the PIN's file")
	f.StringArrayVar(&o.environment, "module-env", nil, "`NAME=value` for the module")
	f.BoolVar(&o.trustModule, "trust-module-path", false, "do not check who may write to the module's folders; for demonstrations")
}

// tokenKey is a key in a token.
type tokenKey struct {
	ctx context.Context //nolint:containedctx // a Signer's methods have none, and it lives as long as one command
	s   *keystore.Signer
}

// Public implements publish.Signer.
func (k tokenKey) Public() (crypto.PublicKey, error) { return k.s.PublicKey(k.ctx) }

// Sign implements publish.Signer.
func (k tokenKey) Sign(message []byte) ([]byte, error) { return k.s.SignSHA256(k.ctx, message) }

// signer opens a private key: a file, or pkcs11:token=…;object=….
func (t *tool) signer(ctx context.Context, name string) (publish.Signer, error) {
	if strings.HasPrefix(name, "pkcs11:") {
		store, object, err := t.token(name)
		if err != nil {
			return nil, err
		}
		s, err := store.Signer(object)
		if err != nil {
			return nil, err
		}
		return tokenKey{ctx, s}, nil
	}
	b, err := os.ReadFile(name) //nolint:gosec // G304: the person names it
	if err != nil {
		return nil, err
	}
	pass, err := t.passphrase("passphrase of " + name)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	s, err := publish.OpenKey(b, pass)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// token opens the token that a URI names and returns the rest of the URI.
func (t *tool) token(name string) (*keystore.Store, string, error) {
	u, err := keystore.ParseURI(name)
	if err != nil {
		return nil, "", err
	}
	if u.Token == "" || u.Object == "" || t.keys.module == "" || t.keys.pinFile == "" {
		return nil, "", usage("a key in a token is named pkcs11:token=NAME;object=NAME, with --module and --pin-file")
	}
	latch := t.keys.latch
	if latch == "" {
		latch = t.keys.pinFile + ".refused"
	}
	if latch, err = filepath.Abs(latch); err != nil {
		return nil, "", err
	}
	store, err := keystore.Open(keystore.Options{
		// Who signs a release waits for a slow token rather than begin anew; no customer does.
		Deadline: time.Minute, StartDeadline: time.Minute,
		Module: t.keys.module, TrustModulePath: t.keys.trustModule, Token: "pkcs11:token=" + escape(u.Token),
		PIN: keystore.PINFile(t.keys.pinFile), LatchPath: latch, Env: t.keys.environment,
	})
	if err != nil {
		return nil, "", err
	}
	t.opened = append(t.opened, func() { _ = store.Close() })
	return store, "pkcs11:object=" + escape(u.Object), nil
}

// escape writes a URI's value as RFC 7512 wants it.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// passphrase takes it from its file or asks for it, without showing it.
func (t *tool) passphrase(prompt string) ([]byte, error) {
	if f := t.keys.passphraseFile; f != "" {
		st, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		if st.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("others can read %s; chmod it to 0600", f)
		}
		b, err := os.ReadFile(f) //nolint:gosec // G304: the person names it
		if err != nil {
			return nil, err
		}
		return bytes.TrimRight(b, "\r\n"), nil
	}
	_, _ = fmt.Fprint(t.err, prompt+": ")
	defer func() { _, _ = fmt.Fprintln(t.err) }()
	restore := t.hideInput()
	defer restore()
	line, err := t.in.ReadBytes('\n')
	if len(line) == 0 && err != nil {
		return nil, fmt.Errorf("no passphrase was given; type it, or name --passphrase-file: %w", err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// hideInput keeps a terminal from showing what is typed.
func (t *tool) hideInput() (restore func()) {
	if t.terminal == nil {
		return func() {}
	}
	fd := int(t.terminal.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	quiet := *was
	quiet.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(fd, unix.TCSETSF, &quiet) != nil {
		return func() {}
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, was) }
}

// public reads a public key: a .pub file, or a private key's public half.
func (t *tool) public(ctx context.Context, name string) (crypto.PublicKey, error) {
	if !strings.HasPrefix(name, "pkcs11:") {
		b, err := os.ReadFile(name) //nolint:gosec // G304: the person names it
		if err != nil {
			return nil, err
		}
		if pub, err := publish.ParsePublic(b); err == nil {
			return pub, nil
		}
	}
	s, err := t.signer(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.Public()
}

func (t *tool) keysCommand() *cobra.Command {
	fresh := &cobra.Command{
		Use: "new KEY", Short: "Make a key, in a file or in a token, and its .pub file", Args: args(cobra.ExactArgs(1)),
		Long: `new makes a key. A file is encrypted under a passphrase of at least twelve characters
(scrypt); a key in a token never leaves it, and its public half is written to the
file that --pub names.`,
		Example: "  gardu-release keys new root-a.key\n  gardu-release keys new 'pkcs11:token=release;object=targets-a' --pub targets-a.pub --module /usr/lib/softhsm/libsofthsm2.so --pin-file pin",
	}
	var pubFile string
	fresh.Flags().StringVar(&pubFile, "pub", "", "the public key's `FILE`; KEY.pub for a key file")
	fresh.RunE = act(func(c *cobra.Command, a []string) error { return t.newKey(c.Context(), a[0], pubFile) })
	show := &cobra.Command{
		Use: "show KEY", Short: "Show a key's id", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, a []string) error {
			pub, err := t.public(c.Context(), a[0])
			if err != nil {
				return err
			}
			id, err := publish.KeyID(pub)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(t.out, id)
			return err
		},
	}
	cmd := &cobra.Command{Use: "keys", Short: "Make and show keys", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	cmd.AddCommand(fresh, show)
	return cmd
}

func (t *tool) newKey(ctx context.Context, name, pubFile string) error {
	inToken := strings.HasPrefix(name, "pkcs11:")
	if pubFile == "" {
		if inToken {
			return usage("name the public key's file with --pub")
		}
		pubFile = name + ".pub"
	}
	for _, f := range []string{name, pubFile} {
		if _, err := os.Lstat(f); err == nil {
			return fmt.Errorf("%s is there already; keys are never overwritten", f)
		}
	}
	if err := t.plan("make a key: "+name, "write its public half to "+pubFile); err != nil {
		return err
	}
	var s publish.Signer
	var err error
	if inToken {
		s, err = t.newTokenKey(ctx, name)
	} else {
		s, err = t.newFileKey(name)
	}
	if err != nil {
		return err
	}
	pub, err := s.Public()
	if err != nil {
		return err
	}
	id, err := publish.KeyID(pub)
	if err != nil {
		return err
	}
	b, err := publish.PublicPEM(pub)
	if err != nil {
		return err
	}
	if err := os.WriteFile(pubFile, b, 0o644); err != nil { //nolint:gosec // G306: it is public
		return err
	}
	return t.done("key %s", id)
}

func (t *tool) newFileKey(name string) (publish.Signer, error) {
	pass, err := t.passphrase("passphrase of the new key")
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	if t.keys.passphraseFile == "" {
		again, err := t.passphrase("the same again")
		if err != nil {
			return nil, err
		}
		same := bytes.Equal(pass, again)
		clear(again)
		if !same {
			return nil, errors.New("the two are not the same; nothing was made")
		}
	}
	file, s, err := publish.NewKey(pass)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // G304: the person names it
	if err != nil {
		return nil, err
	}
	_, err = f.Write(file)
	return s, errors.Join(err, f.Sync(), f.Close())
}

func (t *tool) newTokenKey(ctx context.Context, name string) (publish.Signer, error) {
	store, object, err := t.token(name)
	if err != nil {
		return nil, err
	}
	u, err := keystore.ParseURI(object)
	if err != nil {
		return nil, err
	}
	if _, err := store.Generate(ctx, keystore.NewKey{Label: u.Object, Kind: keystore.KindECP256}); err != nil {
		return nil, err
	}
	s, err := store.Signer(object)
	if err != nil {
		return nil, err
	}
	return tokenKey{ctx, s}, nil
}
