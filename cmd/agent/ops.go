package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/txn"
)

// The verbs of the admin socket.
const (
	verbTicket = "ui.ticket"
	verbQueue  = "queue.list"
	verbShow   = "queue.show"
)

// errNotServing: the agent runs but is out of service.
var errNotServing = errors.New("the agent is out of service; the screen says why, and so does its log")

// row is a request as operators see it: the customer is masked.
type row struct {
	ID        string        `json:"id"`
	Operation txn.Operation `json:"operation"`
	Customer  string        `json:"customer"`
	State     txn.State     `json:"state"`
	Reason    txn.Reason    `json:"reason,omitempty"`
	Code      string        `json:"code,omitempty"`
	Reference string        `json:"reference"`
	Created   time.Time     `json:"created"`
	Expires   time.Time     `json:"expires"`
	Closed    time.Time     `json:"closed,omitzero"`
	Attempts  []txn.Attempt `json:"attempts,omitempty"`
	Text      string        `json:"provider_text,omitempty"`
}

func rowOf(r *txn.Request, whole bool) row {
	o := row{
		ID: r.ID, Operation: r.Operation, Customer: mask(r.Customer), State: r.State, Reason: r.Reason, Code: r.Code,
		Reference: r.Reference, Created: r.Created, Expires: r.Expires, Closed: r.Closed,
	}
	if whole {
		o.Attempts, o.Text = r.Attempts, r.Data[txn.DataAnswerText]
	}
	return o
}

// mask leaves the provider's name and the last three characters.
func mask(customer string) string {
	provider, id, _ := strings.Cut(customer, ":")
	if n := len(id); n > 3 {
		id = strings.Repeat("*", n-3) + id[n-3:]
	}
	return provider + ":" + id
}

func (ag *agent) verbs() map[string]admin.Verb {
	return map[string]admin.Verb{
		verbTicket: {Access: admin.Screen, Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) {
			t, err := ag.screen.IssueTicket()
			if err != nil {
				return nil, err
			}
			return map[string]string{"url": "http://" + ag.screen.Addr() + "/?ticket=" + t}, nil
		}},
		verbQueue: {Do: func(ctx context.Context, _ json.RawMessage, _ admin.Peer) (any, error) {
			e := ag.serving()
			if e == nil {
				return nil, errNotServing
			}
			rows := []row{}
			err := e.Each(ctx, func(r *txn.Request, err error) error {
				if err == nil {
					rows = append(rows, rowOf(r, false))
				}
				return nil
			})
			return rows, err
		}},
		verbShow: {Do: func(ctx context.Context, args json.RawMessage, _ admin.Peer) (any, error) {
			var id string
			if err := json.Unmarshal(args, &id); err != nil {
				return nil, errors.New("the request's id is missing")
			}
			e := ag.serving()
			if e == nil {
				return nil, errNotServing
			}
			r, err := e.Get(ctx, id)
			if err != nil {
				return nil, err
			}
			return rowOf(r, true), nil
		}},
	}
}

func (ag *agent) serving() *txn.Engine {
	ag.mu.Lock()
	defer ag.mu.Unlock()
	return ag.engine
}

// ask sends a verb to the running agent.
func (a *app) ask(ctx context.Context, verb string, args, dst any) error {
	set, err := loadSettings(a.config)
	if err != nil {
		return err
	}
	err = admin.Ask(ctx, set.Admin.Socket, verb, args, dst)
	if errors.Is(err, admin.ErrNotRunning) {
		return fmt.Errorf("%w; start it with 'systemctl start gardu' or 'gardu run'", err)
	}
	return err
}

func (a *app) uiCommand() *cobra.Command {
	ticket := &cobra.Command{
		Use: "ticket", Short: "Print the address that opens the screen once, within 30 seconds", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var got map[string]string
			if err := a.ask(c.Context(), verbTicket, nil, &got); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(got)
			}
			_, err := fmt.Fprintln(a.out, got["url"])
			return err
		},
	}
	return group("ui", "Open the screen", ticket)
}

func (a *app) queueCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the requests in the journal, customers masked", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var rows []row
			if err := a.ask(c.Context(), verbQueue, nil, &rows); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(rows)
			}
			w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "ID\tOPERATION\tCUSTOMER\tSTATE\tREASON\tCREATED")
			for _, r := range rows {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Operation, r.Customer, r.State, dash(string(r.Reason)), r.Created.Local().Format(time.DateTime))
			}
			return w.Flush()
		},
	}
	show := &cobra.Command{
		Use: "show ID", Short: "Show one request with its attempts, customer masked", Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var r row
			if err := a.ask(c.Context(), verbShow, args[0], &r); err != nil {
				return err
			}
			return a.printJSON(r)
		},
	}
	return group("queue", "Look at the journal of the running agent", list, show)
}

func (a *app) auditCommand() *cobra.Command {
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no record of the audit file was changed, removed or inserted", Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			set, err := loadSettings(a.config)
			if err != nil {
				return err
			}
			rep, err := audit.Verify(c.Context(), set.Audit.Path)
			if err != nil {
				return err
			}
			switch {
			case a.json:
				err = a.printJSON(rep)
			case rep.Gaps > 0:
				_, err = fmt.Fprintf(a.out, "%s: %d records from %s to %s; the chain holds, but %d of them say that records are missing\n", set.Audit.Path, rep.Records, rep.First.Format(time.RFC3339), rep.Last.Format(time.RFC3339), rep.Gaps)
			default:
				_, err = fmt.Fprintf(a.out, "%s: %d records, unbroken from %s to %s\n", set.Audit.Path, rep.Records, rep.First.Format(time.RFC3339), rep.Last.Format(time.RFC3339))
			}
			if err == nil && rep.Gaps > 0 {
				err = fmt.Errorf("the audit record has %d gaps; 'grep audit.gap %s' shows them: after a power cut a few seconds may be missing, anything more goes to the security officer with a copy of the file", rep.Gaps, set.Audit.Path)
			}
			return err
		},
	}
	return group("audit", "Check the record of acts that cannot be undone", verify)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print what program this is", Args: usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH, "worker": workerIdentity()}
			if b, ok := debug.ReadBuildInfo(); ok {
				for _, s := range b.Settings {
					if s.Key == "vcs.revision" {
						v["revision"] = s.Value
					}
				}
			}
			if a.json {
				return a.printJSON(v)
			}
			_, err := fmt.Fprintf(a.out, "gardu %s (%s %s/%s, token worker %s)\n", v["version"], v["go"], v["os"], v["arch"], v["worker"])
			return err
		},
	}
}
