package lab

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"

	"k8s.io/client-go/util/cert"

	"github.com/understudy-ha/understudy/internal/netfault"
)

// Link is what connects a replica, and its supervisor, with somebody else.
type Link string

// The links. On the first two the replica is the client. Gossip is what reaches
// the replica from all the others, who are the clients: with it cut the replica is
// deaf, not mute. Nobody hears anybody when it is cut for each of them.
const (
	ToAPIServer Link = "API server"
	ToEtcd      Link = "etcd" // all members
	Gossip      Link = "gossip"
	// LeaseWrites is the part of ToAPIServer that writes Leases, of which answers can
	// be held up or lost. It takes LeaseProxies.
	LeaseWrites Link = "writes of Leases"
)

// proxy is what stands between a replica and somebody else.
type proxy interface {
	Set(f netfault.Fault)
	Close()
}

// proxyPorts are where the proxies of a replica listen.
type proxyPorts struct {
	apiserver, lease, gossip int
	etcd                     []int
}

// apiserverOf is the URL by which the ith replica reaches the API server.
func (p *plan) apiserverOf(i int) string {
	if p.proxies == nil {
		return p.apiserverURL()
	}
	return "https://" + address(p.proxies[i].apiserver)
}

// etcdOf are the URLs by which the ith replica reaches the mirror's etcd.
func (p *plan) etcdOf(i int) []string {
	var urls []string
	for j, m := range p.etcd {
		if p.proxies != nil {
			m.client = p.proxies[i].etcd[j]
		}
		urls = append(urls, m.url())
	}
	return urls
}

// gossipOf is where the others reach the ith replica.
func (p *plan) gossipOf(i int) string {
	if p.proxies == nil {
		return address(p.gossip[i])
	}
	return address(p.proxies[i].gossip)
}

// startProxies does nothing in a lab without.
func (l *Lab) startProxies(keys *pki) error {
	l.proxies = map[string]map[Link][]proxy{}
	for i, at := range l.plan.proxies {
		proxies := map[Link][]proxy{}
		l.proxies[replicaName(i)] = proxies
		start := func(link Link, listen func(address, target string) (proxy, error), from, to int) error {
			p, err := listen(address(from), address(to))
			if err != nil {
				return fmt.Errorf("proxy of %s for %s: %w", replicaName(i), link, err)
			}
			proxies[link] = append(proxies[link], p)
			return nil
		}
		apiserver := l.plan.apiserver
		if l.plan.opts.LeaseProxies {
			if err := start(LeaseWrites, keys.leaseProxy, at.lease, apiserver); err != nil {
				return err
			}
			apiserver = at.lease
		}
		if err := start(ToAPIServer, connections, at.apiserver, apiserver); err != nil {
			return err
		}
		for j, m := range l.plan.etcd {
			if err := start(ToEtcd, connections, at.etcd[j], m.client); err != nil {
				return err
			}
		}
		if err := start(Gossip, packets, at.gossip, l.plan.gossip[i]); err != nil {
			return err
		}
	}
	return nil
}

func connections(address, target string) (proxy, error) { return netfault.Listen(address, target) }
func packets(address, target string) (proxy, error)     { return netfault.ListenPackets(address, target) }

// leaseProxy is taken for the API server by who connects to it.
func (k *pki) leaseProxy(address, target string) (proxy, error) {
	identity, err := tls.LoadX509KeyPair(k.servingCert, k.servingKey)
	if err != nil {
		return nil, err
	}
	roots, err := cert.NewPoolFromBytes(k.caPEM)
	if err != nil {
		return nil, err
	}
	return netfault.ListenHTTPS(address, target, writesLease, identity, roots)
}

func writesLease(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/")
}

func (l *Lab) stopProxies() {
	for _, links := range l.proxies {
		for _, proxies := range links {
			for _, p := range proxies {
				p.Close()
			}
		}
	}
	l.proxies = nil
}

// Fault breaks a link of a replica in place of what was wrong with it before.
func (l *Lab) Fault(replica string, link Link, f netfault.Fault) error {
	proxies := l.proxies[replica][link]
	if len(proxies) == 0 {
		return fmt.Errorf("no proxy stands between %s and %s", replica, link)
	}
	for _, p := range proxies {
		p.Set(f)
	}
	return nil
}

// Heal mends all links of a replica. Connections that have lost something end.
func (l *Lab) Heal(replica string) {
	for _, proxies := range l.proxies[replica] {
		for _, p := range proxies {
			p.Set(netfault.Fault{})
		}
	}
}
