package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/txn"
)

func (a *app) queueListCommand() *cobra.Command {
	var p picks
	most := 0
	cmd := &cobra.Command{
		Use: "list", Short: "List what is not finished, customers masked, and say what to do",
		Example: `  gardu queue list
  gardu queue list --state in_doubt,unresolved --older-than 1h
  gardu queue list --all --since 1d --operation finpay.bind
  gardu queue list --all --customer    (asks for the customer's number)`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := a.filter(&p, time.Now())
			if err != nil {
				return err
			}
			rows, err := a.rows(c.Context(), listArgs{Filter: f, View: view{Unmasked: p.unmasked}})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows)
			}
			return a.printRows(rows, most, p.all || len(f.States) > 0)
		},
	}
	p.flags(cmd)
	cmd.Flags().BoolVar(&p.all, "all", false, "also what is finished (kept for 48 hours)")
	cmd.Flags().IntVar(&most, "limit", 100, "print at most `N` of the newest; 0 is all")
	return cmd
}

// printRows prints a table and below it, once for each kind of trouble, what to do.
func (a *app) printRows(rows []row, most int, all bool) error {
	if len(rows) == 0 {
		text := "Nothing is waiting and nothing is in doubt; --all shows what is finished."
		if all {
			text = "No request is like that."
		}
		_, err := fmt.Fprintln(a.out, text)
		return err
	}
	left := 0
	if most > 0 && len(rows) > most {
		left = len(rows) - most
		rows = rows[left:]
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NUMBER\tSTATE\tAGE\tOPERATION\tCUSTOMER\tWHY\tCODE\tNEXT")
	now := time.Now()
	for i := range rows {
		r := &rows[i]
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", dash(r.Number), r.State, age(r.Created, now), dash(string(r.Operation)),
			dash(r.Customer), dash(string(cmp.Or(r.Line, r.Reason))), dash(r.Code), inTime(r.NextTry, now))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if left > 0 {
		_, _ = fmt.Fprintf(a.out, "%d older ones are not shown; --limit 0 shows all.\n", left)
	}
	a.printAdvice(rows)
	return nil
}

func (a *app) printAdvice(rows []row) {
	type kind struct {
		state txn.State
		why   txn.Reason
		do    string
	}
	counts := map[kind]int{}
	var order []kind
	for i := range rows {
		r := &rows[i]
		if r.State.Final() {
			continue
		}
		k := kind{r.State, cmp.Or(r.Line, r.Reason), r.Means + " " + r.Do}
		if counts[k]++; counts[k] == 1 {
			order = append(order, k)
		}
	}
	for i, k := range order {
		if i == 0 {
			_, _ = fmt.Fprintln(a.out)
		}
		name := string(k.state)
		if k.why != "" {
			name += ", " + string(k.why)
		}
		_, _ = fmt.Fprintf(a.out, "%s (%d):\n%s", name, counts[k], wrapped(k.do, "  "))
	}
}

// wrapped breaks a text into lines that fit a terminal of 80 columns.
func wrapped(text, indent string) string {
	const width = 78
	var out strings.Builder
	col := 0
	for _, word := range strings.Fields(text) {
		switch {
		case col == 0:
			out.WriteString(indent)
			col = len(indent)
		case col+1+len(word) > width:
			out.WriteString("\n" + indent)
			col = len(indent)
		default:
			out.WriteByte(' ')
			col++
		}
		out.WriteString(word)
		col += len(word)
	}
	out.WriteByte('\n')
	return out.String()
}

// age is how long ago something was, short.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(max(0, now.Sub(t)))
}

// inTime is when something is due.
func inTime(t, now time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case !t.After(now):
		return "now"
	}
	return "in " + short(t.Sub(now))
}

func short(d time.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func (a *app) queueShowCommand() *cobra.Command {
	unmasked := false
	cmd := &cobra.Command{
		Use: "show NUMBER", Short: "Show one request with its attempts, and what to do about it",
		Long: "show prints everything that is known of one request, the customer masked.\n\n" + nameHelp,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.oneRow(c.Context(), showArgs{Name: args[0], View: view{Unmasked: unmasked}})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			return a.printRow(&r)
		},
	}
	cmd.Flags().BoolVar(&unmasked, "unmasked", false, "show the whole identifier of the customer; only for root, and recorded")
	return cmd
}

func (a *app) printRow(r *row) error {
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Local().Format(time.DateTime)
	}
	line("number", r.Number)
	line("id", r.ID)
	line("operation", string(r.Operation))
	line("customer", r.Customer)
	for _, name := range slices.Sorted(keysOf(r.Fields)) {
		line("  "+name, r.Fields[name])
	}
	line("state", strings.TrimSuffix(string(r.State)+", "+string(r.Reason), ", "))
	line("unreadable", r.Unreadable)
	line("provider's line", string(r.Line))
	line("provider's code", strings.TrimSpace(r.Code+"  "+r.Says))
	line("provider's text", r.Text)
	line("reference", r.Reference)
	line("asked for", at(r.Created))
	line("sent until", at(r.Expires))
	line("next look", at(r.NextTry))
	line("ended", at(r.Closed))
	line("confirmed by", r.VerifiedBy)
	line("operator", r.NoteBy)
	line("reason", r.Note)
	if err := w.Flush(); err != nil {
		return err
	}
	if len(r.Attempts) > 0 {
		_, _ = fmt.Fprintln(a.out)
		_, _ = fmt.Fprintln(w, "ATTEMPT\tSTEP\tBEGAN\tTOOK\tOUTCOME\tWHY\tCODE\tEXTERNAL ID")
		for i := range r.Attempts {
			t := &r.Attempts[i]
			took := "-"
			if !t.Ended.IsZero() {
				took = t.Ended.Sub(t.Began).Round(time.Millisecond).String()
			}
			n := strconv.Itoa(i + 1 + min(i, 1)*r.Omitted)
			if t.Repeat {
				n += " repeat"
			}
			_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", n, t.Step, at(t.Began), took, t.Outcome, dash(string(t.Reason)), dash(t.Code), t.ExternalID)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if r.Omitted > 0 {
			_, _ = fmt.Fprintf(a.out, "%d attempts after the first that certainly were not sent are left out; the audit record has them.\n", r.Omitted)
		}
	}
	_, err := fmt.Fprintf(a.out, "\n%s%s", wrapped(r.Means, ""), wrapped("What to do: "+r.Do, ""))
	return err
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
