package roster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Roster is this replica's membership. Its methods may be called from any
// goroutine.
type Roster struct {
	cfg  Config
	log  *slog.Logger
	ring *memberlist.Keyring // nil without encryption
	list *memberlist.Memberlist
	wake chan struct{} // there is something new to say
	// broadcasts go along with gossip, telling are messages under way.
	broadcasts *memberlist.TransmitLimitedQueue
	telling    sync.WaitGroup
	// address is at which the others reach this replica. It is asked for once:
	// memberlist's own lists cannot be read while it is at work.
	address string

	mu      sync.Mutex
	self    Standing
	said    Standing
	members map[string]Member // but for this one
	joining string            // the last error of joining
	heard   []TermEnded       // the last statements
	over    bool              // nothing more is told
}

// New starts to listen. Run joins the others.
func New(cfg Config, log *slog.Logger) (*Roster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Roster{
		cfg: cfg, log: log, wake: make(chan struct{}, 1), members: make(map[string]Member),
		self: Standing{Replica: cfg.Replica},
	}
	r.said = r.self
	r.broadcasts = &memberlist.TransmitLimitedQueue{NumNodes: r.alive, RetransmitMult: 3}
	host, port, err := split(cfg.Bind)
	if err != nil {
		return nil, err
	}
	m := memberlist.DefaultLANConfig()
	m.Name = cfg.Name
	m.BindAddr, m.BindPort, m.AdvertisePort = host, port, port
	if cfg.Advertise != "" {
		host, port, err := split(cfg.Advertise)
		if err != nil {
			return nil, err
		}
		m.AdvertiseAddr, m.AdvertisePort = host, port
	}
	m.ProbeInterval, m.ProbeTimeout = cfg.ProbeInterval, cfg.ProbeTimeout
	// A suspicion takes three probes, and twice as many while no other member confirms
	// it; by default six times as many, which is for clusters of thousands.
	m.SuspicionMult, m.SuspicionMaxTimeoutMult = 3, 2
	// Dead incarnations never come back.
	m.GossipInterval, m.GossipToTheDeadTime = 100*time.Millisecond, 5*time.Second
	m.PushPullInterval = 10 * time.Second
	// A packet is small, and compressing one takes 64 KiB of memory.
	m.EnableCompression = false
	m.TCPTimeout = 2 * time.Second
	m.Delegate, m.Events = delegate{r}, events{r}
	m.LogOutput, m.Logger = nil, logger(log)
	if cfg.KeyringFile != "" {
		keys, err := readKeys(cfg.KeyringFile)
		if err != nil {
			return nil, fmt.Errorf("roster: keyring: %w", err)
		}
		if r.ring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
			return nil, fmt.Errorf("roster: keyring: %w", err)
		}
		m.Keyring = r.ring
	}
	if r.list, err = memberlist.Create(m); err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	r.address = r.list.LocalNode().Address()
	return r, nil
}

// Address is host:port at which the others reach this replica.
func (r *Roster) Address() string { return r.address }

// sayEvery bounds how often a change that nobody waits for is told. While pods are
// scheduled there always is one, each is passed on a dozen times among three members,
// and memberlist takes 64 KiB of memory for every packet that arrives.
const sayEvery = time.Second

// sayTimeout bounds the wait for a first member to have been told.
const sayTimeout = 100 * time.Millisecond

// leaveTimeout bounds the farewell.
const leaveTimeout = time.Second

// Run joins the others, and goes on trying where it fails, until ctx ends. Then
// it says good-bye, so that nobody has to find out, and stops to listen.
func (r *Roster) Run(ctx context.Context) error {
	join := time.NewTicker(r.cfg.JoinInterval)
	defer join.Stop()
	say := time.NewTicker(sayEvery)
	defer say.Stop()
	r.join(ctx)
	for {
		select {
		case <-ctx.Done():
			r.mu.Lock()
			r.over = true
			r.mu.Unlock()
			r.telling.Wait()
			err := r.list.Leave(leaveTimeout)
			return errors.Join(err, r.list.Shutdown())
		case <-join.C:
			r.rotate()
			r.join(ctx)
			r.forget()
		case <-r.wake:
			r.say()
		case <-say.C:
			r.say()
		}
	}
}

// Update says how this replica stands. A change of role, epoch or readiness is
// told at once, others within a second.
func (r *Roster) Update(s Standing) {
	s.Replica = r.cfg.Replica
	r.mu.Lock()
	before := r.self
	r.self = s
	r.mu.Unlock()
	if before.Role != s.Role || before.Epoch != s.Epoch || before.Ready != s.Ready {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// say tells the others if there is something new.
func (r *Roster) say() {
	r.mu.Lock()
	news := r.self != r.said
	r.said = r.self
	r.mu.Unlock()
	if !news {
		return
	}
	// Without a bound it would wait for ever where nobody answers; gossip goes on
	// all the same.
	if err := r.list.UpdateNode(sayTimeout); err != nil {
		r.log.Debug("roster: standing not told", "err", err)
	}
}

// Members returns all members, this one first, then by replica and age; those
// that have gone are listed for a while.
func (r *Roster) Members() []Member {
	r.mu.Lock()
	defer r.mu.Unlock()
	self := Member{Standing: r.self, Name: r.cfg.Name, Address: r.address, Self: true}
	all := make([]Member, 0, len(r.members)+1)
	for _, m := range r.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int {
		if a.Replica != b.Replica {
			return strings.Compare(a.Replica, b.Replica)
		}
		return b.Since.Compare(a.Since)
	})
	return append([]Member{self}, all...)
}

// Successor returns the name of the ready understudy that should lead next: one of
// the newest template, since in a rollout the others are about to be replaced, among
// those one that need not be started again, and of these the one that is most caught up.
// It is empty if there is none. With replica not empty only that one is considered.
func Successor(members []Member, replica string) string {
	began := templates(members)
	var ready []Member
	for _, m := range members {
		if !m.Self && !m.Gone && m.Ready && (replica == "" || m.Replica == replica) {
			ready = append(ready, m)
		}
	}
	if len(ready) == 0 {
		return ""
	}
	return slices.MaxFunc(ready, func(a, b Member) int {
		return cmp.Or(
			cmp.Compare(began[a.Template], began[b.Template]),
			fresher(a, b),
			cmp.Compare(a.Revision, b.Revision),
			cmp.Compare(b.Lag, a.Lag))
	}).Name
}

// fresher puts who wants to be started again before who does not.
func fresher(a, b Member) int {
	switch {
	case a.Stale == b.Stale:
		return 0
	case a.Stale:
		return -1
	}
	return 1
}

// templates says for each template since when there are replicas of it. A later pod
// of it tells nothing: one of an old template may be made anew in the middle of a
// rollout. Without a template a replica is of before there were any.
func templates(members []Member) map[string]int64 {
	began := make(map[string]int64)
	for _, m := range members {
		if m.Gone || m.Template == "" {
			continue
		}
		if first, known := began[m.Template]; !known || m.Created < first {
			began[m.Template] = m.Created
		}
	}
	return began
}

// First reports whether the member itself comes first among those that could lead
// at once in place of previous, of whose end gossip may not know yet. The order is
// one about which all members agree at any time, which an order of revisions would
// not be.
func First(members []Member, previous string) bool {
	for _, m := range members {
		if !m.Self && !m.Gone && m.Ready && m.Name != previous && m.Name < members[0].Name {
			return false
		}
	}
	return true
}

// join tries the peers that are not members.
func (r *Roster) join(ctx context.Context) {
	known := map[string]bool{r.address: true}
	r.mu.Lock()
	for _, m := range r.members {
		if !m.Gone {
			known[m.Address] = true
		}
	}
	r.mu.Unlock()
	var missing []string
	var errs []error
	for _, peer := range r.cfg.Peers {
		addresses, err := resolve(ctx, peer)
		if err != nil {
			errs = append(errs, err)
		}
		for _, a := range addresses {
			if !known[a] {
				missing = append(missing, a)
			}
		}
	}
	if len(missing) > 0 {
		if _, err := r.list.Join(missing); err != nil {
			errs = append(errs, err)
		}
	}
	// A peer that is away is nothing to repeat every few seconds.
	if said := fmt.Sprint(errors.Join(errs...)); said != r.joining {
		r.joining = said
		if len(errs) > 0 {
			r.log.Warn("roster: not all peers can be reached", "members", len(known), "err", said)
		}
	}
}

// resolveTimeout bounds one look at DNS.
const resolveTimeout = time.Second

func resolve(ctx context.Context, peer string) ([]string, error) {
	host, port, err := split(peer)
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		return []string{peer}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	hosts, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, h := range hosts {
		hosts[i] = net.JoinHostPort(h, strconv.Itoa(port))
	}
	return hosts, nil
}

// rotate reads the keyring file again. A file that cannot be read changes
// nothing.
func (r *Roster) rotate() {
	if r.ring == nil {
		return
	}
	keys, err := readKeys(r.cfg.KeyringFile)
	if err != nil {
		r.log.Error("roster: keyring not read, the old one stays", "err", err)
		return
	}
	changed, err := rotate(r.ring, keys)
	if err != nil {
		r.log.Error("roster: keyring not rotated", "err", err)
	} else if changed {
		r.log.Info("roster: keyring rotated", "keys", len(keys))
	}
}

// forget drops members that have been gone for long.
func (r *Roster) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, m := range r.members {
		if m.Gone && time.Since(m.Since) > r.cfg.Remember {
			delete(r.members, name)
		}
	}
}

// see takes over what memberlist says of a member.
func (r *Roster) see(node *memberlist.Node, gone bool) {
	if node.Name == r.cfg.Name {
		return
	}
	r.mu.Lock()
	m, known := r.members[node.Name]
	if !known || m.Gone != gone {
		m.Since = time.Now()
	}
	m.Name, m.Address, m.Gone, m.Standing = node.Name, node.Address(), gone, decode(node.Meta)
	if m.Replica == "" {
		m.Replica = node.Name
	}
	r.members[node.Name] = m
	r.mu.Unlock()
	if gone && r.cfg.Gone != nil {
		r.cfg.Gone(m)
	}
}

type events struct{ r *Roster }

func (e events) NotifyJoin(node *memberlist.Node)   { e.r.see(node, false) }
func (e events) NotifyUpdate(node *memberlist.Node) { e.r.see(node, false) }
func (e events) NotifyLeave(node *memberlist.Node)  { e.r.see(node, true) }

type delegate struct{ r *Roster }

func (d delegate) NodeMeta(limit int) []byte {
	d.r.mu.Lock()
	defer d.r.mu.Unlock()
	return d.r.said.encode(min(limit, maxMeta))
}
func (d delegate) NotifyMsg(raw []byte) { d.r.hear(raw) }
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.r.broadcasts.GetBroadcasts(overhead, limit)
}
func (delegate) LocalState(bool) []byte        { return nil }
func (delegate) MergeRemoteState([]byte, bool) {}

// logger passes on what memberlist logs, a level lower: a peer that does not
// answer is what a roster is there for.
func logger(to *slog.Logger) *log.Logger { return log.New(logWriter{to}, "", 0) }

type logWriter struct{ to *slog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	level, text := slog.LevelDebug, strings.TrimSpace(string(line))
	if rest, ok := strings.CutPrefix(text, "[ERR] "); ok {
		level, text = slog.LevelInfo, rest
	}
	if i := strings.Index(text, "] "); strings.HasPrefix(text, "[") && i > 0 {
		text = text[i+2:]
	}
	w.to.Log(context.Background(), level, "roster: "+strings.TrimPrefix(text, "memberlist: "))
	return len(line), nil
}
