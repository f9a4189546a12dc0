package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/understudy-ha/understudy/e2e/drill"
	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
)

// ReadersOptions says what is measured of those who read over YuniKorn's REST interface.
type ReadersOptions struct {
	Lab lab.Options
	// Apps of one pod each, which all keep running, and are what clients list. They are spread
	// over Queues: the core looks at all applications of a queue for each pod that it places there.
	Apps, Queues int
	// Rate in pods a second that are bound meanwhile, for Duration in each half of each of
	// the Rounds: one half with Clients that list all applications without a pause, spread
	// over the replicas, and one without. They run on the same machine, so that they take what
	// they are sent as it is: one of them unzips and counts its first list.
	Rate     float64
	Duration time.Duration
	Rounds   int
	Clients  int
	// Streams of events stay open from the beginning. Every other one is never read.
	Streams int
	// Limit bounds each load.
	Limit time.Duration
	// Out is told what is being done.
	Out io.Writer
}

// DefaultReaders is what `lab bench readers` measures.
func DefaultReaders() ReadersOptions {
	o := ReadersOptions{
		Lab: lab.Default(), Apps: 20_000, Queues: 100, Rate: 50, Duration: 20 * time.Second, Rounds: 5, Clients: 50, Streams: 100, Limit: 10 * time.Minute,
	}
	o.Lab.Dir, o.Lab.Nodes = ".lab-readers", 400
	return o
}

// ReadersReport is what was measured with and without readers, and under which conditions.
type ReadersReport struct {
	Begun    time.Time   `json:"begun"`
	Machine  lab.Machine `json:"machine"`
	Replicas int         `json:"replicas"`
	Apps     int         `json:"apps"`
	Clients  int         `json:"clients"`
	Rounds   []Round     `json:"rounds"`
	// Ratio is the median of those of the rounds.
	Ratio float64 `json:"ratio"`
	// Streams that were opened, and the least number of events that one of those brought that
	// was read.
	Streams     int      `json:"streams"`
	FewestHeard int64    `json:"fewest_heard"`
	Usage       []Usage  `json:"usage"`
	Figures     []Figure `json:"figures"`
}

// Round is one half without readers and one with them.
type Round struct {
	Alone load.Result `json:"alone"`
	Read  load.Result `json:"read"`
	// Ratio is the p99 of the time to bind with readers by that without.
	Ratio float64 `json:"ratio"`
	// Lists were answered in full, of Bytes together; List is how long one took. Refused were
	// those for which nobody led.
	Lists   int64        `json:"lists"`
	Refused int64        `json:"refused"`
	Bytes   int64        `json:"bytes"`
	List    load.Summary `json:"list"`
}

// Phases of the measurement, by which the meter tells what was used in them.
const (
	phaseAlone = "alone"
	phaseRead  = "read"
)

// Readers measures how much clients that list applications delay the binding of pods.
func Readers(ctx context.Context, o ReadersOptions) (report *ReadersReport, err error) {
	report = &ReadersReport{
		Begun: time.Now(), Machine: lab.ThisMachine(), Replicas: o.Lab.Replicas, Apps: o.Apps, Clients: o.Clients, Streams: o.Streams,
	}
	o.Lab.Out, o.Lab.Queues = o.Out, o.queues()
	s, meter, end, err := begin(ctx, o.Lab)
	if err != nil {
		return nil, err
	}
	defer func() { err = end(err) }()
	r := &readersBench{ReadersOptions: o, session: s, meter: meter, report: report}
	err = r.measure(ctx)
	report.Usage = meter.close()
	report.compare()
	return report, err
}

type readersBench struct {
	ReadersOptions
	session *drill.Session
	meter   *meter
	report  *ReadersReport
	bases   []string // of the replicas' REST interfaces
}

func (r *readersBench) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Out, format+"\n", args...)
}

func (r *readersBench) measure(ctx context.Context) error {
	r.say("%d applications of one pod", r.Apps)
	if err := r.fill(ctx); err != nil {
		return err
	}
	replicas, err := r.session.Lab.Replicas()
	if err != nil {
		return err
	}
	for _, replica := range replicas {
		process, err := replica.Process()
		if err != nil {
			return err
		}
		r.bases = append(r.bases, process.REST)
	}
	streams, err := r.stream(ctx)
	if err != nil {
		return err
	}
	for n := range r.Rounds {
		if err := r.round(ctx, n); err != nil {
			return errors.Join(err, streams.end(r.report))
		}
	}
	lead, err := r.session.Lab.Leader(ctx)
	if err == nil {
		r.meter.compared(lead)
	}
	return errors.Join(err, streams.end(r.report))
}

// queues is a configuration with the queues.
func (o ReadersOptions) queues() string {
	text := lab.Queues("1M", "1Pi")
	for i := range o.Queues {
		text += fmt.Sprintf("          - name: %s\n", queueName(i))
	}
	return text
}

func queueName(i int) string { return fmt.Sprintf("listed-%d", i) }

// fill creates the applications.
func (r *readersBench) fill(ctx context.Context) error {
	for i := range r.Queues {
		cfg := load.Default()
		cfg.Name, cfg.Queue, cfg.Timeout, cfg.CPU, cfg.Memory = queueName(i), "root."+queueName(i), r.Limit, "1m", "1Mi"
		cfg.Apps = (i+1)*r.Apps/r.Queues - i*r.Apps/r.Queues
		cfg.Pods = cfg.Apps
		if _, err := r.run(ctx, cfg); err != nil {
			return err
		}
	}
	return nil
}

func (r *readersBench) run(ctx context.Context, cfg load.Config) (load.Result, error) {
	g, err := r.session.Load(cfg)
	if err != nil {
		return load.Result{}, err
	}
	result, err := g.Run(ctx)
	if err != nil {
		return result, fmt.Errorf("load %s: %w", cfg.Name, err)
	}
	return result, nil
}

// round measures one half without readers and one with them. Which comes first alternates:
// the pods of one half are there in the other.
func (r *readersBench) round(ctx context.Context, n int) error {
	var round Round
	halves := []func() error{
		func() (err error) {
			round.Alone, err = r.half(ctx, n, phaseAlone)
			return err
		},
		func() error { return r.reading(ctx, n, &round) },
	}
	if n%2 == 1 {
		slices.Reverse(halves)
	}
	for _, half := range halves {
		if err := half(); err != nil {
			return err
		}
	}
	round.Ratio = float64(round.Read.Latency.P99) / float64(max(round.Alone.Latency.P99, 1))
	r.say("round %d: alone %s; with readers %s; ratio %.2f; %d lists", n+1, round.Alone.Latency, round.Read.Latency, round.Ratio, round.Lists)
	r.report.Rounds = append(r.report.Rounds, round)
	return nil
}

func (r *readersBench) half(ctx context.Context, n int, phase string) (load.Result, error) {
	cfg := load.Default()
	cfg.Name, cfg.Timeout, cfg.CPU, cfg.Memory = fmt.Sprintf("%s-%d", phase, n), r.Limit, "1m", "1Mi"
	r.meter.begin(phase)
	defer r.meter.begin("")
	return r.run(ctx, cfg.Steady(r.Rate, r.Duration))
}

// reading is the half with readers. They have begun before the first pod comes.
func (r *readersBench) reading(ctx context.Context, n int, round *Round) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var clients sync.WaitGroup
	var lists, refused, bytes atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var failed error
	for i := range r.Clients {
		clients.Go(func() {
			for whole := i == 0; reading.Err() == nil; whole = false {
				began := time.Now()
				size, err := list(reading, r.bases[i%len(r.bases)], whole, r.Apps)
				if reading.Err() != nil {
					return
				}
				if errors.Is(err, errNobodyLeads) {
					refused.Add(1)
					wait(reading, time.Second) // as the answer says
					continue
				}
				mu.Lock()
				took, failed = append(took, time.Since(began)), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					return
				}
				lists.Add(1)
				bytes.Add(size)
			}
		})
	}
	result, err := r.half(ctx, n, phaseRead)
	stop()
	clients.Wait()
	round.Read, round.Lists, round.Refused, round.Bytes, round.List = result, lists.Load(), refused.Load(), bytes.Load(), load.Summarize(took)
	return errors.Join(err, failed)
}

// errNobodyLeads is a list that was refused because there was no lead.
var errNobodyLeads = errors.New("nobody leads")

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// list lists the applications. If it is to count them, it wants at least so many.
func list(ctx context.Context, base string, counts bool, least int) (size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/ws/v1/partition/default/applications/active", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept-Encoding", "gzip") // and so it is not unzipped here
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable:
		return 0, errNobodyLeads
	case resp.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("%s: %s", base, resp.Status)
	case !counts:
		return io.Copy(io.Discard, resp.Body)
	}
	var zipped bytes.Buffer
	var count counter
	size, err = io.Copy(&zipped, resp.Body)
	if err != nil {
		return size, err
	}
	unzipped, err := gzip.NewReader(&zipped)
	if err != nil {
		return size, fmt.Errorf("%s: %w", base, err)
	}
	if _, err = io.Copy(&count, unzipped); err == nil && count.found < least {
		err = fmt.Errorf("%s lists %d of %d applications", base, count.found, least)
	}
	return size, err
}

// counter counts the applications of a list as it goes by.
type counter struct {
	found, matched int
}

const marker = `"applicationID":`

func (c *counter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != marker[c.matched] {
			c.matched = 0
		}
		if b == marker[c.matched] {
			c.matched++
		}
		if c.matched == len(marker) {
			c.found, c.matched = c.found+1, 0
		}
	}
	return len(p), nil
}

// streams are open streams of events.
type streams struct {
	stop  context.CancelFunc
	read  sync.WaitGroup
	heard []*atomic.Int64 // of those that are read
}

// perHost is how many streams one host may have open.
const perHost = 15

// stream opens the streams.
func (r *readersBench) stream(ctx context.Context) (*streams, error) {
	reading, stop := context.WithCancel(ctx)
	s := &streams{stop: stop}
	client := &http.Client{Transport: &http.Transport{}}
	for i := range r.Streams {
		req, err := http.NewRequestWithContext(reading, http.MethodGet, r.bases[i%len(r.bases)]+"/ws/v1/events/stream", nil)
		if err != nil {
			stop()
			return nil, err
		}
		req.Host = fmt.Sprintf("reader-%d", i/perHost)
		resp, err := client.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("stream %d: %s", i, resp.Status)
		}
		if err != nil {
			stop()
			return nil, err
		}
		var heard *atomic.Int64
		if i%2 == 0 {
			heard = new(atomic.Int64)
			s.heard = append(s.heard, heard)
		}
		s.read.Go(func() {
			defer resp.Body.Close()
			if heard == nil { // It stalls.
				<-reading.Done()
				return
			}
			for in := bufio.NewScanner(resp.Body); in.Scan(); heard.Add(1) {
			}
		})
	}
	return s, nil
}

// end closes the streams. One that was read and brought nothing is an error.
func (s *streams) end(report *ReadersReport) error {
	s.stop()
	s.read.Wait()
	for i, heard := range s.heard {
		if n := heard.Load(); i == 0 || n < report.FewestHeard {
			report.FewestHeard = n
		}
	}
	if len(s.heard) > 0 && report.FewestHeard < 2 { // the first line says only who streams
		return errors.New("a stream that was read brought no event")
	}
	return nil
}

// compare sets the figures against what is expected.
func (r *ReadersReport) compare() {
	var ratios []float64
	for _, round := range r.Rounds {
		ratios = append(ratios, round.Ratio)
	}
	slices.Sort(ratios)
	if r.Ratio = 0; len(ratios) > 0 {
		r.Ratio = ratios[len(ratios)/2]
	}
	r.Figures = []Figure{{
		Name: fmt.Sprintf("%d clients list %d applications: bind p99", r.Clients, r.Apps), Value: r.Ratio, Unit: "of that without them",
		Limit: 1.5, Met: len(ratios) > 0 && r.Ratio <= 1.5,
	}}
}

// Print writes the report as tables.
func (r *ReadersReport) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(t, format+"\n", args...) }
	p("\n%d replicas, %d applications, %d clients, %d streams, %d CPUs shared with the control plane and the load",
		r.Replicas, r.Apps, r.Clients, r.Streams, r.Machine.CPUs)
	if r.Machine.Busy() {
		p("the machine was busy before (load %.1f): the figures say little", r.Machine.LoadBefore)
	}
	printFigures(p, r.Figures)
	p("\nROUND\tALONE P50 ms\tP99 ms\tWITH READERS P50 ms\tP99 ms\tRATIO\tLISTS\tREFUSED\tMB\tLIST P50 ms")
	for i, round := range r.Rounds {
		p("%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%d\t%d\t%d\t%.0f", i+1, ms(round.Alone.Latency.P50), ms(round.Alone.Latency.P99),
			ms(round.Read.Latency.P50), ms(round.Read.Latency.P99), round.Ratio, round.Lists, round.Refused, round.Bytes/1e6, ms(round.List.P50))
	}
	p("\nPROCESS\tLED\tCPUS ALONE\tWITH READERS\tMB THEN\tPEAK MB")
	for _, u := range r.Usage {
		p("%s\t%t\t%.2f\t%.2f\t%d\t%d", u.Name, u.Led, u.CPUs[phaseAlone], u.CPUs[phaseRead], u.RSS/1e6, u.PeakRSS/1e6)
	}
	p("")
	return t.Flush()
}
