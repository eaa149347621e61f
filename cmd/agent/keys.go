package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/audit"
	"gardu/internal/keystore"
)

func (a *app) keysCommand() *cobra.Command {
	return group("keys", "Make, import, renew and look at the keys in the token",
		a.keysListCommand(), a.keysShowCommand(), a.keysVerifyCommand(),
		a.keysGenerateCommand(), a.keysImportCommand(), a.keysCSRCommand(),
		a.keysRotateCommand(), a.keysRetireCommand(), a.keysDestroyCommand(), a.keysUnlatchCommand())
}

// ceremony is what a command on the token gets.
type ceremony struct {
	set     *settings
	keys    *keystore.Store
	audit   *audit.Trail
	witness string // who else was there
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
	return f(&ceremony{set: set, keys: keys, audit: rec})
}

// acting is what the commands that change the token share.
type acting struct {
	yes     bool
	witness string
}

func (o *acting) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	c.Flags().StringVar(&o.witness, "witness", "", "`NAME` of the second person, for the audit record")
}

// withCeremony is withToken for what changes the token: one at a time, so that two
// people do not make the same generation twice.
func (a *app) withCeremony(ctx context.Context, o *acting, f func(*ceremony) error) error {
	return a.withToken(ctx, func(c *ceremony) error {
		c.witness = o.witness
		lock, err := os.OpenFile(filepath.Join(filepath.Dir(c.set.Token.Latch), "ceremony.lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return fmt.Errorf("lock the ceremony: %w; the folder of token.latch must be writable for this user", err)
		}
		defer func() { _ = lock.Close() }()
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return errors.New("another gardu command is changing the token's keys; let it finish first")
		}
		return f(c)
	})
}

// confirmAct asks a person before what cannot be undone. No answer is no.
func (a *app) confirmAct(o *acting, question, word string) error {
	if o.yes {
		return nil
	}
	_, _ = fmt.Fprintf(a.err, "%s\nType %s to go on: ", question, word)
	answer, err := a.readLine()
	if err != nil {
		return err
	}
	if answer != word {
		return fmt.Errorf("not confirmed, so nothing was done; type %s when asked, or give --yes", word)
	}
	return nil
}

// act does something to the token with an audit record before and after it.
func (c *ceremony) act(ctx context.Context, what, object string, attrs map[string]string, f func() (keystore.KeyInfo, error)) (keystore.KeyInfo, error) {
	who := whoami()
	begin := maps.Clone(attrs)
	if begin == nil {
		begin = map[string]string{}
	}
	if c.witness != "" {
		begin["witness"] = c.witness
	}
	if err := c.record(ctx, what+".begin", object, who, begin); err != nil {
		return keystore.KeyInfo{}, fmt.Errorf("audit did not take the record; nothing was done: %w", err)
	}
	info, err := f()
	end := map[string]string{"result": "done"}
	if info.KCV != "" {
		end["check_value"] = info.KCV
	}
	if p := info.Fingerprint(); p != "" {
		end["fingerprint"] = p
	}
	if err != nil {
		end = map[string]string{"result": "failed", "error": err.Error()}
	}
	if c.witness != "" {
		end["witness"] = c.witness
	}
	if rerr := c.record(ctx, what+".end", object, who, end); rerr != nil {
		err = errors.Join(err, fmt.Errorf("audit did not take the record after it: %w", rerr))
	}
	return info, tokenError(err)
}

// tokenError gives an error of the token its exit code. What a person gave is not
// the token's fault.
func tokenError(err error) error {
	var coded *codeError
	switch {
	case err == nil, keystore.ClassOf(err) == keystore.ClassNone, errors.As(err, &coded):
		return err
	case errors.Is(err, keystore.ErrKeyGiven), errors.Is(err, keystore.ErrKeyWeak), errors.Is(err, keystore.ErrKeyExists):
		return withCode(exitFailed, err)
	}
	return withCode(exitToken, err)
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List every key of the token with its attributes and its place in its life", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				all, err := t.rows(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(all)
				}
				w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
				_, _ = fmt.Fprintln(w, "NAME\tCLASS\tTYPE\tBITS\tCHECK VALUE\tSAFE\tSTATE\tROLE\tID")
				for i := range all {
					k := &all[i]
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Label, k.Class, k.Type, bits(k.Bits), dash(k.check()), safety(&k.KeyInfo),
						dash(string(k.State)), dash(k.Role), dash(hex.EncodeToString(k.ID)))
				}
				return w.Flush()
			})
		},
	}
}

func bits(n int) string {
	if n == 0 {
		return "?"
	}
	return strconv.Itoa(n)
}

// safety is one word on whether the key's value can leave the token, from the
// attributes that were read back one by one.
func safety(k *keystore.KeyInfo) string {
	at := k.Attributes
	switch {
	case k.Class == "public" || k.Class == "cert":
		return "public"
	case k.Class == classWrapped:
		return "IN MEMORY"
	case at["CKA_SENSITIVE"] != "yes" || at["CKA_EXTRACTABLE"] != "no":
		return "READABLE"
	case at["CKA_NEVER_EXTRACTABLE"] == "yes" && at["CKA_LOCAL"] == "yes":
		return "made in token"
	case at["CKA_NEVER_EXTRACTABLE"] == "yes" && at["CKA_ALWAYS_SENSITIVE"] == "yes":
		return "origin not told" // NSS, also of what it has made itself
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
		Use: "show NAME", Short: "Show one key; of a signing or transport key its public half as PEM, for the provider",
		Long: `show prints the public half of a key pair as PEM, for the provider. A secret key has no
public half, and nothing prints its value: show then says what the key is, with its
check value. NAME is the key's name, with @g2 and so on one generation of it, or a
pkcs11: URI.`,
		Example: "  gardu keys show finpay-sign > finpay-sign.pem\n  gardu keys show finpay-sign@g2 --json",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				all, err := t.rows(c.Context())
				if err != nil {
					return err
				}
				k, err := one(all, args[0])
				if err != nil {
					return err
				}
				out := struct {
					*keyRow
					PublicKey string `json:"public_key,omitempty"`
				}{keyRow: k}
				if len(k.Public) > 0 {
					out.PublicKey = publicPEM(k.Public)
				}
				if a.json {
					return a.printJSON(out)
				}
				if out.PublicKey != "" {
					_, err = io.WriteString(a.out, out.PublicKey)
					return err
				}
				_, err = fmt.Fprintf(a.out, "%s is a secret key (%s, %s bits, %s): it has no public half, and nothing shows its value.\n"+
					"Check value %s, generation %d, %s.\n", k.Name, k.Type, bits(k.Bits), safety(&k.KeyInfo), dash(k.KCV), k.Generation, k.State)
				return err
			})
		},
	}
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
			if err := unlatch(c.Context(), set); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]bool{"unlatched": true})
			}
			_, err = fmt.Fprintln(a.out, "The PIN will be tried once more.")
			return err
		},
	}
}

// unlatch opens the wrong-PIN latch, with an audit record before and after it.
func unlatch(ctx context.Context, set *settings) (err error) {
	if err := set.makeFolders(); err != nil {
		return err
	}
	rec, err := audit.Open(ctx, audit.Options{Path: set.Audit.Path, Who: whoami(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }()
	c := &ceremony{set: set, audit: rec}
	_, err = c.act(ctx, "token.unlatch", set.Token.Token, nil, func() (keystore.KeyInfo, error) {
		return keystore.KeyInfo{}, keystore.Unlatch(ctx, set.Token.Latch)
	})
	return err
}
