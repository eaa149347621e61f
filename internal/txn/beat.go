package txn

import (
	"context"
	"fmt"
)

// Beat returns nil once Run's loop has turned, so that who supervises the program
// knows that requests are still being looked at. A loop that hangs, in a lock or in
// the journal, lets ctx end first. After the end of Run there is no loop and
// nothing to fear: nil. Run is to be called once.
func (e *Engine) Beat(ctx context.Context) error {
	turned := make(chan struct{})
	select {
	case e.beats <- turned:
	case <-e.over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the engine's loop: %w", context.Cause(ctx))
	}
	select {
	case <-turned:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the engine's loop: %w", context.Cause(ctx))
	}
}
