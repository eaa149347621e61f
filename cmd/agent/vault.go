package main

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"gardu/internal/queue"
	"gardu/internal/secret"
	"gardu/internal/snap"
)

// vault is where providers keep customers' tokens: the journal that is open at the
// moment. The providers outlive it.
type vault struct{ db atomic.Pointer[queue.DB] }

var _ snap.Vault = (*vault)(nil)

var errNoJournal = errors.New("the journal is not open")

// Grant implements snap.Vault.
func (v *vault) Grant(ctx context.Context, provider, customer string) (*secret.Value, error) {
	db := v.db.Load()
	if db == nil {
		return nil, errNoJournal
	}
	return db.Grant(ctx, provider, customer)
}

// KeepGrant implements snap.Vault.
func (v *vault) KeepGrant(ctx context.Context, provider, customer string, s *secret.Value, until time.Time) error {
	db := v.db.Load()
	if db == nil {
		return errNoJournal
	}
	return db.KeepGrant(ctx, provider, customer, s, until)
}

// DropGrant implements snap.Vault.
func (v *vault) DropGrant(ctx context.Context, provider, customer string) error {
	db := v.db.Load()
	if db == nil {
		return errNoJournal
	}
	return db.DropGrant(ctx, provider, customer)
}
