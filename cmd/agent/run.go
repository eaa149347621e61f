package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gardu/internal/admin"
	"gardu/internal/audit"
	"gardu/internal/keystore"
	"gardu/internal/queue"
	"gardu/internal/txn"
	"gardu/internal/ui"
	"gardu/internal/update"
)

func (a *app) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Serve the screen and carry requests out until a signal comes",
		Long: `run serves the screen and carries requests out. It ends only for a signal, for a
configuration it cannot use, and for a second agent on the same journal. Where
the token, the journal or the network does not work, the screen says so and run
goes on trying.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runAgent(c.Context()) },
	}
}

// agent is the running program: what lives as long as it does, and the service
// that comes and goes with the token and the journal.
type agent struct {
	set     *settings
	log     *slog.Logger
	keys    *keystore.Store
	audit   *audit.Trail
	audited auditWatch
	screen  *ui.Server
	staff   *staffList
	console *console // nil without operators_file

	quit context.CancelCauseFunc // ends serve

	manager *manager

	// What is taken from the token is taken once: the keystore tests it for as long
	// as the program runs. The service's goroutine owns it.
	keks     *journalKeys
	signers  map[string]*keystore.Signer
	macs     map[string]*keystore.MAC
	ciphers  map[string]*keystore.Cipher
	wrappers map[string]*keystore.Wrapper
	proved   bool // the roles were reported
	vault    vault
	offered  []txn.Offer
	off      int // providers that could not be built

	moving sync.Mutex // guards what follows, and is held while the journal moves
	moved  string     // which move of the journal's keys was tried last

	mu      sync.Mutex // guards what follows
	engine  *txn.Engine
	journal *queue.DB         // nil while it is not open
	health  ui.Health         // as last said to the screen
	shown   map[string]string // by link, the fingerprint of the key whose certificate it shows
}

const (
	// gcPercent trades time, which a kiosk has, for memory, which its browser wants.
	gcPercent = 50

	retryFirst  = time.Second
	retryMost   = 15 * time.Second
	healthEvery = 10 * time.Second
	mendEvery   = time.Minute // providers that are switched off are tried again this often
)

func newAgent(set *settings, log *slog.Logger) *agent {
	return &agent{
		set: set, log: log,
		signers: map[string]*keystore.Signer{}, macs: map[string]*keystore.MAC{}, ciphers: map[string]*keystore.Cipher{},
		wrappers: map[string]*keystore.Wrapper{}, shown: map[string]string{},
	}
}

func (a *app) runAgent(ctx context.Context) (err error) {
	if left, why := update.PageLeft(a.paths(), time.Now()); left > 0 {
		return a.servePage(ctx, left, why)
	}
	set, err := loadSettings(a.config)
	if err != nil {
		return err
	}
	log, err := newLog(a.err, set.Log)
	if err != nil {
		return err
	}
	if err := set.makeFolders(); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps, which would hold PINs: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid other programs of this user to look into the memory: %w", err)
	}
	ag := newAgent(set, log)
	ag.manager = newManager(log)
	if set.Screen.Staff != "" {
		if ag.staff, err = readStaff(set.Screen.Staff, log); err != nil {
			return err
		}
	}
	if ag.console, err = ag.newConsole(); err != nil {
		return err
	}
	defer func() {
		if ag.audit != nil {
			err = errors.Join(err, ag.audit.Close())
		}
	}()
	if ag.keys, err = set.openKeystore(log); err != nil {
		return err
	}
	defer func() { _ = ag.keys.Close() }()
	if err := ag.checkProviders(); err != nil {
		return err
	}
	l, err := ag.listen(ctx)
	if err != nil {
		return err
	}
	if ag.screen, err = ag.newScreen(l); err != nil {
		return errors.Join(err, l.Close())
	}
	sock, err := admin.Listen(admin.Options{
		Path: set.Admin.Socket, Group: set.Admin.Group, KioskUser: set.Admin.KioskUser,
		Verbs: ag.keysVerb(ag.verbs()), Log: log,
	})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	return ag.serve(ctx, sock)
}

// listen takes the screen's socket from the service manager or opens it.
func (ag *agent) listen(ctx context.Context) (net.Listener, error) {
	l, err := inheritedListener(ag.set.Screen.Listen)
	if l != nil || err != nil {
		return l, err
	}
	if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", ag.set.Screen.Listen); err != nil {
		return nil, fmt.Errorf("listen for the screen: %w; another program has the port, or screen.listen in %s is not an address of this machine", err, ag.set.file)
	}
	return l, nil
}

// serve runs the parts until ctx ends or one of them cannot go on. The screen
// outlives the service, so that a customer reads why and not a browser's error.
func (ag *agent) serve(ctx context.Context, sock *admin.Server) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ag.quit = cancel
	var parts sync.WaitGroup
	part := func(name string, f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	ag.log.Info("gardu is starting", "version", version, "screen", ag.set.Screen.Listen, "kiosk", ag.set.Kiosk.Number)
	part("screen", ag.screen.Serve)
	part("admin", sock.Serve)
	part("service", ag.service)
	part("service manager", ag.supervise)
	<-ctx.Done()
	parts.Wait()
	ag.log.Info("gardu has stopped")
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errRestart) {
		return err
	}
	return nil
}

// service brings the journal and the engine up and keeps them so. It returns an
// error only for what trying again cannot mend: a second agent on the journal.
func (ag *agent) service(ctx context.Context) error {
	wait := retryFirst
	last := ""
	for {
		started := time.Now()
		err := ag.serveOnce(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // told to stop: whatever ended with it is no failure
		}
		var locked *queue.LockedError
		if errors.As(err, &locked) {
			return locked
		}
		if errors.Is(err, errMended) {
			continue
		}
		if time.Since(started) > time.Minute {
			wait, last = retryFirst, ""
		}
		h := healthOf(err)
		ag.setHealth(h)
		if err.Error() != last {
			last = err.Error()
			ag.log.Error("out of service; trying again", "reason", h.Reason, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, retryMost)
	}
}

// serveOnce serves until ctx ends or the journal fails.
func (ag *agent) serveOnce(ctx context.Context) error {
	if err := ag.openAudit(ctx); err != nil {
		return err
	}
	// Before the token is waited for: no PIN's key outlives its time for want of one.
	if _, err := queue.SweepKeys(ag.set.Journal.KeyDir, 0); err != nil {
		ag.log.Error("old keys of secrets not destroyed", "error", err)
	}
	if err := ag.keys.Ready(ctx); err != nil {
		return err
	}
	if !ag.proved {
		ag.proved = true
		ag.reportRoles(ctx)
	}
	db, err := ag.openJournal(ctx)
	if err != nil {
		return err
	}
	ag.vault.db.Store(db)
	defer func() {
		ag.vault.db.Store(nil)
		if err := db.Close(); err != nil {
			ag.log.Error("journal not closed cleanly", "error", err)
		}
	}()
	ag.setJournal(db)
	defer ag.setJournal(nil)
	if err := ag.compareAudit(ctx, db.StampOnDisk()); err != nil {
		return err
	}
	if ag.offered == nil {
		if ag.offered, ag.off, err = ag.offers(ctx); err != nil {
			return err
		}
	}
	behind := db.Behind()
	if behind != "" {
		ag.log.Error("operator alarm", "alarm", "the journal was put back from a copy; what may have been sent is in doubt", "detail", behind)
	}
	eng, err := txn.NewEngine(ctx, txn.Options{
		Store: db, Identity: db.Identity(), Offers: ag.offered, Audit: recorder{ag.audit, &ag.audited}, Log: ag.log,
		Limits: txn.Limits{CustomerHour: ag.set.Limits.CustomerHour, KioskHour: ag.set.Limits.KioskHour, InFlight: ag.set.Limits.InFlight},
		Timing: ag.set.timing(), Behind: behind != "",
		OnChange: ag.screen.RequestChanged, OnLink: ag.screen.LinkChanged,
	})
	if err != nil {
		return err
	}
	debug.FreeOSMemory() // a long journal has gone through memory, which others on this machine want
	if behind != "" {
		if err := db.AcceptBehind(ctx); err != nil {
			return fmt.Errorf("settle the restored journal: %w", err)
		}
	}
	ag.setEngine(eng)
	ag.setHealth(ui.Health{OK: true})
	ag.log.Info("in service")

	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { ag.watchHealth(runCtx, db) })
	var mended []txn.Offer
	off := ag.off
	watch.Go(func() {
		if mended, off = ag.watchOff(runCtx); mended != nil {
			stop() // and begin again with what works now
		}
	})
	err = eng.Run(runCtx)
	stop()
	watch.Wait()
	ag.setEngine(nil)
	if mended != nil && err == nil {
		ag.offered, ag.off = mended, off
		return errMended
	}
	return err
}

// errMended ends a service so that it begins again with more providers.
var errMended = errors.New("a provider that was switched off works now")

// watchOff tries providers that could not be built, so that a key imported or a
// token mended while the agent runs is used without a restart. It returns new
// offers when there is something to gain by them, nil when ctx ends.
func (ag *agent) watchOff(ctx context.Context) ([]txn.Offer, int) {
	if ag.off == 0 {
		return nil, 0
	}
	t := time.NewTicker(mendEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, 0
		case <-t.C:
		}
		offers, off, err := ag.offers(ctx)
		if err == nil && off < ag.off {
			ag.log.Info("providers work that were switched off", "still_off", off)
			return offers, off
		}
	}
}

func (ag *agent) setEngine(e *txn.Engine) {
	ag.mu.Lock()
	ag.engine = e
	ag.mu.Unlock()
	if e == nil {
		ag.screen.SetEngine(nil)
		return
	}
	ag.screen.SetEngine(e)
}

// watchHealth looks at token and journal now and then. While one of them does not
// work nothing can be signed or stored, so the screen takes no new requests; what
// waits goes on waiting.
func (ag *agent) watchHealth(ctx context.Context, db *queue.DB) {
	last := ""
	t := time.NewTicker(healthEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := db.Stats().Down
		if err == nil {
			err = ag.keys.Health(ctx)
		}
		if err == nil {
			err = ag.moveJournal(ctx, db)
		}
		if err == nil {
			err = ag.audited.stands(ctx, ag.audit)
		}
		if ctx.Err() != nil {
			return
		}
		if oneKey(err) && !ag.ofJournal(err) {
			ag.log.Error("a key does not do its work; its operations wait", "error", err)
			err = nil
		}
		switch {
		case err != nil && last != err.Error():
			last = err.Error()
			h := healthOf(err)
			ag.setHealth(h)
			ag.log.Error("out of service", "reason", h.Reason, "error", err)
		case err == nil && last != "":
			last = ""
			ag.setHealth(ui.Health{OK: true})
			ag.log.Info("in service again")
		}
	}
}

// oneKey reports whether an error is about single keys of a token that works: the
// operations of the others go on.
func oneKey(err error) bool {
	if err == nil {
		return false
	}
	for _, whole := range []error{
		keystore.ErrTokenAbsent, keystore.ErrTokenAmbiguous, keystore.ErrModule, keystore.ErrDevice, keystore.ErrTimeout, keystore.ErrWorkerLost,
		keystore.ErrPINLocked, keystore.ErrPINWrong, keystore.ErrPINUnusable, keystore.ErrClosed, queue.ErrDown,
	} {
		if errors.Is(err, whole) {
			return false
		}
	}
	return keystore.ClassOf(err) == keystore.ClassConfiguration
}

// hintOf is what staff can do, without the paths and names that are for the log:
// what stands here goes to the page.
func hintOf(err error) string {
	var k *keystore.Error
	if errors.As(err, &k) {
		return k.Hint
	}
	var q *queue.Error
	if errors.As(err, &q) {
		return q.Hint
	}
	return "look at the agent's log"
}

// healthOf turns a failure into what the screen says.
func healthOf(err error) ui.Health {
	h := ui.Health{Reason: "internal", Hint: hintOf(err)}
	class := keystore.ClassOf(err)
	var q *queue.Error
	switch {
	case errors.Is(err, unix.ENOSPC):
		h.Reason = "disk_full"
	case errors.Is(err, errAudit):
		h.Reason = "audit"
	case (class == keystore.ClassNone || class == keystore.ClassData) &&
		(errors.As(err, &q) || errors.Is(err, txn.ErrSeal) || errors.Is(err, queue.ErrDown) || errors.Is(err, queue.ErrWrongKEK)):
		h.Reason = "journal" // a wrong key for this journal, too, is no absent token
	case errors.Is(err, keystore.ErrPINLocked), errors.Is(err, keystore.ErrPINWrong), errors.Is(err, keystore.ErrPINUnusable):
		h.Reason = "token_locked"
	case errors.Is(err, keystore.ErrModule), errors.Is(err, keystore.ErrWorkerLost), errors.Is(err, keystore.ErrKeyChanged):
		h.Reason = "token_unusable" // it is there, and its driver is not, or crashes
	case errors.Is(err, keystore.ErrKeyNotFound), errors.Is(err, keystore.ErrKeyAmbiguous), errors.Is(err, keystore.ErrKeyWeak),
		errors.Is(err, keystore.ErrUnsupported), errors.Is(err, keystore.ErrRefused):
		h.Reason = "keys_missing"
	case class == keystore.ClassDevice, class == keystore.ClassSession:
		h.Reason = "token_absent"
	case class != keystore.ClassNone:
		h.Reason = "configuration"
	}
	return h
}
