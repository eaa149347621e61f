// Package booth is a gardu without screen and token: the same journal, engine,
// providers, wire and audit record, driven by lines on standard input. It starts
// in milliseconds, so that it can be killed thousands of times.
//
// # Lines
//
// Both ways, one JSON object a line. In: a Command. Out: an Event, written in one
// call each, so that what was said before a kill is either there whole or not at
// all. At start every request in the journal is said (row), then ready.
//
// The keys lie in a file and not in a token: what is broken here is disk, process
// and network. Nothing of this is in a package of the product.
package booth

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gardu/internal/audit"
	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/txn"
)

// Config says where a booth keeps its things and whom it speaks with. It comes as
// one JSON file.
type Config struct {
	State  string `json:"state"`   // folder of journal and audit record
	KeyDir string `json:"key_dir"` // on tmpfs
	KEK    []byte `json:"kek"`     // 32 bytes
	PINKEK []byte `json:"pin_kek"` // 32 bytes
	Sign   []byte `json:"sign"`    // RSA, PKCS #8

	ClientID     string `json:"client_id"` // at Finpay and Netzme
	Finpay       string `json:"finpay"`    // host:port
	FinpaySecret string `json:"finpay_secret"`
	MerchantID   string `json:"merchant_id"`
	Origin       string `json:"origin"`
	ChannelID    string `json:"channel_id"`
	Netzme       string `json:"netzme"`
	NetzmeSecret string `json:"netzme_secret"`

	Prepaid       string `json:"prepaid"`
	PrepaidClient string `json:"prepaid_client"`
	BankID        string `json:"bank_id"`
	EnvelopeKey   []byte `json:"envelope_key"` // 24 bytes
	APIKey        string `json:"api_key"`
	SecureCode    string `json:"secure_code"`
	PINMax        int    `json:"pin_max"`

	Clock string `json:"clock"` // a file with how far somebody has set the wall clock, for example -438000h; may be missing

	CAFile string        `json:"ca_file"`
	Call   time.Duration `json:"call"`   // one call at most
	Quiet  time.Duration `json:"quiet"`  // "not there" counts only after this
	Settle time.Duration `json:"settle"` // a doubt without read-back is unresolved after this
}

// Commands.
const (
	DoAsk    = "ask"    // for a new request, or again for one whose answer was not heard
	DoSupply = "supply" // a one-time password
	DoAct    = "act"    // by an operator
)

// Command is one line in.
type Command struct {
	Do        string            `json:"do"`
	Key       string            `json:"key,omitempty"`
	Operation string            `json:"operation,omitempty"`
	Fields    map[string]string `json:"fields,omitempty"`
	ID        string            `json:"id,omitempty"`
	Secret    []byte            `json:"secret,omitempty"` // PIN or one-time password
	Act       string            `json:"act,omitempty"`    // cancel, inquire or retry
}

// What a booth says.
const (
	SaidRow     = "row"     // a request found in the journal at the start
	SaidReady   = "ready"   // Why says if the journal is behind its witness
	SaidFailed  = "failed"  // it cannot start; Why
	SaidStored  = "stored"  // to ask: the request is on disk
	SaidRefused = "refused" // to ask: nothing is stored
	SaidUnsure  = "unsure"  // to ask: it may be
	SaidChange  = "change"  // a request has a new state, which is on disk
)

// Event is one line out.
type Event struct {
	Event     string   `json:"event"`
	Key       string   `json:"key,omitempty"`
	ID        string   `json:"id,omitempty"`
	Operation string   `json:"operation,omitempty"`
	Customer  string   `json:"customer,omitempty"`
	Reference string   `json:"reference,omitempty"`
	State     string   `json:"state,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Await     string   `json:"await,omitempty"`
	External  []string `json:"external,omitempty"` // ids of the attempts
	Doubted   bool     `json:"doubted,omitempty"`  // an attempt came to nobody knows what
	Why       string   `json:"why,omitempty"`
}

// Run serves until standard input ends, and then lets calls under way finish. It
// has said why when it returns an error before ready.
func Run(ctx context.Context, file string, in io.Reader, out, logTo io.Writer) error {
	b, err := os.ReadFile(file) //nolint:gosec // G304: the campaign's own file
	if err != nil {
		return fmt.Errorf("read the booth's configuration: %w", err)
	}
	var cfg Config
	if err := json.Unmarshal(b, &cfg); err != nil {
		return fmt.Errorf("read the booth's configuration: %w", err)
	}
	o := &outlet{w: out}
	if err := run(ctx, &cfg, in, o, slog.New(slog.NewTextHandler(logTo, nil))); err != nil {
		o.say(Event{Event: SaidFailed, Why: err.Error()})
		return err
	}
	return nil
}

func run(ctx context.Context, cfg *Config, in io.Reader, o *outlet, log *slog.Logger) (err error) {
	trail, err := audit.Open(ctx, audit.Options{Path: filepath.Join(cfg.State, "audit.log"), Who: "agent", Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, trail.Close()) }()
	kek, err := newKEK("kek", cfg.KEK)
	if err != nil {
		return err
	}
	pins, err := newKEK("pin-kek", cfg.PINKEK)
	if err != nil {
		return err
	}
	db, err := queue.Open(ctx, queue.Options{
		Path: filepath.Join(cfg.State, "journal.db"), KeyDir: cfg.KeyDir, KEK: kek, PINKEK: pins,
		Kiosk: 43, Reserve: 512 << 10, Log: log, // so little that the file also grows
		Stamp: func() []byte { return trail.Head().Stamp() },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := trail.CompareStamp(ctx, db.StampOnDisk()); err != nil {
		return err
	}
	offers, err := cfg.offers(log)
	if err != nil {
		return err
	}
	behind := db.Behind()
	eng, err := txn.NewEngine(ctx, txn.Options{
		Store: db, Identity: db.Identity(), Offers: offers, Audit: recorder{trail}, Log: log,
		Limits: txn.Limits{CustomerHour: 1000, KioskHour: 1_000_000},
		Timing: txn.Timing{
			RetryBase: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond,
			ReadBase: 50 * time.Millisecond, ReadMax: 300 * time.Millisecond,
			Call: cfg.Call, Probe: time.Second, Drain: 2 * cfg.Call,
		},
		Behind: behind != "", Clock: cfg.clock(),
		OnChange: func(r *txn.Request) {
			e := eventOf(r)
			e.Event = SaidChange
			o.say(e)
		},
	})
	if err != nil {
		return err
	}
	if behind != "" {
		if err := db.AcceptBehind(ctx); err != nil {
			return err
		}
	}
	err = eng.Each(ctx, func(r *txn.Request, err error) error {
		if err != nil {
			return err
		}
		e := eventOf(r)
		e.Event = SaidRow
		o.say(e)
		return nil
	})
	if err != nil {
		return err
	}
	o.say(Event{Event: SaidReady, Why: behind})
	return serve(ctx, eng, in, o)
}

// serve runs the engine and obeys commands, each in a goroutine of its own, as
// they come.
func serve(ctx context.Context, eng *txn.Engine, in io.Reader, o *outlet) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	ended := make(chan error, 1)
	work.Go(func() { ended <- eng.Run(ctx) })
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var c Command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			stop()
			work.Wait()
			return fmt.Errorf("read a command: %w", err)
		}
		work.Go(func() { obey(ctx, eng, c, o) })
	}
	stop()
	work.Wait()
	return errors.Join(<-ended, lines.Err())
}

func obey(ctx context.Context, eng *txn.Engine, c Command, o *outlet) {
	sec := secret.New(c.Secret)
	defer sec.Wipe()
	switch c.Do {
	case DoAsk:
		n := txn.New{Key: c.Key, Operation: txn.Operation(c.Operation), Fields: c.Fields, VerifiedBy: "demo-clerk"}
		if sec.Len() > 0 {
			n.Secret = sec
		}
		r, err := eng.Accept(ctx, n)
		switch {
		case err == nil:
			e := eventOf(r)
			e.Event = SaidStored
			o.say(e)
		case errors.Is(err, txn.ErrStoreUnknown):
			o.say(Event{Event: SaidUnsure, Key: c.Key, Why: err.Error()})
		case ctx.Err() == nil:
			o.say(Event{Event: SaidRefused, Key: c.Key, Why: err.Error()})
		}
	case DoSupply:
		// What becomes of it is said by the request's next change.
		_, _ = eng.Supply(ctx, c.ID, sec)
	case DoAct:
		// Likewise. Most are refused: it is late, or may have been sent.
		o := txn.Order{ID: c.ID, Who: "operator", Why: "campaign"}
		switch c.Act {
		case txn.ActCancel:
			_, _ = eng.Withdraw(ctx, o)
		case txn.ActInquire:
			_, _ = eng.Inquire(ctx, o)
		case txn.ActRetry:
			_, _ = eng.Retry(ctx, o)
		}
	}
}

// clock is the machine's, with its wall clock as somebody has set it.
func (cfg *Config) clock() func() txn.Reading {
	read := txn.MachineClock()
	return func() txn.Reading {
		r := read()
		b, err := os.ReadFile(cfg.Clock)
		if err != nil {
			return r
		}
		if by, err := time.ParseDuration(string(b)); err == nil && by != 0 {
			r.Wall, r.Kept = r.Wall.Add(by), false
		}
		return r
	}
}

func eventOf(r *txn.Request) Event {
	e := Event{
		Key: r.Key, ID: r.ID, Operation: string(r.Operation), Customer: r.Customer, Reference: r.Reference,
		State: string(r.State), Reason: string(r.Reason), Await: string(r.Await),
	}
	for i := range r.Attempts {
		e.External = append(e.External, r.Attempts[i].ExternalID)
		e.Doubted = e.Doubted || r.Attempts[i].Outcome == txn.Unknown
	}
	return e
}

// outlet writes each event in one call: a pipe takes up to 4 KiB whole.
type outlet struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (o *outlet) say(e Event) {
	b, err := json.Marshal(e)
	if err != nil {
		return // an Event of strings always marshals
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.w.Write(append(b, '\n')) // who is not listened to goes on all the same
}
