package coordinator

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/understudy-ha/understudy/election"
	"github.com/understudy-ha/understudy/internal/gather"
)

// gatherFor is how long what the API server and etcd tell an understudy may gather: to be woken for
// each message costs it more than the message does. A new lead has no more than that to catch up
// with, and does so while it takes the Lease.
const gatherFor = 100 * time.Millisecond

// gatherWhileFollowing has what this replica reads gather while another leads. It begins when this
// replica is warm: before, it has a lot to fetch.
func (r *replica) gatherWhileFollowing(ctx context.Context) error {
	select {
	case <-r.warm:
		gatherBehind(ctx, r.elector, r.incarnation, func() bool { return r.lead.Load() != nil }, r.gatherer)
	case <-ctx.Done():
	}
	return nil
}

// sight is what is seen of the Lease: see election.Elector.
type sight interface {
	Changed() <-chan struct{}
	Observed() election.Observation
}

// gatherBehind turns a gatherer on while another than self holds the Lease, until ctx ends. For who
// leads nothing gathers: neither before it has seen that its Lease is lost nor after.
func gatherBehind(ctx context.Context, lease sight, self string, leads func() bool, gatherer *gather.Gatherer) {
	defer gatherer.Set(false)
	for {
		changed := lease.Changed()
		seen := lease.Observed()
		left := time.Until(seen.Expires)
		behind := seen.Synced && seen.Holder != "" && seen.Holder != self && left > 0 && !leads()
		gatherer.Set(behind)
		var expired <-chan time.Time
		if behind {
			expired = time.After(left)
		}
		select {
		case <-changed:
		case <-expired:
		case <-ctx.Done():
			return
		}
	}
}

// dialEtcdMember connects to a member of etcd, at an address as gRPC gives it to a dialer.
func (r *replica) dialEtcdMember(ctx context.Context, address string) (net.Conn, error) {
	var dialer net.Dialer
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", strings.TrimPrefix(path, "//")
	} else {
		// gRPC does this for the connections that it makes itself.
		dialer.Control = func(_, _ string, c syscall.RawConn) error { return setUserTimeout(c, etcdPingTimeout) }
	}
	return r.gatherer.Dial(dialer.DialContext)(ctx, network, address)
}

// etcdDialOptions has what comes from etcd gather, unless it is reached through a proxy, which
// only gRPC's own dialer knows.
func etcdDialOptions(endpoints []string, dial func(context.Context, string) (net.Conn, error)) []grpc.DialOption {
	for _, endpoint := range endpoints {
		if _, host, found := strings.Cut(endpoint, "://"); found {
			endpoint = host
		}
		request := &http.Request{URL: &url.URL{Scheme: "https", Host: endpoint}} // as gRPC asks
		if proxy, err := http.ProxyFromEnvironment(request); err != nil || proxy != nil {
			return nil
		}
	}
	return []grpc.DialOption{grpc.WithContextDialer(dial)}
}
