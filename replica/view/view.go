package view

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// ErrTaken says that the ledger has been handed over.
var ErrTaken = errors.New("the view's ledger has been taken")

// View follows a prefix.
type View struct {
	cli     *clientv3.Client
	cfg     Config
	keys    record.Keys
	log     *slog.Logger
	metrics *metrics
	poke    chan struct{} // asks the prober for a progress notification

	// applying is held while changes are applied and OnChange is told of them, so
	// that Take and Read find nothing half done. It is taken before mu; the ledger is
	// changed with both held, and read with either.
	applying sync.Mutex

	mu     sync.Mutex
	ledger *ledger.Ledger
	known  map[ledger.Key]version // what the ledger holds
	digest record.Digest          // of what it holds, without what cannot be read any more
	leader record.Leader
	terms  map[uint64]record.Term
	// configuration is the queue configuration in force, nil if etcd has none.
	configuration *record.Configuration
	refused       map[string]error
	origin        origin
	revision      int64 // everything up to it has been applied
	newest        int64 // the highest revision that etcd has shown
	synced        bool
	taken         bool
	counts        ledger.Counts // when the ledger was taken
	away          error         // of the newest request, nil while etcd answers
	heardOf       bool          // whether there has been any request
	since         time.Time
	void          bool // the state is of a history that etcd does not have
	// interrupt ends the watch under way, and says why; nil if there is none.
	interrupt context.CancelCauseFunc
	changed   chan struct{} // closed, and replaced, when any of this changes
}

// version is which version of a record the ledger holds.
type version struct {
	modRevision int64
	// hash is that of the ledger's record; zero while etcd has a newer version of
	// it that cannot be read.
	hash record.Hash
}

// origin identifies the history that a state comes from.
type origin struct {
	cluster uint64
	history string
}

// New returns a view that follows cfg.Prefix once Run is called. reg may be nil.
func New(cli *clientv3.Client, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*View, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	v := &View{
		cli:     cli,
		cfg:     cfg,
		keys:    record.Keys{Prefix: cfg.Prefix},
		log:     log,
		poke:    make(chan struct{}, 1),
		ledger:  ledger.New(),
		known:   make(map[ledger.Key]version),
		terms:   make(map[uint64]record.Term),
		refused: make(map[string]error),
		changed: make(chan struct{}),
		since:   time.Now(),
		away:    errors.New("not connected yet"),
	}
	var err error
	if v.metrics, err = newMetrics(reg, v.Status); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	return v, nil
}

// Synced reports whether the view holds a state of the history that etcd has.
func (v *View) Synced() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.synced
}

// Read calls read with the state, which nobody changes meanwhile and which is not
// read's to change or keep. While it reads no change is applied, so it must be quick.
// Read reports false after Take. It must not be called from OnChange.
func (v *View) Read(read func(*ledger.Ledger)) bool {
	v.applying.Lock()
	defer v.applying.Unlock()
	v.mu.Lock()
	state, taken := v.ledger, v.taken
	v.mu.Unlock()
	if !taken {
		read(state)
	}
	return !taken
}

// Take hands over the ledger itself and ends the view: nothing is applied any
// more, and Run returns. What was applied has been seen by OnChange. What was
// refused is no longer listed: it is for the new owner to put right. The digest
// is as in Status.
// A second call returns nil.
func (v *View) Take() (*ledger.Ledger, record.Digest) {
	v.applying.Lock()
	defer v.applying.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken {
		return nil, record.Digest{}
	}
	v.taken = true
	taken := v.ledger
	v.counts = taken.Counts()
	v.ledger, v.known, v.refused = nil, nil, nil
	if v.interrupt != nil {
		v.interrupt(ErrTaken)
	}
	v.announce()
	return taken, v.digest
}

// Counts returns how many applications and tasks there are in each state; after Take,
// how many there were.
func (v *View) Counts() ledger.Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken {
		return v.counts
	}
	return v.ledger.Counts()
}

// Configuration returns the last queue configuration that a lead took for valid; false
// if there is none.
func (v *View) Configuration() (record.Configuration, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.configuration == nil {
		return record.Configuration{}, false
	}
	return *v.configuration, true
}

// Refused is a record that cannot be read.
type Refused struct {
	Key string
	Err error // record.ErrCorrupt or record.ErrNewerSchema
}

// Status is what operators want to know about a view.
type Status struct {
	Synced bool
	// Revision is the etcd revision up to which everything has been applied, Lag
	// how many more etcd has shown. Other users of the same etcd count too.
	Revision int64
	Lag      int64
	// Connected says whether etcd answers, Since since when that is so.
	Connected bool
	Since     time.Time
	LastError string
	// Leader is who leads, by the leader key.
	Leader record.Leader
	// Terms is the history of leadership, oldest first.
	Terms []record.Term
	// Refused is sorted by key.
	Refused []Refused
	// Digest is that of all other records: views that hold the same say the same.
	Digest record.Digest
}

// Status returns the state of the view now.
func (v *View) Status() Status {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := Status{
		Synced:    v.synced,
		Revision:  v.revision,
		Lag:       max(0, v.newest-v.revision),
		Connected: v.away == nil,
		Since:     v.since,
		Leader:    v.leader,
		Digest:    v.digest,
		Terms:     slices.AppendSeq(make([]record.Term, 0, len(v.terms)), maps.Values(v.terms)),
	}
	if v.away != nil {
		s.LastError = v.away.Error()
	}
	slices.SortFunc(s.Terms, func(a, b record.Term) int { return cmp.Compare(a.Epoch, b.Epoch) })
	for _, key := range slices.Sorted(maps.Keys(v.refused)) {
		s.Refused = append(s.Refused, Refused{Key: key, Err: v.refused[key]})
	}
	return s
}

// WaitRevision returns nil once the view holds everything that was committed up
// to revision rev, in the history that etcd has now.
func (v *View) WaitRevision(ctx context.Context, rev int64) error {
	// The prober asks for progress only now and then.
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var confirmed origin
	asked := false
	for {
		v.mu.Lock()
		origin, ready, taken, changed := v.origin, v.synced, v.taken, v.changed
		reached := v.revision >= rev
		v.mu.Unlock()
		switch {
		case taken:
			return ErrTaken
		case !ready:
		case confirmed != origin:
			// What was applied may be of a history that is no more.
			if err := v.probe(ctx); err == nil {
				confirmed = origin
				continue
			}
		case reached:
			return nil
		case !asked:
			v.askProgress()
			asked = true
		}
		select {
		case <-changed:
		case <-again.C:
			asked = false
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: at %d: %w", rev, v.Status().Revision, context.Cause(ctx))
		}
	}
}

func (v *View) askProgress() {
	select {
	case v.poke <- struct{}{}:
	default:
	}
}

// announce wakes all who wait for a change; v.mu is held.
func (v *View) announce() {
	close(v.changed)
	v.changed = make(chan struct{})
}
