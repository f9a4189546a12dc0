package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/understudy-ha/understudy/coordinator/changes"
)

// Route is one endpoint, as tests see it.
type Route struct {
	Method, Pattern string
	Local, Streams  bool
}

// Routes are the endpoints of an API but for those of the Go runtime.
func (a *API) Routes() (all []Route) {
	for _, r := range a.routes() {
		if !strings.HasPrefix(r.pattern, "/debug/pprof/") {
			all = append(all, Route{r.method, r.pattern, r.local, r.streams})
		}
	}
	return all
}

// What the core's objects alone say.
var (
	ApplicationOf = applicationOf
	NodeOf        = nodeOf
	AskOf         = askOf
	PlaceholderOf = placeholderOf
)

// Shared answers with handle as long lists are answered with, and Turns does work as answers do,
// one at a time.
func Shared(handle http.HandlerFunc) http.Handler {
	return &shared{handle: handle, turns: newTurns(nil), lines: newLines()}
}

func Turns(log *changes.Log) func(ctx context.Context, work func()) bool {
	t := turns{make(chan *turn, 1), log}
	t.free <- new(turn)
	return t.take
}
