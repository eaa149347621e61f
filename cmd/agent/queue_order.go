package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/txn"
)

// deed is how an act is offered on the command line.
type deed struct {
	short, long, example string
	ask                  string // what is confirmed; empty where it undoes nothing
	done                 string
	file                 bool // also with a stopped agent
}

var deeds = map[string]deed{
	txn.ActInquire: {
		short: "Ask the provider now what became of a request",
		long:  "inquire asks the provider what became of a request that is pending, in doubt or\nunresolved. It changes nothing at the provider.",
		done:  "The provider's answer settled it.", example: `  gardu queue inquire ABCD-EFGH --reason "customer at the desk, ticket 4711"`,
	},
	txn.ActRetry: {
		short: "Have a waiting request sent now, or repeat a doubt where that is configured",
		long: `retry has a request that waits sent as soon as link and turn allow. A request that
may have reached the provider is repeated only where the provider is known to
recognise a repeat (off by default), with the same references and on the same day.`,
		ask: "have it sent now", done: "It is sent as soon as link and turn allow.", example: `  gardu queue retry ABCD-EFGH --reason "line mended, ticket 4711"`,
	},
	txn.ActCancel: {
		short: "Withdraw a request of which nothing was ever sent",
		long:  "cancel withdraws a request of which nothing was ever sent. What may have reached\nthe provider cannot be cancelled.",
		ask:   "cancel it", done: "It is cancelled; nothing was sent.", file: true, example: `  gardu queue cancel ABCD-EFGH --reason "customer changed their mind, ticket 4711"`,
	},
	txn.ActResolve: {
		short: "Close a doubt by evidence from the provider",
		long: `resolve closes a request that is in doubt or unresolved as what the provider's side
shows. The evidence is kept with the request and in the audit record.`,
		ask: "close it", done: "It is closed.", file: true, example: `  gardu queue resolve ABCD-EFGH --as succeeded --evidence "Finpay portal, ticket 4711"`,
	},
}

func (a *app) queueActCommand(act string) *cobra.Command {
	d := deeds[act]
	var reason, evidence, as string
	yes := false
	cmd := &cobra.Command{
		Use: act + " NUMBER", Short: d.short, Long: d.long + "\n\n" + nameHelp, Example: d.example, Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			o := order{Act: act, Name: args[0], Reason: reason, As: txn.State(as), Sudo: sudoUser()}
			if act == txn.ActResolve {
				o.Reason = strings.TrimSpace(evidence)
				if o.Reason == "" {
					return withCode(exitUsage, errors.New("say what shows it with --evidence TEXT"))
				}
				if r := strings.TrimSpace(reason); r != "" {
					o.Reason += "; " + r
				}
			}
			return a.act(c.Context(), &o, yes)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, with a ticket's number; goes to the audit record")
	if d.ask != "" {
		cmd.Flags().BoolVar(&yes, "yes", false, "do not ask, for scripts")
	}
	if act == txn.ActResolve {
		cmd.Flags().StringVar(&as, "as", "", "succeeded or rejected")
		cmd.Flags().StringVar(&evidence, "evidence", "", "what shows it; goes to the audit record (--reason may say more)")
	}
	return cmd
}

// act does one act on one request after it was shown and confirmed.
func (a *app) act(ctx context.Context, o *order, yes bool) error {
	d := deeds[o.Act]
	if o.Reason == "" {
		return withCode(exitUsage, errors.New("say why with --reason TEXT; it is kept in the audit record"))
	}
	if err := o.check(); err != nil {
		return ended(err)
	}
	if d.ask != "" && !yes {
		// What is confirmed is what is done: from here on the request is named by its id.
		r, err := a.oneRow(ctx, showArgs{Name: o.Name})
		if err != nil {
			return err
		}
		o.Name = r.ID
		if err := a.confirm(o, &r); err != nil {
			return err
		}
	}
	var r row
	running, err := a.tell(ctx, verbAct, o, &r)
	if !running {
		if !d.file {
			return needsAgent(o.Act)
		}
		err = ended(a.withJournal(ctx, func(s *stopped) error {
			e, err := s.engine(ctx)
			if err != nil {
				return err
			}
			r, err = operate(ctx, e, o, whoami())
			return err
		}))
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	_, err = fmt.Fprintf(a.out, "%s  %s  %s  %s: %s\n%s", r.Number, r.Operation, r.Customer, r.State, d.done, wrapped(r.Means+" "+r.Do, ""))
	return err
}

func (a *app) confirm(o *order, r *row) error {
	what := deeds[o.Act].ask
	if o.As != "" {
		what += " as " + string(o.As)
	}
	_, _ = fmt.Fprintf(a.err, "%s  %s  %s  %s, asked for %s\n%sThis cannot be undone. To %s, type yes: ",
		r.Number, r.Operation, r.Customer, strings.TrimSpace(string(r.State)+" "+string(r.Reason)), r.Created.Local().Format(time.DateTime), wrapped(r.Means, ""), what)
	answer, err := a.readLine()
	if err != nil {
		return err
	}
	if answer != "yes" {
		return withCode(exitUsage, errors.New("not confirmed, so nothing was done; scripts say --yes"))
	}
	return nil
}

func (a *app) queueReleaseCommand() *cobra.Command {
	reason := ""
	cmd := &cobra.Command{
		Use: "release PROVIDER", Short: "Lift the hold of a provider: it is tried at once",
		Long:    "release lifts the hold that a refused signature, client or clock brought about, or\nends a provider's wish to be left alone. Mend the cause first: 'gardu check' names it.",
		Example: `  gardu queue release finpay --reason "new key registered, ticket 4711"`, Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			o := order{Act: txn.ActRelease, Name: args[0], Reason: reason, Sudo: sudoUser()}
			if o.Reason == "" {
				return withCode(exitUsage, errors.New("say why with --reason TEXT; it is kept in the audit record"))
			}
			var l linkView
			running, err := a.tell(c.Context(), verbRelease, o, &l)
			switch {
			case !running:
				return needsAgent("lift a hold")
			case err != nil:
				return err
			case a.json:
				return a.printJSON(l)
			}
			_, err = fmt.Fprintf(a.out, "%s is tried again now; 'gardu queue list' shows what becomes of its requests.\n", l.Provider)
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, with a ticket's number; goes to the audit record")
	return cmd
}
