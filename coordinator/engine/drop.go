package engine

import (
	"context"
	"fmt"
)

// Drop takes an application out of the core with all it has there, asks,
// allocations and placeholders, and forgets it. It returns when the core has
// given everything back, so that the application can be fed anew from the
// beginning, with SubmitApp and what it has. It may be called of a held engine,
// and of an application that the engine does not have. Nothing is said of the
// application's end.
func (e *Engine) Drop(ctx context.Context, appID string) error {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return ErrStopped
	}
	err := e.forgetApp(appID)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	// Retiring is a chore; what it has put off comes after it.
	for range 2 {
		if err := e.chored(ctx); err != nil {
			return fmt.Errorf("drop application %s: %w", appID, err)
		}
	}
	if err := e.barrier(ctx); err != nil {
		return fmt.Errorf("drop application %s: %w", appID, err)
	}
	return nil
}
