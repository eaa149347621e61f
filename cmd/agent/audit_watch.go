package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gardu/internal/audit"
)

// errAudit: the audit record cannot be written. Nothing is sent without it, so new
// requests would only wait.
var errAudit = errors.New("the audit record cannot be written")

// auditWatch remembers whether the audit record took what it was last given.
type auditWatch struct {
	mu  sync.Mutex // guards err
	err error
}

func (w *auditWatch) told(err error) {
	if w == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // who gave up says nothing of the record
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

func (w *auditWatch) last() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// stands is an error as long as the record takes nothing. One that failed is tried
// again with a record of that.
func (w *auditWatch) stands(ctx context.Context, trail *audit.Trail) error {
	before := w.last()
	if before == nil {
		return nil
	}
	_, err := trail.Append(ctx, audit.Entry{Act: "audit.resume", Who: agentName, Attrs: map[string]string{"after": before.Error()}, Sync: true})
	w.told(err)
	if err != nil {
		return fmt.Errorf("%w: %w", errAudit, err)
	}
	return nil
}
