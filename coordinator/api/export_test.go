package api

import "strings"

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
