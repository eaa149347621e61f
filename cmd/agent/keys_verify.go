package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"gardu/internal/keystore"
)

// judged is what verify says of one key.
type judged struct {
	Name     string             `json:"name"`
	Role     string             `json:"role,omitempty"`
	State    keystore.GenState  `json:"state,omitempty"`
	OK       bool               `json:"ok"`
	Key      *keystore.KeyInfo  `json:"key,omitempty"`
	Findings []keystore.Finding `json:"findings"`
}

func (j *judged) add(what string, ok bool, format string, args ...any) {
	j.Findings = append(j.Findings, keystore.Finding{What: what, OK: ok, Detail: fmt.Sprintf(format, args...)})
	j.OK = j.OK && ok
}

func (a *app) keysVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify [NAME...]", Short: "Hold each key against what it must be, and have it work once; a verdict each",
		Long: `verify reads each key's attributes back from the token, one by one, tries to read its
value, has it do its work once, computes its check value, and holds it against the
role that the configuration gives it. It changes nothing. Without names it looks at
every key of the token and every role. Exit code 1 where a key is not as it must be.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withToken(c.Context(), func(t *ceremony) error {
				all, err := t.verify(c.Context(), args)
				if err != nil {
					return err
				}
				bad := 0
				for i := range all {
					if !all[i].OK {
						bad++
					}
				}
				if a.json {
					err = a.printJSON(all)
				} else {
					err = a.printJudged(all)
				}
				if err == nil && bad > 0 {
					err = fmt.Errorf("%d of %d keys are not as they must be; each line that says BAD says why", bad, len(all))
				}
				return err
			})
		},
	}
}

func (a *app) printJudged(all []judged) error {
	for i := range all {
		j := &all[i]
		verdict := "good"
		if !j.OK {
			verdict = "BAD"
		}
		role := ""
		if j.Role != "" {
			role = ", " + j.Role
		}
		if _, err := fmt.Fprintf(a.out, "%-5s %s (%s%s)\n", verdict, j.Name, dash(string(j.State)), role); err != nil {
			return err
		}
		for _, f := range j.Findings {
			mark := "ok "
			if !f.OK {
				mark = "BAD"
			}
			if _, err := fmt.Fprintf(a.out, "      %s  %-16s %s\n", mark, f.What, f.Detail); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *ceremony) verify(ctx context.Context, names []string) ([]judged, error) {
	rows, err := t.rows(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []*keyRow
	for _, n := range names {
		found, err := matching(rows, n)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, found...)
	}
	if len(names) == 0 {
		for i := range rows {
			if rows[i].own() || rows[i].Class == classWrapped {
				chosen = append(chosen, &rows[i])
			}
		}
	}
	var all []judged
	for _, k := range chosen {
		j, err := t.judge(ctx, k)
		if err != nil {
			return nil, err
		}
		all = append(all, *j)
	}
	if len(names) > 0 {
		return all, nil
	}
	for _, r := range t.set.roles() {
		u, err := keystore.ParseURI(r.uri)
		if err != nil {
			return nil, err
		}
		if _, err := one(rows, r.uri); err != nil {
			j := judged{Name: u.Object, Role: r.name, OK: true}
			j.add("token", false, "%v; make it with 'gardu keys generate %s %s' or import it", err, u.Object, r.kind)
			all = append(all, j)
		}
	}
	return all, nil
}

func (t *ceremony) judge(ctx context.Context, k *keyRow) (*judged, error) {
	j := &judged{Name: k.Name, Role: k.Role, State: k.State, OK: true, Key: &k.KeyInfo}
	if k.Class == classWrapped {
		if _, err := t.keys.DescribeWrapped(ctx, k.Base); err != nil {
			j.add("wrapped", false, "%v", err)
			return j, nil
		}
		j.add("wrapped", true, "outside the token, as the configuration says: whoever reads gardu's memory has it")
		j.add("check value", true, "%s", k.KCV)
	} else {
		rep, err := t.keys.Verify(ctx, k.Class, k.Label)
		if err != nil {
			return nil, tokenError(err)
		}
		j.OK, j.Key, j.Findings = rep.OK, &rep.Key, rep.Findings
	}
	t.judgeRole(ctx, j, k)
	return j, nil
}

// judgeRole holds a key against the role that the configuration gives its name.
// The one in use does that role's work once.
func (t *ceremony) judgeRole(ctx context.Context, j *judged, k *keyRow) {
	r := t.set.roleOf(k.Base)
	if r.name == "" {
		return
	}
	if fits(r.kind, j.Key) {
		if k.State != keystore.StateActive {
			j.add("role", true, "%s", r.name)
			return
		}
		ag := newAgent(t.set, slog.New(slog.DiscardHandler))
		ag.keys = t.keys
		if p := ag.proveRole(ctx, r); p.Err != nil {
			j.add("role", false, "%s: %v", r.name, p.Err)
		} else {
			j.add("role", true, "%s, by %s", r.name, p.Mechanism)
		}
		return
	}
	j.add("role", false, "%s needs a key of kind %s, and this is %s; make one with 'gardu keys generate NAME %s' and name it in the configuration", r.name, r.kind, kindOf(j.Key), r.kind)
}

// fits says whether a key can serve where one of kind is meant: a signing key may be
// longer, a key that wraps may be RSA, and what the token does not tell is not held
// against a key.
func fits(kind keystore.Kind, k *keystore.KeyInfo) bool {
	return suits(kind, kindOf(k)) || k.Type == "aes" && k.Bits == 0 && (kind == keystore.KindAES192 || kind == keystore.KindAES256)
}

// suits is fits for a key that is still to be made.
func suits(kind, have keystore.Kind) bool {
	switch kind {
	case keystore.KindRSA2048, keystore.KindRSA3072Unwrap:
		return sameFamily(have, kind)
	case keystore.KindECP256: // of TLS, which takes both
		return sameFamily(have, kind) || sameFamily(have, keystore.KindRSA2048)
	case keystore.KindAES256:
		return have == kind || sameFamily(have, keystore.KindRSA3072Unwrap)
	default:
		return have == kind
	}
}

// mustSuit refuses to make a key of a kind that the role of its name cannot use.
func (s *settings) mustSuit(name string, kind keystore.Kind) error {
	r := s.roleOf(name)
	if r.name == "" || suits(r.kind, kind) {
		return nil
	}
	return withCode(exitUsage, fmt.Errorf("the configuration names %s as %s, which needs a key of kind %s and not %s; give that kind, or another name", name, r.name, r.kind, kind))
}

// sameFamily says whether two kinds do the same and differ in size at most.
func sameFamily(a, b keystore.Kind) bool {
	bare := func(k keystore.Kind) string {
		return strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return -1
			}
			return r
		}, string(k))
	}
	return bare(a) == bare(b) && !strings.HasPrefix(string(a), "aes-") || a == b
}
