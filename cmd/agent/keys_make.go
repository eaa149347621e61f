package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gardu/internal/keystore"
	"gardu/internal/secret"
)

const kindsHelp = `KIND is one of
  rsa-2048, rsa-3072, rsa-4096   a signing key (a provider's snap-sign)
  ec-p256, ec-p384               a signing key for TLS
  hmac-sha512                    a provider's client secret (snap-secret)
  aes-192                        the prepaid envelope
  aes-256                        a key that wraps the journal's keys
  rsa-2048-decrypt (3072, 4096)  the same, for tokens without AES-GCM
  rsa-3072-transport (2048, 4096)  a key under which others send keys`

func (a *app) keysGenerateCommand() *cobra.Command {
	var o acting
	cmd := &cobra.Command{
		Use: "generate NAME KIND", Short: "Make a key in the token; its value never leaves it",
		Long: "generate makes a key in the token: sensitive, not extractable, for one purpose.\n" +
			"The next generation of a key that is there is made by 'gardu keys rotate'.\n\n" + kindsHelp,
		Example: "  gardu keys generate finpay-sign rsa-2048\n  gardu keys generate transport rsa-3072-transport",
		Args:    usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := plainName(args[0])
			if err != nil {
				return err
			}
			if err := knownKind(args[1]); err != nil {
				return err
			}
			return a.withCeremony(c.Context(), &o, func(t *ceremony) error {
				if err := t.set.mustSuit(name, keystore.Kind(args[1])); err != nil {
					return err
				}
				if err := t.mustBeFree(c.Context(), name); err != nil {
					return err
				}
				info, err := t.act(c.Context(), "key.generate", name, map[string]string{"kind": args[1]}, func() (keystore.KeyInfo, error) {
					return t.keys.Generate(c.Context(), keystore.NewKey{Label: name, Kind: keystore.Kind(args[1])})
				})
				if err != nil {
					return err
				}
				return a.report("made", &info)
			})
		},
	}
	o.flags(cmd)
	return cmd
}

// mustBeFree refuses a name of which the token holds any generation.
func (t *ceremony) mustBeFree(ctx context.Context, name string) error {
	all, err := t.rows(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].own() && all[i].Base == name {
			return fmt.Errorf("key name is in use: the token holds %s; make the next generation with 'gardu keys rotate %s' "+
				"('gardu keys import %s KIND --next' where a provider hands it out), or choose another name", all[i].Label, name, name)
		}
	}
	return nil
}

type importOptions struct {
	acting
	file, encoding  string // the key in clear, or
	wrapped         string // encrypted for
	transport, oaep string
	remove          bool
	kcv             string
	weak, next      bool
}

func (a *app) keysImportCommand() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import NAME KIND --file FILE | --wrapped FILE", Short: "Put a key that a provider handed out into the token",
		Long: `import puts a key into the token that was made elsewhere, has the token use it once, and
compares the result. It comes either encrypted for a transport key of the token
(--wrapped; docs/keys.md says how the sender makes the file), so that nobody on this
machine sees it, or in clear in a file (--file; "-" is standard input). It is never
taken from the command line, which other users can read.

--kcv compares the check value that the sender said by another way; where it differs,
the key is destroyed again.

` + kindsHelp,
		Example: `  gardu keys import finpay-secret hmac-sha512 --wrapped secret.blob --kcv 3fa1c2
  gardu keys import netzme-sign rsa-2048 --wrapped netzme.blob --next
  gardu keys import finpay-secret hmac-sha512 --file /run/secret.txt --encoding text --remove`,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error { return a.importKey(c.Context(), args[0], args[1], &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "`FILE` with the key in clear")
	f.StringVar(&o.encoding, "encoding", "raw", "how the file is written: raw, text (one trailing newline goes), hex or base64")
	f.BoolVar(&o.remove, "remove", false, "remove the file afterwards")
	f.StringVar(&o.wrapped, "wrapped", "", "`FILE` with the key encrypted for the transport key")
	f.StringVar(&o.transport, "transport", "transport", "`NAME` of the transport key, with --wrapped")
	f.StringVar(&o.oaep, "oaep", "", "hash that the sender used, sha256 or sha1; both are tried without it")
	f.StringVar(&o.kcv, "kcv", "", "check value in `HEX` that the key must have; of an RSA key the beginning of its public half's SHA-256")
	f.BoolVar(&o.weak, "allow-weak", false, "take a secret shorter than 16 bytes; the audit record says so")
	f.BoolVar(&o.next, "next", false, "make it the next generation of a key that is there; 'gardu keys rotate NAME --activate' puts it to use")
	o.flags(cmd)
	return cmd
}

func (a *app) importKey(ctx context.Context, arg, kind string, o *importOptions) error {
	name, err := plainName(arg)
	if err != nil {
		return err
	}
	if err := knownKind(kind); err != nil {
		return err
	}
	if strings.HasPrefix(kind, "ec-") || strings.HasSuffix(kind, "-transport") {
		return withCode(exitUsage, fmt.Errorf("keys of kind %s are made in the token and not imported; use 'gardu keys generate %s %s'", kind, name, kind))
	}
	if (o.file == "") == (o.wrapped == "") {
		return withCode(exitUsage, errors.New("say where the secret is with --file FILE (--file - is standard input) or, encrypted for a transport key, with --wrapped FILE"))
	}
	check, err := hex.DecodeString(o.kcv)
	if err != nil || o.kcv != "" && len(check) < 3 {
		return withCode(exitUsage, errors.New("--kcv is not at least three bytes in hexadecimal; copy it from what the sender said"))
	}
	encoding := o.encoding
	if o.wrapped != "" && encoding == "text" {
		return withCode(exitUsage, errors.New("a wrapped key is bytes; give --encoding raw, hex or base64"))
	}
	file := o.file + o.wrapped
	value, err := a.readKey(file, encoding)
	if err != nil {
		return err
	}
	defer value.Wipe()
	err = a.withCeremony(ctx, &o.acting, func(t *ceremony) error {
		return a.importInto(ctx, t, name, keystore.Kind(kind), check, value, o)
	})
	if err != nil || file == "-" {
		return err
	}
	if !o.remove {
		if o.file != "" {
			_, _ = fmt.Fprintf(a.err, "gardu: %s still holds the secret in clear; remove it\n", file)
		}
		return nil
	}
	if err := shred(file); err != nil {
		return fmt.Errorf("the key is in the token, but its file could not be removed: %w; remove it by hand", err)
	}
	if o.file != "" {
		_, _ = fmt.Fprintf(a.err, "gardu: %s was overwritten and removed; copies of it (backups, mail, a disk that keeps old blocks) are not this program's to find\n", file)
	}
	return nil
}

func (a *app) importInto(ctx context.Context, t *ceremony, name string, kind keystore.Kind, check []byte, value *secret.Value, o *importOptions) error {
	if err := t.set.mustSuit(name, kind); err != nil {
		return err
	}
	attrs := map[string]string{"kind": string(kind), "way": "clear"}
	if o.weak {
		attrs["weak"] = "allowed"
	}
	if o.wrapped != "" {
		attrs["way"] = "wrapped for " + o.transport
	}
	if w, ok := t.set.wrappedRole(name); ok {
		return a.importOutside(ctx, t, name, kind, check, value, o, w, attrs)
	}
	label := name
	if o.next {
		n, err := t.next(ctx, name)
		if err != nil {
			return err
		}
		n.Pending = true
		label = n.Label()
	} else if err := t.mustBeFree(ctx, name); err != nil {
		return err
	}
	n := keystore.NewKey{Label: label, Kind: kind, Check: check, AllowWeak: o.weak}
	info, err := t.act(ctx, "key.import", keystore.ParseName(label).String(), attrs, func() (keystore.KeyInfo, error) {
		if o.wrapped == "" {
			return t.keys.Import(ctx, n, value)
		}
		transport := keystore.URI{Object: o.transport}.String()
		if strings.HasPrefix(o.transport, "pkcs11:") {
			transport = o.transport
		}
		hash, ok := map[string]keystore.Mechanism{"": "", "sha256": keystore.MechanismOAEPSHA256, "sha1": keystore.MechanismOAEPSHA1}[o.oaep]
		if !ok {
			hash = keystore.Mechanism(o.oaep) // refused by its name
		}
		return t.keys.ImportBlob(ctx, n, keystore.Blob{Transport: transport, Hash: hash, Bytes: value.Bytes()})
	})
	if err != nil {
		return err
	}
	if err := a.report("imported", &info); err != nil {
		return err
	}
	if o.next {
		_, _ = fmt.Fprintf(a.err, "gardu: it is pending; 'gardu keys rotate %s --activate' puts it to use\n", name)
	}
	return nil
}

// next is the name of the generation after the newest.
func (t *ceremony) next(ctx context.Context, base string) (keystore.Name, error) {
	all, err := t.rows(ctx)
	if err != nil {
		return keystore.Name{}, err
	}
	found, err := matching(all, keystore.URI{Object: base}.String())
	if err != nil {
		return keystore.Name{}, err
	}
	n := keystore.Name{Base: base, Given: true}
	for _, k := range found {
		if k.State == keystore.StatePending {
			return n, fmt.Errorf("%s is pending already; put it to use with 'gardu keys rotate %s --activate', or destroy it with 'gardu keys destroy %s'", k.Name, base, k.Name)
		}
		n.Number = max(n.Number, k.Generation+1)
	}
	return n, nil
}

const maxKeyFile = 64 << 10

func (a *app) readKey(file, encoding string) (*secret.Value, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // G304: the operator names the file on purpose
		if err != nil {
			return nil, fmt.Errorf("read the secret: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	b := make([]byte, 0, maxKeyFile+1)
	buf := bytes.NewBuffer(b)
	if _, err := io.CopyN(buf, in, maxKeyFile+1); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the secret: %w", err)
	}
	raw := secret.New(buf.Bytes())
	if raw.Len() > maxKeyFile {
		raw.Wipe()
		return nil, fmt.Errorf("%s is too large for a key; name the right file", file)
	}
	if encoding == "raw" {
		return raw, nil
	}
	text := bytes.TrimSuffix(bytes.TrimSuffix(raw.Bytes(), []byte("\n")), []byte("\r"))
	out := make([]byte, len(text))
	var n int
	var err error
	switch encoding {
	case "text":
		n = copy(out, text)
	case "hex":
		n, err = hex.Decode(out, text)
	case "base64":
		n, err = base64.StdEncoding.Decode(out, text)
	default:
		raw.Wipe()
		return nil, withCode(exitUsage, fmt.Errorf("--encoding %q is not known; use raw, text, hex or base64", encoding))
	}
	raw.Wipe()
	if err != nil {
		clear(out)
		// The decoders' own errors may quote what they read.
		return nil, fmt.Errorf("%s is not %s; choose another --encoding", file, encoding)
	}
	return secret.New(out[:n]), nil
}

// shred overwrites a file before it is removed. On a journalling file system or
// flash memory the old bytes may stay somewhere all the same.
func shred(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0) //nolint:gosec // G304: likewise
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Mode().IsRegular() {
		_, err = f.WriteAt(make([]byte, st.Size()), 0)
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close(), os.Remove(file))
}

func (a *app) report(verb string, k *keystore.KeyInfo) error {
	if a.json {
		return a.printJSON(k)
	}
	check := "check value " + dash(k.KCV)
	if p := k.Fingerprint(); p != "" {
		check = "fingerprint " + p
	}
	_, err := fmt.Fprintf(a.out, "%s %s: %s, %s bits, %s, %s\n", strings.ToUpper(verb[:1])+verb[1:], keystore.ParseName(k.Label), k.Type, bits(k.Bits), check, safety(k))
	return err
}

func (a *app) keysCSRCommand() *cobra.Command {
	var subject string
	var dns []string
	cmd := &cobra.Command{
		Use: "csr NAME --subject DN", Short: "Print a certificate request that the key in the token has signed",
		Long: `csr prints a certificate request (PKCS #10) for an RSA or EC key in the token, for the
bank's or the provider's authority. NAME with @g2 takes that generation, also while
it is pending.`,
		Example: "  gardu keys csr tls-client --subject 'CN=kiosk 7,O=Bank Contoh,C=ID' --dns kiosk7.bank.example > kiosk7.csr",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			name, err := parseSubject(subject)
			if err != nil {
				return withCode(exitUsage, err)
			}
			return a.withToken(c.Context(), func(t *ceremony) error {
				all, err := t.rows(c.Context())
				if err != nil {
					return err
				}
				k, err := one(all, args[0])
				if err != nil {
					return err
				}
				if k.Class != "private" || k.Attributes["CKA_SIGN"] != "yes" {
					return fmt.Errorf("%s is no signing key, so it cannot ask for a certificate; make one with 'gardu keys generate NAME rsa-2048' or ec-p256", k.Name)
				}
				s, err := t.keys.Signer(k.uri())
				if err != nil {
					return tokenError(err)
				}
				if _, err := s.PublicKey(c.Context()); err != nil {
					return tokenError(err)
				}
				var der []byte
				_, err = t.act(c.Context(), "key.csr", k.Name, map[string]string{"subject": subject}, func() (keystore.KeyInfo, error) {
					der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: *name, DNSNames: dns}, s)
					return k.KeyInfo, err
				})
				if err != nil {
					return fmt.Errorf("make the certificate request: %w", err)
				}
				text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
				if a.json {
					return a.printJSON(map[string]string{"name": k.Name, "subject": name.String(), "fingerprint": k.Fingerprint, "csr": text})
				}
				_, err = io.WriteString(a.out, text)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&subject, "subject", "", "`DN` such as 'CN=kiosk 7,O=Bank Contoh,C=ID'; a backslash before a comma keeps it")
	cmd.Flags().StringSliceVar(&dns, "dns", nil, "DNS `NAME` to ask for; may be given several times")
	return cmd
}

// parseSubject reads a distinguished name: attributes with their short names,
// separated by commas.
func parseSubject(s string) (*pkix.Name, error) {
	var n pkix.Name
	places := map[string]*[]string{
		"O": &n.Organization, "OU": &n.OrganizationalUnit, "C": &n.Country, "ST": &n.Province, "L": &n.Locality,
		"STREET": &n.StreetAddress, "POSTALCODE": &n.PostalCode,
	}
	for _, part := range splitSubject(s) {
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		place, known := places[key]
		switch {
		case !ok || value == "":
			return nil, errors.New("--subject is not a list such as 'CN=kiosk 7,O=Bank Contoh,C=ID'")
		case key == "CN":
			n.CommonName = value
		case key == "SERIALNUMBER":
			n.SerialNumber = value
		case known:
			*place = append(*place, value)
		default:
			return nil, fmt.Errorf("--subject has the unknown attribute %s; known are CN, O, OU, C, ST, L, STREET, POSTALCODE and SERIALNUMBER", key)
		}
	}
	if n.CommonName == "" {
		return nil, errors.New("--subject has no CN; say what the certificate is for, such as --subject 'CN=kiosk 7,O=Bank Contoh,C=ID'")
	}
	return &n, nil
}

func splitSubject(s string) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == ',':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	return append(parts, b.String())
}
