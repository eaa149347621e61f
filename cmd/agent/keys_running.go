package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gardu/internal/admin"
	"gardu/internal/keystore"
	"gardu/internal/queue"
)

// verbKeys has the running agent look for new generations of its keys, move the
// journal to the newest, and say what is in use.
const verbKeys = "keys.refresh"

// keysInUse is the answer.
type keysInUse struct {
	Keys    map[string]string `json:"keys"`    // by the name that the configuration gives, the generation in use
	Journal []string          `json:"journal"` // what the journal still needs; nil where it is not open
	Secrets []string          `json:"secrets"` // what PINs and one-time passwords still need; likewise
	Shown   []string          `json:"shown"`   // fingerprints of the keys whose certificates providers are shown
	Failed  string            `json:"failed,omitempty"`
}

func (k *keysInUse) say() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(k.Keys)) {
		if keystore.ParseName(k.Keys[name]).Number > 1 {
			parts = append(parts, k.Keys[name])
		}
	}
	s := "it runs and uses the newest generations now"
	if len(parts) > 0 {
		s += " (" + strings.Join(parts, ", ") + ")"
	}
	if k.Failed != "" {
		s += "; but " + k.Failed
	}
	return s
}

// uses is the generation in use of the key of a name; empty where the agent does not
// know.
func (k *keysInUse) uses(base string) string {
	for name, generation := range k.Keys {
		if u, err := keystore.ParseURI(name); err == nil && keystore.ParseName(u.Object).Base == base {
			return generation
		}
	}
	return ""
}

// ofJournal says whether an error, or one of several, is about a key of the journal,
// without which no request can be kept.
func (ag *agent) ofJournal(err error) bool {
	if e, ok := err.(*keystore.Error); ok && (e.Object == ag.keks.main.ID() || e.Object == ag.keks.pins.ID()) { //nolint:errorlint // this error and, below, each one in it
		return true
	}
	switch e := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), ag.ofJournal)
	case interface{ Unwrap() error }:
		return ag.ofJournal(e.Unwrap())
	}
	return false
}

func (ag *agent) setJournal(db *queue.DB) {
	ag.mu.Lock()
	defer ag.mu.Unlock()
	ag.journal = db
}

// keysVerb adds the verb of the keys.
func (ag *agent) keysVerb(verbs map[string]admin.Verb) map[string]admin.Verb {
	verbs[verbKeys] = admin.Verb{Do: func(ctx context.Context, _ json.RawMessage, _ admin.Peer) (any, error) {
		var now keysInUse
		keys, err := ag.keys.Refresh(ctx)
		if err != nil {
			now.Failed = err.Error()
		}
		now.Keys = keys
		ag.mu.Lock()
		db := ag.journal
		now.Shown = slices.Sorted(maps.Values(ag.shown))
		ag.mu.Unlock()
		if db == nil {
			return now, nil
		}
		if err := ag.moveJournal(ctx, db); err != nil {
			now.Failed = errors.Join(err, errors.New(now.Failed)).Error()
		}
		if now.Journal, err = db.KEKs(); err != nil {
			return nil, err
		}
		if now.Secrets, err = db.SecretKEKs(); err != nil {
			return nil, err
		}
		now.Secrets = append([]string{}, now.Secrets...) // not nil: the journal is open
		return now, nil
	}}
	return verbs
}

// moveJournal wraps the journal's keys by the newest generation of its KEK, where
// another one still wraps some. One at a time: who comes while it is under way is told
// when it is done, and not that there is nothing to do.
func (ag *agent) moveJournal(ctx context.Context, db *queue.DB) error {
	ag.moving.Lock()
	defer ag.moving.Unlock()
	to, err := ag.keks.main.Newest(ctx)
	if err != nil {
		return err
	}
	now, err := db.KEKs()
	if err != nil || len(now) == 1 && now[0] == to {
		return err
	}
	move := to + " from " + strings.Join(now, ", ")
	if move == ag.moved {
		return nil // what is left does not open, and that was said
	}
	n, err := db.Rewrap(ctx)
	if err != nil {
		ag.moved = ""
		return fmt.Errorf("move the journal to %s: %w", to, err)
	}
	ag.moved = move
	if n > 0 {
		ag.log.Info("the journal moved to another generation of its key", "kek", to, "keys", n)
	}
	return nil
}
