package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/txn"
)

// verbTicket is the admin socket's verb for a screen ticket.
const verbTicket = "ui.ticket"

// errNotServing: the agent runs but is out of service.
var errNotServing = errors.New("the agent is out of service; the screen says why, and so does its log")

func (ag *agent) verbs() map[string]admin.Verb {
	v := ag.updateVerbs(map[string]admin.Verb{
		verbTicket: {Access: admin.Screen, Do: func(context.Context, json.RawMessage, admin.Peer) (any, error) {
			t, err := ag.screen.IssueTicket()
			if err != nil {
				return nil, err
			}
			return map[string]string{"url": "http://" + ag.screen.Addr() + "/?ticket=" + t}, nil
		}},
		verbCheck: {Do: ag.checkVerb},
	})
	maps.Copy(v, ag.queueVerbs())
	return v
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
	return group("ui", "Open the screen, and say who may look behind it", ticket, a.operatorCommand())
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
