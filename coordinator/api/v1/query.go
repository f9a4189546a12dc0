package v1

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// The parameters that are no filters.
const (
	paramFields   = "fields"
	paramLimit    = "limit"
	paramContinue = "continue"
	paramWatch    = "watch"
	paramRevision = "revision"
	// paramStale allows an understudy to answer.
	paramStale = "stale"
)

const (
	// maxLimit is the highest limit. Without one a list has everything.
	maxLimit = 10_000
	// maxQuery bounds a query, in bytes.
	maxQuery = 16 << 10
)

// query is what a client asks for.
type query struct {
	filters []chosen
	fields  []field // none for all
	limit   int     // zero for none
	after   string  // the key to go on after
	// from is the revision up to which a watch has been followed; nil if it begins.
	from  *int64
	stale bool
	named string // the field that has the id of an item
}

// chosen is a field and the values that it may have.
type chosen struct {
	field
	values []string
}

// verdict is what filters say of an item.
type verdict int

const (
	matches verdict = iota
	// other is what some filter leaves out, and always will.
	other
	// moved is what a filter leaves out now, and may not have before.
	moved
)

// judge says what the filters say of an item. Of one that is gone they know what Gone has of it.
func (q *query) judge(item any) verdict {
	of := reflect.ValueOf(item)
	gone, isGone := item.(Gone)
	said := matches
	for _, f := range q.filters {
		switch {
		case isGone:
			if f.name == q.named && !slices.Contains(f.values, gone.ID) ||
				f.name == "application" && !slices.Contains(f.values, gone.Application) {
				return other
			}
		case f.is(of, f.values):
		case f.fixed:
			return other
		default:
			said = moved
		}
	}
	return said
}

// Watches reports whether a request is for a watch.
func Watches(r *http.Request) bool {
	return r.URL.Query().Get(paramWatch) == "true" || strings.HasPrefix(r.Header.Get("Accept"), eventStream)
}

// known are the parameters that an endpoint takes besides filters.
var (
	ofLists   = []string{paramFields, paramLimit, paramContinue, paramStale}
	ofWatches = []string{paramFields, paramWatch, paramRevision, paramStale}
	ofItems   = []string{paramFields, paramStale}
)

// parse reads what a client asks for; more are the parameters that it may use besides filters.
func parse(r *http.Request, fields []field, more []string, filters bool) (*query, *Error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, BadRequest("the query is longer than %d bytes", maxQuery)
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, BadRequest("%s", err.Error())
	}
	q := &query{stale: values.Has(paramStale), named: "id"}
	for name, given := range values { // which of several mistakes is told does not matter
		if len(given) > 1 {
			return nil, BadRequest("%s is given %d times; several values are a list with commas", name, len(given))
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name && f.filter })
		var bad *Error
		switch {
		case filters && at >= 0:
			bad = q.choose(fields[at], given[0])
		case slices.Contains(more, name):
			bad = q.take(name, given[0], fields)
		default:
			bad = BadRequest("there is no parameter %s here", name)
		}
		if bad != nil {
			return nil, bad
		}
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" && slices.Contains(more, paramRevision) {
		return q, q.resume("Last-Event-ID", id)
	}
	return q, nil
}

func (q *query) choose(f field, list string) *Error {
	values := strings.Split(list, ",")
	for _, value := range values {
		if wrong := f.checked(value); wrong != "" {
			return BadRequest("%s", wrong)
		}
	}
	q.filters = append(q.filters, chosen{f, values})
	return nil
}

func (q *query) take(name, value string, fields []field) *Error {
	switch name {
	case paramFields:
		for want := range strings.SplitSeq(value, ",") {
			at := slices.IndexFunc(fields, func(f field) bool { return f.name == want })
			if at < 0 {
				return BadRequest("fields: there is no field %q", want)
			}
			if !slices.ContainsFunc(q.fields, func(f field) bool { return f.at == at }) {
				q.fields = append(q.fields, fields[at])
			}
		}
		slices.SortFunc(q.fields, func(a, b field) int { return a.at - b.at })
	case paramLimit:
		limit, err := strconv.Atoi(value)
		if err != nil || limit < 1 || limit > maxLimit {
			return BadRequest("limit: %q is not a number from 1 to %d", value, maxLimit)
		}
		q.limit = limit
	case paramContinue:
		after, err := base64.RawURLEncoding.DecodeString(value)
		if err != nil || value == "" {
			return BadRequest("continue: %q is not what a list has given", value)
		}
		q.after = string(after)
	case paramWatch:
		if value != "true" && value != "false" {
			return BadRequest("watch: %q is not true or false", value)
		}
	case paramRevision:
		return q.resume(paramRevision, value)
	}
	return nil
}

func (q *query) resume(name, value string) *Error {
	from, err := strconv.ParseInt(value, 10, 64)
	if err != nil || from < 0 {
		return BadRequest("%s: %q is not a revision", name, value)
	}
	q.from = &from
	return nil
}

// continued is the parameter of the page after a key.
func continued(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

// BadRequest is the answer to a request that is wrong.
func BadRequest(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, "BadRequest", fmt.Sprintf(format, args...)}
}

// NotFound is the answer to a request for what there is not.
func NotFound(format string, args ...any) *Error {
	return &Error{http.StatusNotFound, "NotFound", fmt.Sprintf(format, args...)}
}

// Unavailable is the answer of a replica that cannot answer now.
func Unavailable(message string) *Error {
	return &Error{http.StatusServiceUnavailable, "Unavailable", message}
}
