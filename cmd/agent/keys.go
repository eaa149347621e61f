package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gardu/internal/audit"
	"gardu/internal/keystore"
	"gardu/internal/secret"
)

func (a *app) keysCommand() *cobra.Command {
	return group("keys", "List, make and import the keys in the token",
		a.keysListCommand(), a.keysShowCommand(), a.keysGenerateCommand(), a.keysImportCommand(), a.keysUnlatchCommand())
}

// ceremony is what a command on the token gets.
type ceremony struct {
	set   *settings
	keys  *keystore.Store
	audit *audit.Trail
}

// withToken opens configuration, token and audit record for one command. An error
// of the token ends the program with its own exit code.
func (a *app) withToken(ctx context.Context, f func(*ceremony) error) (err error) {
	set, err := loadSettings(a.config)
	if err != nil {
		return err
	}
	if err := set.makeFolders(); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelError}))
	rec, err := audit.Open(ctx, audit.Options{Path: set.Audit.Path, Who: whoami(), Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }()
	keys, err := set.openKeystore(log)
	if err != nil {
		return withCode(exitToken, err)
	}
	defer func() { _ = keys.Close() }()
	if err := keys.Ready(ctx); err != nil {
		return withCode(exitToken, err)
	}
	return f(&ceremony{set, keys, rec})
}

// act does something to the token that cannot be undone, with an audit record
// before and after it.
func (c *ceremony) act(ctx context.Context, what, object string, f func() (keystore.KeyInfo, error)) (keystore.KeyInfo, error) {
	who := whoami()
	if err := c.record(ctx, what+".begin", object, who, nil); err != nil {
		return keystore.KeyInfo{}, fmt.Errorf("audit did not take the record; nothing was done: %w", err)
	}
	info, err := f()
	attrs := map[string]string{"result": "done", "check_value": info.KCV}
	if err != nil {
		attrs = map[string]string{"result": "failed"}
	}
	if rerr := c.record(ctx, what+".end", object, who, attrs); rerr != nil {
		err = errors.Join(err, fmt.Errorf("audit did not take the record after it: %w", rerr))
	}
	if err != nil && keystore.ClassOf(err) != keystore.ClassNone {
		err = withCode(exitToken, err)
	}
	return info, err
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List every key of the token with its attributes", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				all, err := t.keys.List(c.Context())
				if err != nil {
					return withCode(exitToken, err)
				}
				if a.json {
					return a.printJSON(all)
				}
				w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
				_, _ = fmt.Fprintln(w, "NAME\tCLASS\tTYPE\tBITS\tCHECK VALUE\tSAFE\tID")
				for i := range all {
					k := &all[i]
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", k.Label, k.Class, k.Type, k.Bits, dash(k.KCV), safety(k), dash(hex.EncodeToString(k.ID)))
				}
				return w.Flush()
			})
		},
	}
}

// safety is one word on whether the key's value can leave the token, from the
// attributes that were read back one by one.
func safety(k *keystore.KeyInfo) string {
	at := k.Attributes
	switch {
	case k.Class == "public" || k.Class == "cert":
		return "public"
	case at["CKA_SENSITIVE"] != "yes" || at["CKA_EXTRACTABLE"] != "no":
		return "READABLE"
	case at["CKA_NEVER_EXTRACTABLE"] == "yes" && at["CKA_LOCAL"] == "yes":
		return "made in token"
	}
	return "imported"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) keysShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show URI", Short: "Print the public half of a signing key as PEM, for the provider", Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				s, err := t.keys.Signer(args[0])
				if err != nil {
					return withCode(exitUsage, err)
				}
				pub, err := s.PublicKey(c.Context())
				if err != nil {
					return withCode(exitToken, err)
				}
				text, err := publicPEM(pub)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]string{"public_key": text})
				}
				_, err = io.WriteString(a.out, text)
				return err
			})
		},
	}
}

const kindsHelp = `KIND is one of
  rsa-2048, rsa-3072, rsa-4096   a signing key (a provider's snap-sign)
  hmac-sha512                    a provider's client secret (snap-secret)
  aes-192                        the prepaid envelope
  aes-256                        a key that wraps the journal's keys
  rsa-2048-decrypt (3072, 4096)  the same, for tokens without AES-GCM`

func (a *app) keysGenerateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "generate NAME KIND", Short: "Make a key in the token; its value never leaves it",
		Long:    "generate makes a key in the token: sensitive, not extractable, for one purpose.\n\n" + kindsHelp,
		Example: "  gardu keys generate finpay-sign rsa-2048",
		Args:    usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				info, err := t.act(c.Context(), "key.generate", args[0], func() (keystore.KeyInfo, error) {
					return t.keys.Generate(c.Context(), keystore.NewKey{Label: args[0], Kind: keystore.Kind(args[1])})
				})
				if err != nil {
					return err
				}
				return a.report("made", &info)
			})
		},
	}
}

func (a *app) keysImportCommand() *cobra.Command {
	var file, encoding string
	var remove bool
	cmd := &cobra.Command{
		Use: "import NAME KIND --file FILE", Short: "Put a secret that a provider handed out into the token",
		Long: `import reads a secret from a file ("-" is standard input), puts it into the token,
has the token use it once and compares the result. The secret is never taken from
the command line, which other users can read.

` + kindsHelp,
		Example: `  gardu keys import finpay-secret hmac-sha512 --file /run/secret.txt --remove
  gardu keys import prepaid-envelope aes-192 --file key.hex --encoding hex --remove`,
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			if file == "" {
				return withCode(exitUsage, errors.New("say where the secret is with --file FILE (or --file - for standard input)"))
			}
			value, err := a.readKey(file, encoding)
			if err != nil {
				return err
			}
			defer value.Wipe()
			err = a.withToken(c.Context(), func(t *ceremony) error {
				info, err := t.act(c.Context(), "key.import", args[0], func() (keystore.KeyInfo, error) {
					return t.keys.Import(c.Context(), keystore.NewKey{Label: args[0], Kind: keystore.Kind(args[1])}, value)
				})
				if err != nil {
					return err
				}
				return a.report("imported", &info)
			})
			if err != nil || file == "-" {
				return err
			}
			if !remove {
				_, _ = fmt.Fprintf(a.err, "gardu: %s still holds the secret in clear; remove it\n", file)
				return nil
			}
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("the key is in the token, but its file could not be removed: %w; remove it by hand", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "`FILE` with the secret")
	cmd.Flags().StringVar(&encoding, "encoding", "raw", "how the file is written: raw, text (one trailing newline goes), hex or base64")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove the file afterwards")
	return cmd
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

func (a *app) keysUnlatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unlatch", Short: "Let the token's PIN be tried again after it was refused",
		Long: `The token refused the PIN once, and it has not been tried since, because tokens lock.
unlatch allows one more try. Make sure first that the credential holds the right PIN.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			set, err := loadSettings(a.config)
			if err != nil {
				return err
			}
			if err := keystore.Unlatch(c.Context(), set.Token.Latch); err != nil {
				return withCode(exitToken, err)
			}
			if a.json {
				return a.printJSON(map[string]bool{"unlatched": true})
			}
			_, err = fmt.Fprintln(a.out, "The PIN will be tried once more.")
			return err
		},
	}
}

func (a *app) report(verb string, k *keystore.KeyInfo) error {
	if a.json {
		return a.printJSON(k)
	}
	_, err := fmt.Fprintf(a.out, "%s %s: %s, %d bits, check value %s, %s\n", strings.ToUpper(verb[:1])+verb[1:], k.Label, k.Type, k.Bits, dash(k.KCV), safety(k))
	return err
}
