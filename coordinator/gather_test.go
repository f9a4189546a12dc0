package coordinator

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/gather"
)

// seenLease is a Lease as a test wants it seen.
type seenLease struct {
	mu      sync.Mutex
	seen    election.Observation
	changed chan struct{}
}

func (s *seenLease) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *seenLease) Observed() election.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *seenLease) see(o election.Observation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = o
	close(s.changed)
	s.changed = make(chan struct{})
}

// What an understudy reads gathers for as long as another is sure to hold the Lease: a new lead,
// and who may become one, reads everything at once.
func TestGathersBehindALead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lease, g := &seenLease{changed: make(chan struct{})}, gather.New(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		var leads atomic.Bool
		running.Go(func() { gatherBehind(ctx, lease, "self", leads.Load, g) })
		is := func(want bool, when string) {
			t.Helper()
			synctest.Wait()
			if g.On() != want {
				t.Errorf("on is %v: %s", g.On(), when)
			}
		}
		held := func(by string, last time.Duration) election.Observation {
			return election.Observation{Synced: true, Holder: by, Expires: time.Now().Add(last)}
		}
		is(false, "nothing is known of the Lease")
		lease.see(held("other", time.Minute))
		is(true, "another leads")
		time.Sleep(50 * time.Second)
		lease.see(held("other", time.Minute))
		time.Sleep(50 * time.Second)
		is(true, "another has renewed the Lease")
		time.Sleep(10*time.Second + time.Millisecond)
		is(false, "another has not renewed the Lease")
		lease.see(held("other", time.Minute))
		is(true, "another does so late")
		lease.see(held("other", -time.Second))
		is(false, "another is proven dead")
		lease.see(held("third", time.Minute))
		is(true, "a third leads")
		lease.see(held("", time.Minute))
		is(false, "the Lease is free")
		lease.see(held("self", time.Minute))
		is(false, "this replica leads")
		leads.Store(true)
		lease.see(held("other", time.Minute))
		is(false, "another has followed it, of which its work does not know yet")
		leads.Store(false)
		lease.see(held("other", time.Minute))
		is(true, "it has stepped back")
		cancel()
		running.Wait()
		is(false, "it is over")
	})
}

// A member of etcd is reached over TCP, of which it is noticed soon that the other end is gone,
// and over a Unix socket in both forms that gRPC gives to a dialer.
func TestDialEtcdMember(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd")
	r := &replica{gatherer: gather.New(time.Second)}
	for _, at := range []struct{ network, listen, prefix string }{
		{"tcp", "127.0.0.1:0", ""}, {"unix", path + "1", "unix:"}, {"unix", path + "2", "unix://"},
	} {
		l, err := net.Listen(at.network, at.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := r.dialEtcdMember(t.Context(), at.prefix+l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", at.prefix, err)
			continue
		}
		defer conn.Close()
		if at.network != "tcp" {
			continue
		}
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		if got := userTimeout(t, conn); got != int(etcdPingTimeout.Milliseconds()) {
			t.Errorf("TCP_USER_TIMEOUT is %d", got)
		}
	}
}
