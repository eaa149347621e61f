package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"gardu/internal/keystore"
)

// role is a key that the configuration names, and what it is for.
type role struct {
	name      string             // of the role, as in docs/architecture.md
	uri       string             // as configured
	kind      keystore.Kind      // what init makes, or what is to be imported
	given     bool               // a provider hands it out: it is imported, not made
	mechanism keystore.Mechanism // as configured; empty for what the token lists
}

func (s *settings) roles() []role {
	all := []role{
		{"journal-kek", s.Journal.KEK, wrappingKind(s.Journal.KEK), false, s.Journal.KEKMechanism},
		{"journal-pin-kek", s.Journal.PINKEK, wrappingKind(s.Journal.PINKEK), false, s.Journal.PINKEKMechanism},
	}
	for _, p := range s.providers {
		all = append(all, p.roles()...)
	}
	return append(all, s.Update.roles("update")...)
}

// wrappingKind is what a key that wraps is made as: RSA where its URI says
// type=private, for tokens without AES-GCM.
func wrappingKind(uri string) keystore.Kind {
	if u, err := keystore.ParseURI(uri); err == nil && u.Type == "private" {
		return keystore.KindRSA3072Unwrap
	}
	return keystore.KindAES256
}

// wrappers are the token's keys under which the configuration keeps other keys.
func (s *settings) wrappers() []role {
	var all []role
	for _, w := range s.Wrapped {
		r := role{name: "wrapping", uri: w.By, kind: wrappingKind(w.By)}
		if !slices.ContainsFunc(all, func(o role) bool { return o.uri == r.uri }) {
			all = append(all, r)
		}
	}
	return all
}

// standing is what init says of one role.
type standing struct {
	Role  string `json:"role"`
	Key   string `json:"key"`
	State string `json:"state"` // present, made, missing, wrong
	Next  string `json:"next,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	var o acting
	cmd := &cobra.Command{
		Use: "init", Short: "Make the keys in the token that the configuration names and nobody has to hand out",
		Long: `init makes, in the token, each configured key that is not there yet and that belongs to
this kiosk alone: the journal's keys and the signing keys. Secrets that a provider
hands out are named with the command that imports them. Running it again changes
nothing that is there. It asks before it makes a new key for a journal that is there:
what was sealed under the old one stays unreadable.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCeremony(c.Context(), &o, func(t *ceremony) error { return a.initialise(c.Context(), t, &o) })
		},
	}
	o.flags(cmd)
	return cmd
}

func (a *app) initialise(ctx context.Context, t *ceremony, o *acting) error {
	rows, err := t.rows(ctx)
	if err != nil {
		return err
	}
	var all []standing
	wrong := 0
	for _, r := range append(t.set.roles(), t.set.wrappers()...) {
		st, err := a.settle(ctx, t, rows, r, o)
		if err != nil {
			return err
		}
		if st.State == "wrong" {
			wrong++
		}
		all = append(all, *st)
	}
	if a.json {
		err = a.printJSON(all)
	} else {
		err = printStandings(a.out, all)
	}
	if err == nil && wrong > 0 {
		err = fmt.Errorf("the key of %d of %d roles is of another kind than the role needs; the lines above say which", wrong, len(all))
	}
	return err
}

// settle looks whether a role has its key, and makes it where nobody else must.
func (a *app) settle(ctx context.Context, t *ceremony, rows []keyRow, r role, o *acting) (*standing, error) {
	u, err := keystore.ParseURI(r.uri)
	if err != nil {
		return nil, err
	}
	st := &standing{Role: r.name, Key: u.Object, State: "present"}
	w, outside := t.set.wrappedRole(u.Object)
	k, err := one(rows, r.uri)
	switch {
	case err == nil && !(outside && k.KCV == ""):
		if have := kindOf(&k.KeyInfo); !fits(r.kind, &k.KeyInfo) {
			st.State = "wrong"
			st.Next = fmt.Sprintf("it is %s, and the role needs %s: name another key in the configuration, or 'gardu keys destroy %s' and run init again", have, r.kind, u.Object)
		}
		return st, nil
	case err != nil:
		if found, _ := matching(rows, r.uri); len(found) > 1 {
			return nil, err
		}
	}
	// A key of the name but of another class than type= says is not the role's.
	if i := slices.IndexFunc(rows, func(k keyRow) bool { return k.own() && u.Object != "" && k.Base == keystore.ParseName(u.Object).Base }); i >= 0 && len(u.ID) == 0 {
		st.State = "wrong"
		st.Next = fmt.Sprintf("the token holds %s as %s, and the role needs %s: name another key in the configuration", rows[i].Name, kindOf(&rows[i].KeyInfo), r.kind)
		return st, nil
	}
	switch {
	case outside:
		st.State = "missing"
		st.Next = fmt.Sprintf("gardu keys import %s %s --file FILE --remove (kept outside the token, in %s)", u.Object, r.kind, w.File)
		return st, nil
	case r.given:
		st.State = "missing"
		st.Next = fmt.Sprintf("gardu keys import %s %s --wrapped FILE (encrypted for a transport key, see docs/keys.md), or --file FILE --remove", u.Object, r.kind)
		return st, nil
	}
	if err := a.askForJournal(t, r, o); err != nil {
		return nil, err
	}
	if _, err := t.act(ctx, "key.generate", u.Object, map[string]string{"kind": string(r.kind), "role": r.name}, func() (keystore.KeyInfo, error) {
		return t.keys.Generate(ctx, keystore.NewKey{Label: u.Object, ID: u.ID, Kind: r.kind})
	}); err != nil {
		return nil, err
	}
	st.State = "made"
	switch {
	case r.kind == keystore.KindRSA2048:
		st.Next = fmt.Sprintf("give the provider what 'gardu keys show %s' prints", u.Object)
	case r.kind == keystore.KindECP256:
		st.Next = fmt.Sprintf("have a certificate made of what 'gardu keys csr %s --subject CN=…' prints", u.Object)
	}
	return st, nil
}

// askForJournal asks before a new key is made in the place of one that a journal
// was sealed under: most likely this is another token.
func (a *app) askForJournal(t *ceremony, r role, o *acting) error {
	if r.uri != t.set.Journal.KEK {
		return nil
	}
	if _, err := os.Stat(t.set.Journal.Path); err != nil {
		return nil //nolint:nilerr // no journal, nothing to lose
	}
	return a.confirmAct(o, fmt.Sprintf("There is a journal, %s, and this token does not hold the key that opens it. Is it the right token?\n"+
		"A new key does not open that journal: what waits in it would have to be settled by hand.", t.set.Journal.Path), "new key")
}

func printStandings(w io.Writer, all []standing) error {
	var errs []error
	for _, s := range all {
		_, err := fmt.Fprintf(w, "%-8s %-20s %s\n", s.State, s.Role, s.Key)
		errs = append(errs, err)
		if s.Next != "" {
			_, err = fmt.Fprintf(w, "         next: %s\n", s.Next)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
