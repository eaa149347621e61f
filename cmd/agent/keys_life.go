package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gardu/internal/admin"
	"gardu/internal/keystore"
)

// renewed is what rotate, retire and destroy say they did.
type renewed struct {
	Key         string            `json:"key"`
	Generation  int               `json:"generation"`
	State       keystore.GenState `json:"state"`
	Fingerprint string            `json:"fingerprint,omitempty"`
	KCV         string            `json:"kcv,omitempty"`
	Agent       string            `json:"agent"` // what the running agent does with it
	Next        string            `json:"next,omitempty"`
}

func (a *app) keysRotateCommand() *cobra.Command {
	var o acting
	var activate, back bool
	var kind string
	cmd := &cobra.Command{
		Use: "rotate NAME [--activate | --back]", Short: "Make the next generation of a key, and put it to use",
		Long: `rotate makes the next generation of a key in the token, of the same kind, and tests it.

A key that wraps the journal's keys is put to use at once, and the journal moves to
it. A signing key stays pending: its provider must get the new public key first.
'rotate NAME --activate' then puts it to use, and '--back' takes that back. What an
older generation encrypted or wrapped is opened by that one until it is retired.

A key that a provider hands out is imported: 'gardu keys import NAME KIND --next'.`,
		Example: "  gardu keys rotate journal-kek\n  gardu keys rotate finpay-sign && gardu keys show finpay-sign@g2\n  gardu keys rotate finpay-sign --activate",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if activate && back {
				return withCode(exitUsage, errors.New("--activate and --back are opposites; give one"))
			}
			if kind != "" {
				if err := knownKind(kind); err != nil {
					return err
				}
			}
			base := keystore.ParseName(strings.TrimPrefix(args[0], "pkcs11:object=")).Base
			return a.withCeremony(c.Context(), &o, func(t *ceremony) error {
				var done *renewed
				var err error
				switch {
				case activate:
					done, err = a.activate(c.Context(), t, base, &o)
				case back:
					done, err = a.takeBack(c.Context(), t, base, &o)
				default:
					done, err = t.rotate(c.Context(), base, keystore.Kind(kind))
				}
				if err != nil {
					return err
				}
				return a.printRenewed(done)
			})
		},
	}
	cmd.Flags().BoolVar(&activate, "activate", false, "put the pending generation to use")
	cmd.Flags().BoolVar(&back, "back", false, "make the newest generation pending again, so that the one before is used")
	cmd.Flags().StringVar(&kind, "kind", "", "`KIND` of the new generation where it is not to be that of the old one")
	o.flags(cmd)
	return cmd
}

func (a *app) printRenewed(r *renewed) error {
	if a.json {
		return a.printJSON(r)
	}
	what := fmt.Sprintf("generation %d", r.Generation)
	if r.Generation == 0 { // a public half or a certificate
		what = "it"
	}
	_, err := fmt.Fprintf(a.out, "%s: %s is %s", r.Key, what, r.State)
	switch {
	case err != nil:
	case r.Fingerprint != "":
		_, err = fmt.Fprintf(a.out, ", fingerprint %s\n", r.Fingerprint)
	case r.KCV != "":
		_, err = fmt.Fprintf(a.out, ", check value %s\n", r.KCV)
	default:
		_, err = fmt.Fprintln(a.out)
	}
	if err == nil && r.Agent != "" {
		_, err = fmt.Fprintf(a.out, "agent: %s\n", r.Agent)
	}
	if err == nil && r.Next != "" {
		_, err = fmt.Fprintf(a.out, "next: %s\n", r.Next)
	}
	return err
}

// generations are the keys of a name, oldest first.
func (t *ceremony) generations(ctx context.Context, base string) ([]*keyRow, error) {
	all, err := t.rows(ctx)
	if err != nil {
		return nil, err
	}
	found, err := matching(all, keystore.URI{Object: base}.String())
	if err != nil {
		return nil, err
	}
	for _, k := range found {
		if k.Class != found[0].Class {
			return nil, fmt.Errorf("%s is the name of a private and of a secret key; a name with generations belongs to one kind of key", base)
		}
	}
	return found, nil
}

func inState(found []*keyRow, s keystore.GenState) *keyRow {
	i := slices.IndexFunc(found, func(k *keyRow) bool { return k.State == s })
	if i < 0 {
		return nil
	}
	return found[i]
}

// rotate makes the next generation.
func (t *ceremony) rotate(ctx context.Context, base string, kind keystore.Kind) (*renewed, error) {
	found, err := t.generations(ctx, base)
	if err != nil {
		return nil, err
	}
	active := inState(found, keystore.StateActive)
	if active == nil {
		active = found[len(found)-1]
	}
	r := t.set.roleOf(base)
	if w, ok := t.set.wrappedRole(base); ok && active.Class == classWrapped {
		return nil, fmt.Errorf("%s is kept outside the token, where a key has no generations: when its provider has handed out the next one, remove %s and import that with 'gardu keys import %s %s --file FILE --remove'",
			base, w.File, base, r.kind)
	}
	if r.given && active.Attributes["CKA_LOCAL"] != "yes" {
		return nil, fmt.Errorf("%s was handed out by its provider, so its next generation is too: ask for it, then 'gardu keys import %s %s --next'", base, base, r.kind)
	}
	if u, err := keystore.ParseURI(r.uri); err == nil && (len(u.ID) > 0 || keystore.ParseName(u.Object).Given) {
		return nil, fmt.Errorf("the configuration names one generation or id of %s (%s), so a new one would never be used; name it there as object=%s first", base, r.uri, base)
	}
	n, err := t.next(ctx, base)
	if err != nil {
		return nil, err
	}
	if have := kindOf(&active.KeyInfo); kind != "" && !sameFamily(have, kind) {
		return nil, withCode(exitUsage, fmt.Errorf("%s is %s, and its next generation cannot be %s: it has to do the same work", base, have, kind))
	}
	if kind == "" {
		if kind = kindOf(&active.KeyInfo); !slices.Contains(keystore.Kinds(), kind) {
			kind = r.kind
		}
	}
	// Others must know a new signing key before it is used.
	n.Pending = active.Class == "private" && active.Attributes["CKA_SIGN"] == "yes"
	attrs := map[string]string{"kind": string(kind), "before": active.Name}
	info, err := t.act(ctx, "key.rotate", n.String(), attrs, func() (keystore.KeyInfo, error) {
		info, err := t.keys.Generate(ctx, keystore.NewKey{Label: n.Label(), Kind: kind})
		if err != nil {
			return info, err
		}
		rep, err := t.keys.Verify(ctx, info.Class, info.Label)
		if err == nil && !rep.OK {
			err = fmt.Errorf("the new key was destroyed again, since it is not what it must be: %s", firstBad(&rep))
		}
		if err != nil {
			return info, errors.Join(err, t.keys.Destroy(ctx, info.URI()))
		}
		return info, nil
	})
	if err != nil {
		return nil, err
	}
	done := &renewed{Key: base, Generation: n.Number, State: keystore.StateActive, Fingerprint: info.Fingerprint(), KCV: info.KCV}
	if n.Pending {
		done.State = keystore.StatePending
		if r.kind == keystore.KindECP256 {
			done.Next = fmt.Sprintf("have a certificate issued for what 'gardu keys csr %s --subject CN=…' prints; at the agreed time 'gardu keys rotate %s --activate', put it in the place of the old one, and restart gardu", n.String(), base)
			return done, nil
		}
		done.Next = fmt.Sprintf("give what 'gardu keys show %s' prints to whoever checks its signatures; when they have it, 'gardu keys rotate %s --activate'", n.String(), base)
		return done, nil
	}
	done.Agent = t.tellAgent(ctx)
	done.Next = fmt.Sprintf("'gardu keys retire %s' when nothing needs the old one any more", base)
	return done, nil
}

func firstBad(r *keystore.Report) string {
	for _, f := range r.Findings {
		if !f.OK {
			return f.What + ": " + f.Detail
		}
	}
	return "no finding"
}

// activate puts the pending generation to use.
func (a *app) activate(ctx context.Context, t *ceremony, base string, o *acting) (*renewed, error) {
	found, err := t.generations(ctx, base)
	if err != nil {
		return nil, err
	}
	k := inState(found, keystore.StatePending)
	if k == nil {
		return nil, fmt.Errorf("%s has no pending generation; make one with 'gardu keys rotate %s'", base, base)
	}
	rep, err := t.keys.Verify(ctx, k.Class, k.Label)
	if err != nil {
		return nil, tokenError(err)
	}
	if !rep.OK {
		return nil, fmt.Errorf("%s is not put to use: %s; destroy it with 'gardu keys destroy %s' and make another", k.Name, firstBad(&rep), k.Name)
	}
	if err := a.confirmAct(o, fmt.Sprintf("From now on %s is used (check %s). Whoever checks what it makes must have it already; if not, their calls fail until 'gardu keys rotate %s --back'.", k.Name, k.check(), base), "yes"); err != nil {
		return nil, err
	}
	n := keystore.ParseName(k.Label)
	n.Pending = false
	next := fmt.Sprintf("'gardu keys retire %s' after the overlap that the provider agreed to", base)
	if t.set.roleOf(base).kind == keystore.KindECP256 {
		next = "put its certificate in the place of the old one and restart gardu, which uses the old one until then; and " + next
	}
	return t.relabel(ctx, "key.activate", k, n, keystore.StateActive, next)
}

// takeBack makes the newest generation pending again.
func (a *app) takeBack(ctx context.Context, t *ceremony, base string, o *acting) (*renewed, error) {
	found, err := t.generations(ctx, base)
	if err != nil {
		return nil, err
	}
	k, before := inState(found, keystore.StateActive), inState(found, keystore.StateRetiring)
	switch {
	case k == nil || before == nil:
		return nil, fmt.Errorf("%s has no generation before the active one to go back to", base)
	case inState(found, keystore.StatePending) != nil:
		return nil, fmt.Errorf("%s has a pending generation already; destroy that one first", base)
	}
	if err := a.confirmAct(o, fmt.Sprintf("From now on the generation before %s is used again.", k.Name), "yes"); err != nil {
		return nil, err
	}
	n := keystore.ParseName(k.Label)
	n.Pending, n.Given = true, true
	return t.relabel(ctx, "key.deactivate", k, n, keystore.StatePending, "")
}

func (t *ceremony) relabel(ctx context.Context, act string, k *keyRow, n keystore.Name, s keystore.GenState, next string) (*renewed, error) {
	_, err := t.act(ctx, act, k.Name, nil, func() (keystore.KeyInfo, error) {
		return t.keys.Rename(ctx, k.Class, k.Label, n.Label())
	})
	if err != nil {
		return nil, err
	}
	return &renewed{
		Key: k.Base, Generation: k.Generation, State: s, Fingerprint: k.Fingerprint, KCV: k.KCV, Agent: t.tellAgent(ctx), Next: next,
	}, nil
}

// tellAgent has a running agent look for new generations, and says what it does.
func (t *ceremony) tellAgent(ctx context.Context) string {
	var now keysInUse
	err := admin.Ask(ctx, t.set.Admin.Socket, verbKeys, nil, &now)
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return "none is running; the next start uses it"
	case err != nil:
		return fmt.Sprintf("it could not be told (%v) and looks for itself within half a minute; restart it if 'gardu check' then shows another generation", err)
	}
	return now.say()
}

func (a *app) keysRetireCommand() *cobra.Command {
	var o acting
	cmd := &cobra.Command{
		Use: "retire NAME", Short: "Destroy the generations of a key that a newer one has replaced",
		Long: `retire ends the overlap: it destroys each generation of NAME that is older than the one
in use, or the one generation that NAME@g1 and so on names. It refuses as long as the
journal holds anything under one of them.`,
		Example: "  gardu keys retire finpay-sign",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withCeremony(c.Context(), &o, func(t *ceremony) error {
				all, err := t.rows(c.Context())
				if err != nil {
					return err
				}
				found, err := matching(all, args[0])
				if err != nil {
					return err
				}
				old := slices.DeleteFunc(slices.Clone(found), func(k *keyRow) bool { return k.State != keystore.StateRetiring })
				if p := inState(found, keystore.StatePending); len(old) == 0 && p != nil {
					return fmt.Errorf("%s has nothing to retire: %s is not in use yet; put it to use with 'gardu keys rotate %s --activate' first", args[0], p.Name, p.Base)
				}
				if len(old) == 0 {
					return fmt.Errorf("%s has nothing to retire: it is %s; make its successor with 'gardu keys rotate %s' first", args[0], found[len(found)-1].State, found[0].Base)
				}
				return a.destroy(c.Context(), t, old, &o, "key.retire")
			})
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) keysDestroyCommand() *cobra.Command {
	var o acting
	cmd := &cobra.Command{
		Use: "destroy NAME", Short: "Destroy one key, whatever its state",
		Long: `destroy takes one key out of the token for ever. What was encrypted under it cannot be
read any more, and its role stops working if it is the one in use. It refuses as long
as the journal holds anything under the key. Of several generations NAME@g2 names one;
a public half or certificate that stands alone is named by its pkcs11: URI with type=.`,
		Example: "  gardu keys destroy finpay-sign@g3\n  gardu keys destroy 'pkcs11:object=old;type=public'",
		Args:    usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withCeremony(c.Context(), &o, func(t *ceremony) error {
				all, err := t.rows(c.Context())
				if err != nil {
					return err
				}
				found, err := matching(all, args[0])
				if err != nil {
					return err
				}
				if len(found) > 1 {
					var names []string
					for _, k := range found {
						names = append(names, k.Name+" ("+string(k.State)+")")
					}
					return withCode(exitUsage, fmt.Errorf("%s means %d keys: %s; name one, or its id= in a pkcs11: URI", args[0], len(found), strings.Join(names, ", ")))
				}
				return a.destroy(c.Context(), t, found, &o, "key.destroy")
			})
		},
	}
	o.flags(cmd)
	return cmd
}

// destroy destroys keys after making sure that nothing needs them, asking, and
// making sure again.
func (a *app) destroy(ctx context.Context, t *ceremony, doomed []*keyRow, o *acting, act string) error {
	if err := t.alone(ctx, doomed[0]); err != nil {
		return err
	}
	var question strings.Builder
	question.WriteString("This cannot be undone. To be destroyed:\n")
	for _, k := range doomed {
		if err := t.needed(ctx, k); err != nil {
			return err
		}
		fmt.Fprintf(&question, "  %s, %s %s bits, check %s", k.Name, k.Type, bits(k.Bits), dash(k.check()))
		if k.State == keystore.StateActive && k.Role != "" {
			fmt.Fprintf(&question, " - IN USE as %s, which stops working", k.Role)
		}
		question.WriteByte('\n')
	}
	if err := a.confirmAct(o, strings.TrimSuffix(question.String(), "\n"), doomed[0].Base); err != nil {
		return err
	}
	done := []renewed{}
	for _, k := range doomed {
		if err := t.needed(ctx, k); err != nil {
			return err
		}
		if _, err := t.act(ctx, act, k.Name, map[string]string{"state": string(k.State)}, func() (keystore.KeyInfo, error) {
			return k.KeyInfo, t.keys.Destroy(ctx, k.uri())
		}); err != nil {
			return err
		}
		done = append(done, renewed{Key: k.Base, Generation: k.Generation, State: "destroyed", Fingerprint: k.Fingerprint, KCV: k.KCV})
	}
	agent := t.tellAgent(ctx)
	for i := range done {
		done[i].Agent = agent
	}
	if a.json {
		return a.printJSON(done)
	}
	for i := range done {
		if i < len(done)-1 {
			done[i].Agent = ""
		}
		if err := a.printRenewed(&done[i]); err != nil {
			return err
		}
	}
	return nil
}
