package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/queue"
	"gardu/internal/txn"
)

// verbCheck is the admin socket's verb by which a running agent says how it is.
const verbCheck = "check"

// standingReport is what a running agent says of itself and its journal.
type standingReport struct {
	Serving    bool   `json:"serving"`
	Reason     string `json:"reason,omitempty"`
	Hint       string `json:"hint,omitempty"`
	Requests   int    `json:"requests"`
	Unreadable int    `json:"unreadable"`
	Unresolved int    `json:"unresolved"`
}

// checkVerb answers verbCheck: it reads every record, and so tries every seal.
func (ag *agent) checkVerb(ctx context.Context, _ json.RawMessage, _ admin.Peer) (any, error) {
	var r standingReport
	ag.mu.Lock()
	eng := ag.engine
	r.Serving, r.Reason, r.Hint = ag.health.OK && eng != nil, ag.health.Reason, ag.health.Hint
	ag.mu.Unlock()
	if eng == nil {
		return r, nil
	}
	err := eng.Each(ctx, func(q *txn.Request, err error) error {
		r.Requests++
		switch {
		case err != nil:
			r.Unreadable++
		case q.State == txn.Unresolved:
			r.Unresolved++
		}
		return nil
	})
	return r, err
}

// journal looks at the journal: through the agent where one runs, and else by
// opening a copy of it, which a check can do without moving anything.
func (p *preflight) journal(ctx context.Context, ag *agent) {
	if p.runningAgent(ctx, ag.set) {
		return
	}
	path := ag.set.Journal.Path
	st, err := os.Stat(path)
	_, werr := os.Lstat(path + ".witness")
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(werr, fs.ErrNotExist):
		p.ok("journal", "%s is made when the agent starts for the first time", path)
		p.auditRecord(ctx, ag.set, false)
		return
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		p.fail(exitFailed, "journal", err.Error(), "make it readable for the service's user")
		return
	case err == nil && busy(path):
		p.fail(exitFailed, "journal", path+" is open in another process, which does not answer at "+ag.set.Admin.Socket,
			"see who it is with 'fuser "+path+"'; stop it, or name its socket in admin.socket")
		return
	}
	text, warning, err := openCopy(ctx, ag)
	switch {
	case err != nil:
		code := exitFailed
		var q *queue.Error
		if !errors.As(err, &q) && !errors.Is(err, errCopy) {
			code = exitToken
		}
		p.failed(code, "journal", err)
	case warning != "":
		p.warn("journal", text+"; "+warning, "the agent takes what may have been sent for doubtful and asks the providers; tell the security officer who put the file back")
	default:
		p.ok("journal", "%s", text)
	}
	p.auditRecord(ctx, ag.set, st != nil && st.Size() > 0)
}

// journalWithout is what can be said without the token's keys.
func (p *preflight) journalWithout(ctx context.Context, set *settings) {
	if p.runningAgent(ctx, set) {
		return
	}
	if st, err := os.Stat(set.Journal.Path); err == nil && st.Size() == 0 {
		p.fail(exitFailed, "journal", set.Journal.Path+" is empty", "put the journal back from its last copy, or call field operations")
	} else {
		p.skip("journal", "its seals cannot be tried without the token")
	}
	p.auditRecord(ctx, set, false)
}

// runningAgent asks the agent where one runs, and reports whether that said
// everything about the journal.
func (p *preflight) runningAgent(ctx context.Context, set *settings) bool {
	var r standingReport
	err := admin.Ask(ctx, set.Admin.Socket, verbCheck, nil, &r)
	var said *admin.AskError
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		p.ok("agent", "does not run")
		return false
	case errors.As(err, &said):
		// An agent of an earlier release, or one that may not tell us.
		p.warn("agent", "it runs and does not say how it is: "+said.Error(), "run the check as root or as a member of the group that admin.group names")
		p.skip("journal", "it is open in the running agent")
		return true
	case err != nil:
		p.warn("agent", err.Error(), "look at its log: journalctl -u gardu")
		return false
	}
	switch {
	case !r.Serving:
		p.fail(exitFailed, "agent", "it runs and is out of service: "+r.Reason, r.Hint)
	default:
		p.ok("agent", "it runs and serves")
	}
	switch {
	case !r.Serving:
		p.skip("journal", "the agent has not opened it")
	case r.Unreadable > 0:
		p.fail(exitFailed, "journal", fmt.Sprintf("%d of %d records do not open", r.Unreadable, r.Requests), "call field operations; keep a copy of "+set.Journal.Path)
	case r.Unresolved > 0:
		p.warn("journal", fmt.Sprintf("%d requests, every seal holds; %d are unresolved", r.Requests, r.Unresolved), "settle them with 'gardu queue'")
	default:
		p.ok("journal", "%d requests, every seal holds; open in the running agent", r.Requests)
	}
	p.auditRecord(ctx, set, true)
	return true
}

// busy reports whether another process holds the file as bbolt does.
func busy(path string) bool {
	f, err := os.Open(path) //nolint:gosec // G304: the configured journal
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// errCopy: the copy could not be made.
var errCopy = errors.New("the journal cannot be copied to look at it")

// openCopy opens a copy of the journal and of its witness with the token's keys:
// opening the journal itself would write to it.
func openCopy(ctx context.Context, ag *agent) (text, warning string, err error) {
	dir, err := os.MkdirTemp("", "gardu-check-")
	if err != nil {
		return "", "", fmt.Errorf("%w: %w; make room in %s", errCopy, err, os.TempDir())
	}
	defer func() { _ = os.RemoveAll(dir) }()
	from, to := ag.set.Journal.Path, filepath.Join(dir, "journal.db")
	for _, end := range []string{"", ".witness"} {
		if err := copyFile(from+end, to+end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", "", fmt.Errorf("%w: %w; make room in %s, or run this as the service's user", errCopy, err, dir)
		}
	}
	main, err := ag.keys.Wrapper(ag.set.Journal.KEK)
	if err != nil {
		return "", "", err
	}
	pins, err := ag.keys.Wrapper(ag.set.Journal.PINKEK)
	if err != nil {
		return "", "", err
	}
	keyDir := filepath.Join(dir, "keys")
	db, err := queue.Open(ctx, queue.Options{
		Path: to, KeyDir: keyDir, KEK: kek{main}, PINKEK: kek{pins}, Kiosk: ag.set.Kiosk.Number, Reserve: -1, Log: ag.log,
		// No key of a PIN is made or read here.
		DangerousAllowKeyDirOnDisk: true,
	})
	var q *queue.Error
	if errors.As(err, &q) {
		q.Path = from // whom the sentence is about
	}
	if err != nil {
		return "", "", err
	}
	defer func() { _ = db.Close() }()
	if err := db.Check(ctx); err != nil {
		return "", "", &queue.Error{Op: "check journal", Path: from, Err: err, Hint: "call field operations; keep a copy of it"}
	}
	n := 0
	err = db.Each(ctx, func(*txn.Request, error) error { n++; return nil })
	return fmt.Sprintf("%s opens, %d requests, every seal holds", from, n), db.Behind(), err
}

func copyFile(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // G304: the configured journal
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // G304: a folder of our own
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// auditRecord verifies the whole chain; had says that there must be one.
func (p *preflight) auditRecord(ctx context.Context, set *settings, had bool) {
	path := set.Audit.Path
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if had {
			p.fail(exitFailed, "audit", path+" is gone, and the journal is older than that", "put it back from its last copy and tell the security officer")
		} else {
			p.ok("audit", "%s begins with the first act", path)
		}
		return
	}
	if p.self {
		p.ok("audit", "%s is there", path)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	rep, err := audit.Verify(ctx, path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		p.fail(exitFailed, "audit", err.Error(), "run the check as the service's user, who must be able to read it")
	case err != nil:
		p.fail(exitFailed, "audit", err.Error(), "keep a copy of the file and tell the security officer; the agent goes on and notes the break")
	case rep.Gaps > 0:
		p.warn("audit", fmt.Sprintf("%d records; the chain holds, but %d of them say that records are missing", rep.Records, rep.Gaps),
			"see 'gardu audit verify'; after a power cut a few seconds may be missing, anything more goes to the security officer")
	default:
		p.ok("audit", "%d records, unbroken", rep.Records)
	}
}
