package api

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"

	apiv1 "github.com/understudy-ha/understudy/coordinator/api/v1"
	"github.com/understudy-ha/understudy/coordinator/changes"
)

// The content types of answers.
const (
	contentJSON = "application/json; charset=UTF-8"
	contentYAML = "application/x-yaml; charset=UTF-8"
)

// writeHeaders is what every answer of the core carries.
func writeHeaders(w http.ResponseWriter, method string) {
	methods := "GET, OPTIONS"
	if method == http.MethodPost {
		methods = "OPTIONS, POST"
	}
	h := w.Header()
	h.Set("Content-Type", contentJSON)
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", methods)
	h.Set("Access-Control-Allow-Headers", "X-Requested-With,Content-Type,Accept,Origin")
}

// refusal is an answer that is an error, with the body that the core gives it.
type refusal struct {
	code   int
	detail string
}

func (r *refusal) write(w http.ResponseWriter) {
	w.WriteHeader(r.code)
	_ = json.NewEncoder(w).Encode(dao.NewYAPIError(nil, r.code, r.detail)) // the client has gone: nobody to tell
}

// Refuse answers a request that is not let through, in the form of the errors of what it asks for.
func Refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	writeHeaders(w, r.Method)
	if ours(r) {
		(&apiv1.Error{Status: status, Reason: http.StatusText(status), Message: why}).Write(w)
		return
	}
	(&refusal{status, why}).write(w)
}

func badRequest(detail string) *refusal { return &refusal{http.StatusBadRequest, detail} }
func notFound(detail string) *refusal   { return &refusal{http.StatusNotFound, detail} }
func failed(detail string) *refusal     { return &refusal{http.StatusInternalServerError, detail} }

// turns bound what answers take of the processors. Between turns a client that reads slowly
// holds none.
type turns struct {
	free chan *turn
	// changes are those of the records, nil if nothing changes.
	changes *changes.Log
}

// turn is one of them.
type turn struct {
	worked time.Duration // since it last rested
	// seen is how far the changes were when they were last seen to have gone on, at moved.
	seen  changes.Position
	moved time.Time
}

const (
	// stint is for how long a turn works before it rests for as long. Short answers do not wait.
	stint = time.Millisecond
	// While pods are scheduled it rests for restUnderLoad times as long: until no record has
	// changed for loadLasts.
	restUnderLoad = 3
	loadLasts     = 500 * time.Millisecond
)

// atOnce is how many answers are made at the same time: it leaves the scheduler half of the
// processors.
func atOnce() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// newTurns has half of the processors used for half of the time, so that those who read
// leave three quarters of the machine to those who schedule, and seven eighths while these have
// something to do.
func newTurns(log *changes.Log) turns {
	t := turns{make(chan *turn, atOnce()), log}
	for range cap(t.free) {
		t.free <- new(turn)
	}
	return t
}

// take does work in turn. It reports false if ctx ends first.
func (t turns) take(ctx context.Context, work func()) bool {
	var mine *turn
	select {
	case mine = <-t.free:
	case <-ctx.Done():
		return false
	}
	defer t.giveBack(mine, time.Now())
	work()
	return true
}

// giveBack gives a turn back, once it has rested. It does not wait.
func (t turns) giveBack(mine *turn, since time.Time) {
	mine.worked += time.Since(since)
	if mine.worked < stint {
		t.free <- mine
		return
	}
	rest := mine.worked
	if t.underLoad(mine) {
		rest *= restUnderLoad
	}
	mine.worked = 0
	time.AfterFunc(rest, func() { t.free <- mine })
}

// underLoad says whether records have changed lately, which they do with each pod that is
// scheduled.
func (t turns) underLoad(mine *turn) bool {
	if t.changes == nil {
		return false
	}
	if newest := t.changes.Newest(); newest != mine.seen {
		mine.seen, mine.moved = newest, time.Now()
	}
	return time.Since(mine.moved) < loadLasts
}

// write answers with what get returns, which is made in turn.
func (t turns) write(w http.ResponseWriter, r *http.Request, get func() any) {
	var body []byte
	var err error
	if !t.take(r.Context(), func() { body, err = json.Marshal(get()) }) {
		return // the client has gone
	}
	if err != nil {
		failed(err.Error()).write(w)
		return
	}
	_, _ = w.Write(append(body, '\n')) // The client has gone: nobody to tell.
}

// listBuffer is how much of a list is made before it is written, in bytes.
const listBuffer = 32 << 10

// writeList answers with a list of which one element at a time is made, in turn, and
// written: what a list of many applications takes of memory does not depend on how many
// clients ask for it. The bytes are those of an encoder that is given the whole list.
func writeList[T any](t turns, w http.ResponseWriter, r *http.Request, elements []T, get func(T) any) {
	out := bufio.NewWriterSize(w, listBuffer)
	_ = out.WriteByte('[')
	for i, element := range elements {
		var body []byte
		var err error
		done := t.take(r.Context(), func() { body, err = json.Marshal(get(element)) })
		if !done || err != nil {
			panic(http.ErrAbortHandler) // half of a list must not pass for all of it
		}
		if i > 0 {
			_ = out.WriteByte(',')
		}
		if _, err := out.Write(body); err != nil {
			return // the client has gone
		}
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush()
}
