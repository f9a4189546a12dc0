package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/webservice/dao"
	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"

	"github.com/understudy-ha/understudy/coordinator/api"
	"github.com/understudy-ha/understudy/replica/chronicle"
)

// told is a source of events that a test says.
type told struct {
	mu    sync.Mutex
	queue []*si.EventRecord
}

func (s *told) say(from, to int, pad string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := from; i < to; i++ {
		s.queue = append(s.queue, &si.EventRecord{ObjectID: fmt.Sprint("event ", i), Message: pad, TimestampNano: time.Now().UnixNano()})
	}
}

func (s *told) Read(most int) ([]*si.EventRecord, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(most, len(s.queue))
	events := s.queue[:n]
	s.queue = s.queue[n:]
	return events, 0
}

// leading serves a lead whose chronicle begins with what older leads have written.
func (w *world) leading(t *testing.T, past chronicle.Past, change func(*chronicle.Config)) (url string, source *told, log *chronicle.Log) {
	t.Helper()
	cfg := chronicle.Default()
	cfg.Prefix = "/p"
	if change != nil {
		change(&cfg)
	}
	log, err := chronicle.New(cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	source = &told{}
	ctx, stop := context.WithCancel(context.Background())
	var keeping sync.WaitGroup
	keeping.Go(func() {
		log.Keep(ctx, chronicle.Lead{
			Writer: atOnce{}, Events: source, Count: func() (int, int, bool) { return 0, 0, false },
			Load: func(context.Context) (chronicle.Past, error) { return past, nil },
		})
	})
	own := api.New(api.Config{Chronicle: log, Scheme: "http"}, w, discard)
	server := httptest.NewServer(own)
	t.Cleanup(func() { own.Shutdown(); server.CloseClientConnections(); server.Close(); stop(); keeping.Wait() })
	return server.URL, source, log
}

func pastOf(log *chronicle.Log) chronicle.Past {
	b := log.Batch(log.Lowest(), 1<<20)
	return chronicle.Past{ID: b.ID, Runs: []chronicle.Run{{First: b.Lowest, Last: b.Highest, Events: b.Events}}}
}

// lines reads a stream of events.
type lines struct {
	*bufio.Scanner
	resp *http.Response
}

func follow(t *testing.T, url, query string) lines {
	t.Helper()
	resp, err := client.Get(url + "/ws/v1/events/stream" + query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	return lines{in, resp}
}

// next returns what the next n events are about.
func (l lines) next(t *testing.T, n int) (about []string) {
	t.Helper()
	for range n {
		if !l.Scan() {
			t.Fatalf("the stream has ended after %v: %v", about, l.Err())
		}
		var e si.EventRecord
		if err := json.Unmarshal(l.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		about = append(about, e.ObjectID)
	}
	return about
}

func upTo(from, to int) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint("event ", i))
	}
	return strings.Join(all, ",")
}

// TestAClientGoesOnAfterAFailover: one that follows events, and counts them, goes on with any
// replica of the next lead where it was, and misses and repeats nothing.
func TestAClientGoesOnAfterAFailover(t *testing.T) {
	w := theWorld(t)
	past := chronicle.Past{ID: "the same"}
	var seen []string
	next, said := 0, 0
	for term := range 3 {
		url, source, log := w.leading(t, past, nil)
		source.say(said, said+30, "")
		in := follow(t, behind(url).serve(t), fmt.Sprintf("?start=%d", next))
		if !in.Scan() || !strings.Contains(in.Text(), `"InstanceUUID":"the same"`) {
			t.Fatalf("term %d: %q", term, in.Text())
		}
		if first := in.resp.Header.Get(api.HeaderEvent); first != strconv.Itoa(next) {
			t.Errorf("term %d: the stream begins with event %s, want %d", term, first, next)
		}
		got := in.next(t, said+20-next) // and not all of them
		seen = append(seen, got...)
		said, next = said+30, next+len(got)
		if err := until("all are kept", func() bool { return int(log.Batch(0, 1).Highest) == said-1 }); err != nil {
			t.Fatal(err)
		}
		_, body := send(t, http.MethodGet, url+"/ws/v1/events/batch?start=5&count=3", "")
		batch := decode[dao.EventRecordDAO](t, body)
		if batch.InstanceUUID != "the same" || batch.LowestID != 0 || int(batch.HighestID) != said-1 || len(batch.EventRecords) != 3 || batch.EventRecords[0].ObjectID != "event 5" {
			t.Errorf("term %d: %s", term, body)
		}
		past = pastOf(log)
	}
	if got := strings.Join(seen, ","); got != upTo(0, len(seen)) {
		t.Errorf("seen %s", got)
	}
}

// TestStartOfAStream: what is not kept any more is left out, and said to be; what has not been
// is refused.
func TestStartOfAStream(t *testing.T) {
	w := theWorld(t)
	url, source, log := w.leading(t, chronicle.Past{ID: "x"}, func(c *chronicle.Config) { c.Events = 10 })
	source.say(0, 30, "")
	if err := until("all are kept", func() bool { return log.Batch(0, 1).Highest == 29 }); err != nil {
		t.Fatal(err)
	}
	in := follow(t, url, "?start=3")
	in.Scan()
	if got := strings.Join(in.next(t, 10), ","); got != upTo(20, 30) || in.resp.Header.Get(api.HeaderEvent) != "20" {
		t.Errorf("%s from %s on", got, in.resp.Header.Get(api.HeaderEvent))
	}
	in = follow(t, url, "?count=1000")
	in.Scan()
	if got := strings.Join(in.next(t, 10), ","); got != upTo(20, 30) {
		t.Errorf("the newest thousand are %s", got)
	}
	for query, status := range map[string]int{"?start=31": 400, "?start=-1": 400, "?start=x": 400, "?count=-1": 400, "?start=30": 200} {
		if resp := follow(t, url, query).resp; resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", query, resp.StatusCode, status)
		}
	}
}

// TestEventsOfOlderLeadsAreWaitedFor: a client is not told of a beginning that is none, of events and
// of samples.
func TestEventsOfOlderLeadsAreWaitedFor(t *testing.T) {
	w := theWorld(t)
	server := httptest.NewServer(api.New(api.Config{}, w, discard)) // which will never know
	defer server.Close()
	var asking sync.WaitGroup
	for _, path := range []string{"/ws/v1/events/batch", "/ws/v1/events/stream", "/ws/v1/history/apps", "/ws/v1/history/containers", "/api/v1/events"} {
		asking.Go(func() {
			resp, body := send(t, http.MethodGet, server.URL+path, "")
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "not known yet") {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
		})
	}
	asking.Wait()
}

// TestStreamsThatStall: 100 streams, half of which read nothing, cost bounded memory and delay
// nobody.
func TestStreamsThatStall(t *testing.T) {
	w := theWorld(t)
	url, source, log := w.leading(t, chronicle.Past{ID: "x"}, nil)
	const streams, events = 100, 5000
	pad := strings.Repeat("x", 1000)
	stalled := func(host int) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.(*net.TCPConn).SetReadBuffer(1024); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /ws/v1/events/stream HTTP/1.1\r\nHost: h%d\r\n\r\n", host)
	}
	var readers sync.WaitGroup
	failed := make(chan string, streams)
	for i := range streams / 2 {
		stalled(i)
		request, err := http.NewRequest(http.MethodGet, url+"/ws/v1/events/stream?start=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = fmt.Sprint("r", i)
		resp, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer resp.Body.Close()
			in := bufio.NewScanner(resp.Body)
			n := 0
			for n <= events && in.Scan() {
				n++
			}
			if n <= events {
				failed <- fmt.Sprintf("%d: a stream ended after %d events: %v", resp.StatusCode, n, in.Err())
			}
		})
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range events / 100 {
		source.say(100*i, 100*i+100, pad)
	}
	if err := until("all are kept, though some read nothing", func() bool { return log.Batch(0, 1).Highest == events-1 }); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	close(failed)
	for why := range failed {
		t.Error(why)
	}
	// The events are 5 MB, and held once; a queue for each stream would be 500 MB.
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("%d bytes more are in use", grown)
	}
}
