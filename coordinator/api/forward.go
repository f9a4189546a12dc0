package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"time"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
)

// retryAfter is in how many seconds somebody else may lead.
const retryAfter = "1"

// forward has the lead answer. It passes on whatever the lead says, its name included, and
// follows no redirection.
func (a *API) forward(w http.ResponseWriter, r *http.Request, s Standing, streams bool) {
	from := r.Header.Get(HeaderForwarded)
	switch {
	case from != "":
		a.unavailable(w, r, s, fmt.Sprintf("%s took this replica for the lead, which it is not, or not yet", from))
		return
	case s.LeadAddress == "" && s.Lead == "":
		a.unavailable(w, r, s, "No replica leads at the moment")
		return
	case s.LeadAddress == "":
		a.unavailable(w, r, s, fmt.Sprintf("The lead %s does not serve this interface to other replicas", s.Lead))
		return
	}
	if streams {
		control := http.NewResponseController(w)
		if err := endless(control); err != nil {
			a.unavailable(w, r, s, err.Error())
			return
		}
		w = paced{w, control}
	}
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = a.cfg.Scheme, s.LeadAddress
			p.Out.Host = p.In.Host
			p.Out.Header.Set(HeaderForwarded, s.Replica)
		},
		Transport: a.cfg.Forward,
		ErrorLog:  slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		ModifyResponse: func(answer *http.Response) error {
			answer.Header.Set(HeaderVia, s.Replica)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			a.log.Debug("the lead did not answer a request that was passed on", "lead", s.Lead, "err", err)
			a.unavailable(w, r, s, "The lead does not answer")
		},
	}
	if streams {
		proxy.FlushInterval = -1 // each event at once
	}
	proxy.ServeHTTP(w, r)
}

// unavailable asks the client to come again.
func (a *API) unavailable(w http.ResponseWriter, r *http.Request, s Standing, why string) {
	writeHeaders(w, r.Method)
	sign(w, s)
	if ours(r) {
		apiv1.Unavailable(why).Write(w)
		return
	}
	w.Header().Set("Retry-After", retryAfter)
	(&refusal{http.StatusServiceUnavailable, why}).write(w)
}

// paced gives a client of an endless answer only so much time for each piece of it, as the
// lead does with its own: who does not read is left.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (p paced) Write(b []byte) (int, error) {
	if err := p.control.SetWriteDeadline(time.Now().Add(streamDeadline)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap lets what is written be flushed.
func (p paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }
