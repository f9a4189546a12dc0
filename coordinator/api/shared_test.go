package api_test

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/coordinator/changes"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// waits is one request and what has come of it.
type waits struct {
	*httptest.ResponseRecorder
	sent          atomic.Int64 // bytes
	done, aborted bool
	leave         context.CancelFunc
}

func (w *waits) Write(b []byte) (int, error) {
	w.sent.Add(int64(len(b)))
	return w.ResponseRecorder.Write(b)
}

// request asks for a list at once, and goes on.
func request(handler http.Handler, path, encoding string) *waits {
	ctx, leave := context.WithCancel(context.Background())
	a := &waits{ResponseRecorder: httptest.NewRecorder(), leave: leave}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Header.Set("Accept-Encoding", encoding)
	go func() {
		defer func() { a.done, a.aborted = true, recover() != nil }()
		handler.ServeHTTP(a, r)
	}()
	synctest.Wait()
	return a
}

// A list that is made is for those who came before it was begun. Who comes later gets the next,
// all of them the same one.
func TestListsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, proceed := 0, make(chan struct{})
		handler := api.Shared(func(w http.ResponseWriter, _ *http.Request) {
			made++
			w.Header().Set("X-Made", fmt.Sprint(made))
			w.WriteHeader(http.StatusTeapot)
			<-proceed
			_, _ = io.WriteString(w, strings.Repeat("list ", 1000)+fmt.Sprint(made))
		})
		first := request(handler, "/list", "gzip")
		later := []*waits{request(handler, "/list", "gzip"), request(handler, "/list", ""), request(handler, "/list", "gzip")}
		if made != 1 {
			t.Fatalf("%d lists are made while the first is not done", made)
		}
		later[2].leave() // nobody else minds
		proceed <- struct{}{}
		synctest.Wait()
		if !first.done || later[0].done || made != 2 {
			t.Fatalf("the first is done: %v, the second: %v; %d are made", first.done, later[0].done, made)
		}
		proceed <- struct{}{}
		synctest.Wait()
		for i, a := range append(later[:2], first) {
			body, zipped := io.Reader(a.Body), a.Header().Get("Content-Encoding") == "gzip"
			if zipped {
				unzipped, err := gzip.NewReader(a.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = unzipped
			}
			text, err := io.ReadAll(body)
			want := []string{"2", "2", "1"}[i]
			if err != nil || a.Code != http.StatusTeapot || zipped != (i != 1) || a.Header().Get("X-Made") != want || !strings.HasSuffix(string(text), "list "+want) || len(text) != 5001 {
				t.Errorf("%d: status %d, headers %v, %d bytes, %v; want that of %s", i, a.Code, a.Header(), len(text), err, want)
			}
		}
		request(handler, "/list?other", "")
		if made != 3 {
			t.Error("another list is taken for the same")
		}
		close(proceed)
	})
}

// What nobody waits for any more is not made, and begun anew for who comes then.
func TestListsThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made, ended atomic.Int32
		handler := api.Shared(func(w http.ResponseWriter, r *http.Request) {
			made.Add(1)
			select {
			case <-r.Context().Done():
				ended.Add(1)
			case <-time.After(time.Hour):
				_, _ = io.WriteString(w, "list")
			}
		})
		under, waits := request(handler, "/list", ""), request(handler, "/list", "")
		waits.leave()
		synctest.Wait()
		under.leave()
		synctest.Wait()
		if made.Load() != 1 || ended.Load() != 1 {
			t.Errorf("%d are made, %d ended", made.Load(), ended.Load())
		}
		again := request(handler, "/list", "")
		time.Sleep(time.Hour)
		synctest.Wait()
		if again.Body.String() != "list" || again.aborted {
			t.Errorf("who comes then gets %q", again.Body)
		}
	})
}

// What is sent to all who share a list is spread over time.
func TestListsAreSentOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noise := make([]byte, 8<<20)
		_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
		handler := api.Shared(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			_, _ = w.Write(noise)
		})
		all := []*waits{request(handler, "/list", "gzip"), request(handler, "/list", ""), request(handler, "/list", "gzip"), request(handler, "/list", "gzip")}
		time.Sleep(2500 * time.Millisecond) // the others share the second list
		synctest.Wait()
		sent := int64(0)
		for _, a := range all {
			sent += a.sent.Load()
		}
		if sent < 12<<20 || sent > 30<<20 {
			t.Errorf("%d bytes are sent half a second after that", sent)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for i, a := range all {
			if !a.done || a.aborted || a.Body.Len() < len(noise) {
				t.Errorf("%d is done: %v, aborted: %v, has %d bytes", i, a.done, a.aborted, a.Body.Len())
			}
		}
	})
}

// A list that breaks off is nobody's.
func TestListsThatBreakOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		handler := api.Shared(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "half")
			if broken {
				panic(http.ErrAbortHandler)
			}
		})
		all := []*waits{request(handler, "/list", ""), request(handler, "/list", ""), request(handler, "/list", "")}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for i, a := range all {
			if !a.aborted || a.Body.Len() > 0 {
				t.Errorf("%d: aborted %v, %q", i, a.aborted, a.Body)
			}
		}
		broken = false
		again := request(handler, "/list", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if again.Body.String() != "half" {
			t.Errorf("the next is %q", again.Body)
		}
	})
}

// Who reads leaves processors to who schedules: work rests for as long as it has taken. What is
// short does not wait.
func TestAnswersRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		take := api.Turns(nil)
		began := time.Now()
		for range 3 {
			take(t.Context(), func() { time.Sleep(100 * time.Microsecond) })
		}
		if short := time.Since(began); short != 300*time.Microsecond {
			t.Errorf("three short answers take %v", short)
		}
		take(t.Context(), func() { time.Sleep(time.Second) })
		began = time.Now()
		var next time.Duration
		take(t.Context(), func() { next = time.Since(began) })
		if next < time.Second {
			t.Errorf("work goes on after %v", next)
		}
		take(t.Context(), func() { time.Sleep(time.Second) })
		gone, leave := context.WithCancel(t.Context())
		leave()
		if take(gone, func() { t.Error("work is done for who has gone") }) {
			t.Error("it is said to have been done")
		}
	})
}

// While pods are scheduled it rests longer, and no longer than they are.
func TestAnswersRestLongerUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := changes.New(10)
		take := api.Turns(log)
		work := func() { time.Sleep(100 * time.Millisecond) }
		rested := func() time.Duration { // after work
			began := time.Now()
			take(t.Context(), func() {})
			return time.Since(began)
		}
		for _, step := range []struct {
			name   string
			change bool
			after  time.Duration
			want   time.Duration
		}{
			{"nothing has ever changed", false, 0, 100 * time.Millisecond},
			{"a record has changed", true, 0, 300 * time.Millisecond},
			{"it was a moment ago", false, 0, 300 * time.Millisecond},
			{"it was a while ago", false, time.Second, 100 * time.Millisecond},
			{"another has changed", true, time.Second, 300 * time.Millisecond},
		} {
			time.Sleep(step.after)
			if step.change {
				log.Note([]ledger.Change{{}}, log.Newest().Revision+1, true)
			}
			take(t.Context(), work)
			if got := rested(); got != step.want {
				t.Errorf("%s: rested for %v", step.name, got)
			}
		}
	})
}
