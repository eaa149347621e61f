package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"gardu/internal/audit"
	"gardu/internal/keystore"
	"gardu/internal/queue"
	"gardu/internal/txn"
	"gardu/internal/ui"
)

// kek fits a token key to what the journal needs, and tells it a wrong key from a
// token that is away.
type kek struct{ *keystore.Wrapper }

func (k kek) Unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	b, err := k.Wrapper.Unwrap(ctx, wrapped, aad)
	if errors.Is(err, keystore.ErrCiphertext) {
		return nil, fmt.Errorf("%w: %w", queue.ErrKeyMismatch, err)
	}
	return b, err
}

// journalKeys are the token keys of the journal. They are taken once: the keystore
// keeps what is taken from it, to test it for as long as the program runs.
type journalKeys struct{ main, pins kek }

func (ag *agent) openJournal(ctx context.Context) (*queue.DB, error) {
	j := ag.set.Journal
	if ag.keks == nil {
		main, err := ag.wrapper(j.KEK, j.KEKMechanism)
		if err != nil {
			return nil, err
		}
		pins, err := ag.wrapper(j.PINKEK, j.PINKEKMechanism)
		if err != nil {
			return nil, err
		}
		ag.keks = &journalKeys{kek{main}, kek{pins}}
	}
	o := queue.Options{
		Path: j.Path, KeyDir: j.KeyDir, KEK: ag.keks.main, PINKEK: ag.keks.pins,
		Kiosk: ag.set.Kiosk.Number, MaxItems: j.MaxRequests, Log: ag.log,
		Stamp: func() []byte { return ag.audit.Head().Stamp() },
	}
	db, err := queue.Open(ctx, o)
	if !errors.Is(err, queue.ErrDamaged) {
		return db, err
	}
	if serr := ag.salvage(ctx, o, err); serr != nil {
		return nil, serr
	}
	return queue.Open(ctx, o)
}

// salvage saves what can be read of a damaged journal, which is an alarm all the
// same: what cannot be read may have been sent, and somebody has to find out.
func (ag *agent) salvage(ctx context.Context, o queue.Options, cause error) error {
	s, err := queue.Salvage(ctx, o)
	if errors.Is(err, queue.ErrDamaged) {
		return cause // nothing in it can be read; that one says what to do
	}
	if err != nil {
		return err
	}
	ag.log.Error("operator alarm", "alarm", "the journal was damaged; what could be read is in a new one, and what may have been sent is in doubt; compare the damaged file's requests with the providers and look for a failing disk",
		"damage", cause, "kept", s.Kept, "requests", s.Records, "unreadable", s.Broken, "stale", s.Stale)
	_, err = ag.audit.Append(ctx, audit.Entry{
		Act: "journal.salvage", Object: filepath.Base(s.Kept), Who: agentName, Sync: true,
		Attrs: map[string]string{"requests": strconv.Itoa(s.Records), "unreadable": strconv.Itoa(s.Broken)},
	})
	return err
}

// openAudit opens the audit record where it is not open yet.
func (ag *agent) openAudit(ctx context.Context) error {
	if ag.audit == nil {
		t, err := audit.Open(ctx, audit.Options{Path: ag.set.Audit.Path, Who: agentName, Log: ag.log})
		if err != nil {
			return fmt.Errorf("%w: %w", errAudit, err)
		}
		ag.mu.Lock()
		ag.audit = t // the operator screen reads it, see trail
		ag.mu.Unlock()
	}
	return nil
}

// once takes something from the token by its URI, or gives what was taken before.
func once[T any](taken map[string]T, uri string, take func(string) (T, error)) (T, error) {
	if v, ok := taken[uri]; ok {
		return v, nil
	}
	v, err := take(uri)
	if err == nil {
		taken[uri] = v
	}
	return v, err
}

// passing reports whether an error may be gone at the next try, so that nothing
// is to be decided by it.
func passing(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	c := keystore.ClassOf(err)
	return c == keystore.ClassDevice || c == keystore.ClassSession || ctx.Err() != nil
}

func (ag *agent) newScreen(l net.Listener) (*ui.Server, error) {
	key, err := cookieKey(filepath.Join(filepath.Dir(ag.set.Admin.Socket), "screen.key"))
	if err != nil {
		ag.log.Warn("the screen's cookie key is not kept; after a restart every screen needs a new ticket", "error", err)
	}
	o := ui.Options{
		Listener: l, Brand: ag.set.Screen.Brand, Look: ag.set.Screen.look(), PxPerMM: ag.set.Screen.PxPerMM,
		Log: ag.log, CookieKey: key,
	}
	if ag.staff != nil {
		o.Staff = ag.staff
	}
	if ag.console != nil {
		o.Operator = ag.console
	}
	return ui.New(o)
}

// cookieKey keeps the key of the screen's cookie in the runtime directory, so that
// a screen survives a restart of the agent and not one of the machine. Only a file
// of our own that nobody else can read counts; where it cannot be kept, every
// screen needs a new ticket after a restart, and that is all.
func cookieKey(path string) ([]byte, error) {
	const size = 32
	if f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0); err == nil { //nolint:gosec // G304: our own runtime file
		defer func() { _ = f.Close() }()
		var st unix.Stat_t
		b := make([]byte, size+1)
		n, _ := f.Read(b)
		if unix.Fstat(int(f.Fd()), &st) == nil && st.Uid == uint32(os.Geteuid()) && st.Mode&0o077 == 0 && n == size { //nolint:gosec // G115: a uid fits
			return b[:size], nil
		}
	}
	b := make([]byte, size)
	_, _ = rand.Read(b)
	fresh := path + ".new"
	_ = os.Remove(fresh)
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600) //nolint:gosec // G304: likewise
	if err != nil {
		return b, err
	}
	_, werr := f.Write(b)
	if err := errors.Join(werr, f.Close()); err != nil {
		return b, err
	}
	return b, os.Rename(fresh, path)
}

// recorder writes the engine's acts into the audit record. No customer identifier
// goes there: the record is kept for years and read by many.
type recorder struct {
	log   *audit.Trail
	watch *auditWatch // nil where nobody looks
}

// Record implements txn.Recorder. On the delivery path it costs no sync: the
// journal's own commit carries the record's head. A person's act is synced.
func (r recorder) Record(ctx context.Context, act string, q *txn.Request, at *txn.Attempt, who string) error {
	if who == "" {
		who = agentName
	}
	attrs := map[string]string{"operation": string(q.Operation), "state": string(q.State)}
	if at != nil {
		attrs["external_id"] = at.ExternalID
		attrs["outcome"] = at.Outcome.String()
		if at.Code != "" {
			attrs["code"] = at.Code
		}
		if at.Reason != "" {
			attrs["reason"] = string(at.Reason)
		}
	}
	if id := q.Data[txn.DataVerifiedBy]; id != "" {
		attrs["verified_by"] = id
	}
	person := who != agentName
	if person {
		attrs["why"] = q.Note
	}
	_, err := r.log.Append(ctx, audit.Entry{Act: act, Object: q.ID, Who: who, Attrs: attrs, Sync: person})
	r.watch.told(err)
	return err
}

// record writes one act of a person at the command line, synced.
func (c *ceremony) record(ctx context.Context, act, object, who string, attrs map[string]string) error {
	_, err := c.audit.Append(ctx, audit.Entry{Act: act, Object: object, Who: who, Attrs: attrs, Sync: true})
	return err
}

// compareAudit notices an audit file that is shorter than the journal remembers.
func (ag *agent) compareAudit(ctx context.Context, stamp []byte) error {
	gap, err := ag.audit.CompareStamp(ctx, stamp)
	if err != nil {
		return fmt.Errorf("compare the audit record with the journal: %w", err)
	}
	if gap.Found() {
		ag.log.Error("operator alarm", "alarm", "the audit record does not reach as far as the journal remembers; a power cut loses the last seconds, anything more is tampering",
			"missing", gap.Missing, "changed", gap.Changed)
	}
	return nil
}

// agentName is who acts when nobody did.
const agentName = "agent"

// whoami is the user at the command line, also behind sudo.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if s := os.Getenv("SUDO_USER"); s != "" && s != name {
		name = s + " as " + name
	}
	return name
}

func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}
