package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/admin"
	"gardu/internal/txn"
)

func (a *app) queueCommand() *cobra.Command {
	return group("queue", "See the requests in the journal and do something about them",
		a.queueListCommand(), a.queueShowCommand(), a.queueExportCommand(),
		a.queueActCommand(txn.ActInquire), a.queueActCommand(txn.ActRetry), a.queueActCommand(txn.ActCancel), a.queueActCommand(txn.ActResolve),
		a.queueReleaseCommand())
}

const nameHelp = `NUMBER is what the customer reads from the screen (ABCD-EFGH), a request's id or
its first characters, or the reference that the provider knows.`

// tell sends a verb to the running agent. running is false where there is none.
func (a *app) tell(ctx context.Context, verb string, args, dst any) (running bool, err error) {
	set, err := loadSettings(a.config)
	if err != nil {
		return true, err
	}
	err = admin.Ask(ctx, set.Admin.Socket, verb, args, dst)
	if errors.Is(err, admin.ErrNotRunning) {
		return false, err
	}
	var told *admin.AskError
	if errors.As(err, &told) {
		switch told.Kind {
		case kindUsage:
			err = withCode(exitUsage, err)
		case kindNetwork:
			err = withCode(exitNetwork, err)
		}
	}
	return true, err
}

// ended gives an error of a command on the file the code that the agent's would have.
func ended(err error) error {
	var q *queueError
	if !errors.As(err, &q) {
		return err
	}
	text := &admin.AskError{Message: q.Error(), Advice: q.hint}
	switch q.kind {
	case kindUsage:
		return withCode(exitUsage, text)
	case kindNetwork:
		return withCode(exitNetwork, text)
	}
	return text
}

func sudoUser() string { return os.Getenv("SUDO_USER") }

// rows are the requests of a filter, from the agent or, where it is stopped, from
// the file.
func (a *app) rows(ctx context.Context, q listArgs) (rows []row, err error) {
	q.Sudo = sudoUser()
	running, err := a.tell(ctx, verbQueue, q, &rows)
	if running {
		return rows, err
	}
	err = a.withJournal(ctx, func(s *stopped) error {
		if q.View.Unmasked {
			if err := unmask(ctx, s.audit, os.Geteuid() == 0, whoami(), "list"); err != nil {
				return err
			}
		}
		rows, err = s.journal().list(ctx, &q.Filter, q.View)
		return err
	})
	return rows, ended(err)
}

func (a *app) oneRow(ctx context.Context, q showArgs) (r row, err error) {
	q.Sudo = sudoUser()
	running, err := a.tell(ctx, verbShow, q, &r)
	if running {
		return r, err
	}
	err = a.withJournal(ctx, func(s *stopped) error {
		r, err = showOne(ctx, s.journal(), &q, s.audit, os.Geteuid() == 0, whoami())
		return err
	})
	return r, ended(err)
}

// picks are the flags that say which requests are wanted.
type picks struct {
	all, customer, unmasked         bool
	states                          []string
	operation, provider, since, old string
}

func (p *picks) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&p.states, "state", nil, "only these `STATES` (queued, sending, pending, in_doubt, unresolved, succeeded, rejected, expired, cancelled, unreadable)")
	f.StringVar(&p.operation, "operation", "", "only this `OPERATION`, for example finpay.bind")
	f.StringVar(&p.provider, "provider", "", "only this `PROVIDER`, for example finpay")
	f.StringVar(&p.since, "since", "", "only what was asked for within this `TIME` (90m, 4h, 2d) or since a day (2026-11-21)")
	f.StringVar(&p.old, "older-than", "", "only what was asked for longer ago than this `TIME`")
	f.BoolVar(&p.customer, "customer", false, "only one customer: their identifier is read from standard input and not shown")
	f.BoolVar(&p.unmasked, "unmasked", false, "show whole identifiers of customers; only for root, and recorded")
}

var states = []txn.State{txn.Queued, txn.Sending, txn.Pending, txn.InDoubt, txn.Unresolved, txn.Succeeded, txn.Rejected, txn.Expired, txn.Cancelled, stateUnreadable}

func (a *app) filter(p *picks, now time.Time) (filter, error) {
	f := filter{All: p.all, Operation: txn.Operation(p.operation), Provider: p.provider}
	for _, s := range p.states {
		st := txn.State(strings.ToLower(strings.TrimSpace(s)))
		if !slices.Contains(states, st) {
			return f, withCode(exitUsage, fmt.Errorf("there is no state %q; the states are %v", s, states))
		}
		f.States = append(f.States, st)
	}
	var err error
	if f.After, err = moment(p.since, now); err != nil {
		return f, withCode(exitUsage, fmt.Errorf("--since: %w", err))
	}
	if f.Before, err = moment(p.old, now); err != nil {
		return f, withCode(exitUsage, fmt.Errorf("--older-than: %w", err))
	}
	if p.customer {
		if f.Customer, err = a.readHidden("customer: "); err != nil {
			return f, err
		}
		if f.Customer == "" {
			return f, withCode(exitUsage, errors.New("no customer came on standard input; type the identifier and press Enter"))
		}
	}
	return f, nil
}

// moment reads a length of time before now, or a day.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.Atoi(n); err == nil && days >= 0 && days < 10000 {
			return now.AddDate(0, 0, -days), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; say 90m, 4h, 2d or 2026-11-21", s)
}

// readHidden reads one line of standard input, which a terminal does not show.
func (a *app) readHidden(prompt string) (string, error) {
	if f, ok := a.in.(*os.File); ok {
		fd := int(f.Fd())
		if old, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			_, _ = fmt.Fprint(a.err, prompt)
			quiet := *old
			quiet.Lflag &^= unix.ECHO
			if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
				return "", fmt.Errorf("hide what is typed: %w", err)
			}
			defer func() {
				_ = unix.IoctlSetTermios(fd, unix.TCSETS, old)
				_, _ = fmt.Fprintln(a.err)
			}()
		}
	}
	return a.readLine()
}

func (a *app) readLine() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(a.in, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimSpace(line), nil
}

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

func (a *app) queueExportCommand() *cobra.Command {
	var p picks
	file := "-"
	cmd := &cobra.Command{
		Use: "export", Short: "Write whole requests as JSON lines, finished ones too, customers masked",
		Example: "  gardu queue export --since 1d --output /root/queue.jsonl",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			p.all = true
			f, err := a.filter(&p, time.Now())
			if err != nil {
				return err
			}
			rows, err := a.rows(c.Context(), listArgs{Filter: f, View: view{Whole: true, Unmasked: p.unmasked}})
			if err != nil {
				return err
			}
			out := a.out
			if file != "-" {
				o, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
				if err != nil {
					return fmt.Errorf("write the export: %w; name a file that does not exist yet", err)
				}
				defer func() { err = errors.Join(err, o.Close()) }()
				out = o
			}
			enc := json.NewEncoder(out)
			for i := range rows {
				if err := enc.Encode(&rows[i]); err != nil {
					return fmt.Errorf("write the export: %w", err)
				}
			}
			if file != "-" {
				_, _ = fmt.Fprintf(a.err, "%d requests written to %s\n", len(rows), file)
			}
			return nil
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&file, "output", "-", "`FILE` to write, which must not exist yet; - is standard output")
	return cmd
}

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
