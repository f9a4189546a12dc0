package api

import (
	"context"
	"net/http"
	"strings"
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
	return &shared{handle: handle, turns: newTurns(), lines: newLines()}
}

func Turns() func(ctx context.Context, work func()) bool {
	t := make(turns, 1)
	t <- new(turn)
	return t.take
}
