package serve

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
)

// probe answers /livez or /readyz from those checks that count for it, in the
// words and the layout of the Kubernetes components' own probes.
type probe struct {
	source Source
	name   string
	counts func(Check) bool
}

func (p probe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var list strings.Builder
	failed := 0
	for _, c := range p.source.Checks() {
		switch {
		case !p.counts(c):
		case c.Err == nil:
			fmt.Fprintf(&list, "[+]%s ok\n", c.Name)
		default:
			failed++
			// One line a check, whatever the error looks like.
			fmt.Fprintf(&list, "[-]%s failed: %s\n", c.Name, strings.Join(strings.Fields(c.Err.Error()), " "))
		}
	}

	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if failed > 0 {
		// The reason is shown without being asked for: kubelet puts the body of
		// a failed probe into the pod's events.
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%s%s check failed\n", list.String(), p.name)
		return
	}
	if r.URL.Query().Has("verbose") {
		fmt.Fprintf(w, "%s%s check passed\n", list.String(), p.name)
		return
	}
	fmt.Fprint(w, "ok")
}

func status(source Source, log *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		now := source.Status()
		// Lists that are empty are shown as such, not as null.
		now.Suspended = append([]string{}, now.Suspended...)
		now.Terms = append([]Term{}, now.Terms...)
		body, err := json.MarshalIndent(now, "", "  ")
		if err != nil {
			log.Error("cannot encode the status", "error", err)
			http.Error(w, "cannot encode the status: "+err.Error(), http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write(append(body, '\n')) // The client has gone: nobody to tell.
	}
}

// index says what is here, for a person with a browser.
func index(cfg Config) http.HandlerFunc {
	text := "understudy\n\n/livez\n/readyz?verbose\n/statusz\n/metrics\n"
	if cfg.Profiling {
		text += "/debug/pprof/\n"
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, text)
	}
}
