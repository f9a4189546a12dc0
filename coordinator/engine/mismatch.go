package engine

import (
	"context"
	"errors"
	"fmt"
)

// Mismatch is where the core's account of an application is not the ledger's.
type Mismatch struct {
	// App is empty where the account of a queue is not that of its applications.
	App, Queue, Resource string
	Engine, Ledger       int64
}

func (m Mismatch) String() string {
	return fmt.Sprintf("application %s in queue %s: %s is %d, not %d", m.App, m.Queue, m.Resource, m.Engine, m.Ledger)
}

var errNotYet = errors.New("the engine cannot do that yet")

// Drop takes an application with all its allocations out of a held core.
func (e *Engine) Drop(context.Context, string) error { return errNotYet }
