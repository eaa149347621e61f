package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
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
