package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gardu/internal/keystore"
)

// role is a key that the configuration names, and what it is for.
type role struct {
	name  string        // of the role, as in docs/architecture.md
	uri   string        // as configured
	kind  keystore.Kind // what init makes, or what is to be imported
	given bool          // a provider hands it out: it is imported, not made
}

func (s *settings) roles() []role {
	all := []role{
		{"journal-kek", s.Journal.KEK, keystore.KindAES256, false},
		{"journal-pin-kek", s.Journal.PINKEK, keystore.KindAES256, false},
	}
	for _, p := range s.providers {
		all = append(all, p.roles()...)
	}
	return all
}

// standing is what init and check say of one role.
type standing struct {
	Role  string `json:"role"`
	Key   string `json:"key"`
	State string `json:"state"` // present, made, missing
	Next  string `json:"next,omitempty"`
}

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Make the keys in the token that the configuration names and nobody has to hand out",
		Long: `init makes, in the token, each configured key that is not there yet and that belongs to
this kiosk alone: the journal's keys and the signing keys. Secrets that a provider
hands out are named with the command that imports them. Running it again changes
nothing that is there.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				keys, err := t.keys.List(c.Context())
				if err != nil {
					return withCode(exitToken, err)
				}
				var all []standing
				for _, r := range t.set.roles() {
					u, err := keystore.ParseURI(r.uri)
					if err != nil {
						return err
					}
					st := standing{Role: r.name, Key: u.Object, State: "present"}
					switch {
					case hasKey(keys, u):
					case r.given:
						st.State = "missing"
						st.Next = fmt.Sprintf("gardu keys import %s %s --file FILE --remove", u.Object, r.kind)
					default:
						if _, err := t.act(c.Context(), "key.generate", u.Object, func() (keystore.KeyInfo, error) {
							return t.keys.Generate(c.Context(), keystore.NewKey{Label: u.Object, ID: u.ID, Kind: r.kind})
						}); err != nil {
							return err
						}
						st.State = "made"
						if r.kind == keystore.KindRSA2048 {
							st.Next = fmt.Sprintf("give the provider what 'gardu keys show %s' prints", r.uri)
						}
					}
					all = append(all, st)
				}
				if a.json {
					return a.printJSON(all)
				}
				return printStandings(a.out, all)
			})
		},
	}
}

func hasKey(keys []keystore.KeyInfo, u keystore.URI) bool {
	for i := range keys {
		k := &keys[i]
		if k.Class == "public" || k.Class == "cert" || k.Label != u.Object {
			continue
		}
		if len(u.ID) == 0 || string(u.ID) == string(k.ID) {
			return true
		}
	}
	return false
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
