package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/txn"
)

// The verbs of the queue on the admin socket.
const (
	verbQueue   = "queue.list"
	verbShow    = "queue.show"
	verbAct     = "queue.act"
	verbRelease = "queue.release"
)

type listArgs struct {
	Filter filter `json:"filter"`
	View   view   `json:"view"`
	Sudo   string `json:"sudo,omitempty"` // who became root, by root's own word
}

type showArgs struct {
	Name string `json:"name"`
	View view   `json:"view"`
	Sudo string `json:"sudo,omitempty"`
}

// order is an act on one request, or on a provider.
type order struct {
	Act    string    `json:"act"`
	Name   string    `json:"name"`         // of the request, or the provider
	Reason string    `json:"reason"`       //
	As     txn.State `json:"as,omitempty"` // with resolve
	Sudo   string    `json:"sudo,omitempty"`
}

// Bounds of a reason, in characters.
const (
	reasonLeast = 3
	reasonMost  = 300
)

// check holds what an operator typed against what the records can keep.
func (o *order) check() error {
	o.Reason = strings.TrimSpace(o.Reason)
	n := utf8.RuneCountInString(o.Reason)
	switch {
	case n < reasonLeast || n > reasonMost || strings.ContainsFunc(o.Reason, unicode.IsControl) || !utf8.ValidString(o.Reason):
		return &queueError{fmt.Errorf("a reason has %d to %d characters on one line", reasonLeast, reasonMost),
			"say why in a few words, with the number of your ticket", kindUsage}
	case o.Act == txn.ActResolve && o.As != txn.Succeeded && o.As != txn.Rejected:
		return &queueError{fmt.Errorf("%q is no result", o.As), "say --as succeeded or --as rejected", kindUsage}
	}
	return nil
}

// quiet refuses a reason with the customer's identifier in it: reasons go to the
// audit record, which is kept for years and read by many.
func quiet(reason, customer string) error {
	_, id, _ := strings.Cut(customer, ":")
	if len(id) >= shortest && strings.Contains(reason, id) {
		return &queueError{errors.New("the reason holds the customer's number, and it is kept in the audit record for years"),
			"leave the number out; the record names the request", kindUsage}
	}
	return nil
}

// operate carries an act on one request out with an engine, running or not.
func operate(ctx context.Context, e *txn.Engine, o *order, who string) (row, error) {
	if err := o.check(); err != nil {
		return row{}, err
	}
	j := engineJournal(e)
	found, err := j.find(ctx, o.Name, view{Unmasked: true})
	if err != nil {
		return row{}, err
	}
	if err := quiet(o.Reason, found.Customer); err != nil {
		return row{}, err
	}
	word := txn.Order{ID: found.ID, Who: who, Why: o.Reason}
	if found.Unreadable != "" {
		return row{}, &queueError{fmt.Errorf("%s %s: %s", o.Act, found.ID, found.Unreadable), found.Do, ""}
	}
	var r *txn.Request
	switch o.Act {
	case txn.ActCancel:
		r, err = e.Withdraw(ctx, word)
	case txn.ActResolve:
		r, err = e.Resolve(ctx, word, o.As)
	case txn.ActInquire:
		r, err = e.Inquire(ctx, word)
	case txn.ActRetry:
		r, err = e.Retry(ctx, word)
	default:
		return row{}, &queueError{fmt.Errorf("this agent does not know the act %q", o.Act), "use the gardu command of the same version", ""}
	}
	if err != nil {
		return row{}, actError(err)
	}
	return j.row(r, view{}), nil
}

// actError is an engine's error with its hint and its kind.
func actError(err error) error {
	q := &queueError{err: err}
	var oe *txn.OrderError
	if errors.As(err, &oe) {
		q.hint = oe.Hint()
	}
	if errors.Is(err, txn.ErrUnreached) {
		q.kind = kindNetwork
	}
	return q
}

// whoIs is by whose word something is done: the user the kernel names, and where
// that is root, whom root says it was before.
func whoIs(p admin.Peer, sudo string) string {
	plain := func(c rune) bool { return c < '!' || c > '~' }
	if p.UID == 0 && sudo != "" && len(sudo) <= 32 && !strings.ContainsFunc(sudo, plain) {
		return sudo + " as " + p.Name
	}
	return p.Name
}

// unmask records that somebody is shown whole customer identifiers, and refuses
// everybody but root.
func unmask(ctx context.Context, trail *audit.Trail, root bool, who, what string) error {
	if !root {
		return &queueError{errors.New("only root may see customers unmasked"), "leave --unmasked out, or ask who may become root here", ""}
	}
	_, err := trail.Append(ctx, audit.Entry{Act: "queue.unmask", Object: what, Who: who, Sync: true})
	if err != nil {
		return &queueError{fmt.Errorf("the audit record did not take it, so nothing is shown: %w", err), "see that its disk has room, then do it again", ""}
	}
	return nil
}

// servingNow is the engine, or an error that says that there is none at the moment.
func (ag *agent) servingNow() (*txn.Engine, error) {
	if e := ag.serving(); e != nil {
		return e, nil
	}
	return nil, errNotServing
}

func (ag *agent) queueVerbs() map[string]admin.Verb {
	return map[string]admin.Verb{
		verbQueue: {Do: func(ctx context.Context, args json.RawMessage, who admin.Peer) (any, error) {
			var q listArgs
			if err := decode(args, &q); err != nil {
				return nil, err
			}
			e, err := ag.servingNow()
			if err != nil {
				return nil, err
			}
			if q.View.Unmasked {
				if err := unmask(ctx, ag.audit, who.UID == 0, whoIs(who, q.Sudo), "list"); err != nil {
					return nil, err
				}
			}
			return engineJournal(e).list(ctx, &q.Filter, q.View)
		}},
		verbShow: {Do: func(ctx context.Context, args json.RawMessage, who admin.Peer) (any, error) {
			var q showArgs
			if err := decode(args, &q); err != nil {
				return nil, err
			}
			e, err := ag.servingNow()
			if err != nil {
				return nil, err
			}
			return showOne(ctx, engineJournal(e), &q, ag.audit, who.UID == 0, whoIs(who, q.Sudo))
		}},
		verbAct: {Do: func(ctx context.Context, args json.RawMessage, who admin.Peer) (any, error) {
			var o order
			if err := decode(args, &o); err != nil {
				return nil, err
			}
			e, err := ag.servingNow()
			if err != nil {
				return nil, err
			}
			return operate(ctx, e, &o, whoIs(who, o.Sudo))
		}},
		verbRelease: {Do: func(ctx context.Context, args json.RawMessage, who admin.Peer) (any, error) {
			var o order
			if err := decode(args, &o); err != nil {
				return nil, err
			}
			o.Act = txn.ActRelease
			if err := o.check(); err != nil {
				return nil, err
			}
			e, err := ag.servingNow()
			if err != nil {
				return nil, err
			}
			return release(ctx, e, &o, whoIs(who, o.Sudo))
		}},
	}
}

// linkView is a provider's line as operators see it.
type linkView struct {
	Provider string `json:"provider"`
	Released bool   `json:"released"`
}

func release(ctx context.Context, e *txn.Engine, o *order, who string) (linkView, error) {
	names := []string{}
	for _, l := range e.Links() {
		names = append(names, l.Provider)
	}
	if !slices.Contains(names, o.Name) {
		return linkView{}, &queueError{fmt.Errorf("no provider %q here", o.Name), "say one of " + strings.Join(names, ", "), kindUsage}
	}
	l, err := e.Release(ctx, o.Name, who, o.Reason)
	if err != nil {
		return linkView{}, actError(err)
	}
	return linkView{l.Provider, !l.Held}, nil
}

func showOne(ctx context.Context, j *journal, q *showArgs, trail *audit.Trail, root bool, who string) (row, error) {
	v := q.View
	v.Whole = true
	r, err := j.find(ctx, q.Name, v)
	if err == nil && v.Unmasked {
		err = unmask(ctx, trail, root, who, r.ID)
	}
	if err != nil {
		return row{}, err
	}
	return r, nil
}

// decode reads the arguments of a verb.
func decode(args json.RawMessage, dst any) error {
	if err := json.Unmarshal(args, dst); err != nil {
		return &queueError{errors.New("the request is not one that this agent understands"), "use the gardu command of the same version", ""}
	}
	return nil
}
