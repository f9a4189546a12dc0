package lab

import (
	"fmt"

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
)

// proxyPorts are where the proxies of a replica listen.
type proxyPorts struct {
	apiserver, gossip int
	etcd              []int
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
func (l *Lab) startProxies() error {
	l.proxies = map[string]map[Link][]*netfault.Proxy{}
	for i, at := range l.plan.proxies {
		proxies := map[Link][]*netfault.Proxy{}
		l.proxies[replicaName(i)] = proxies
		start := func(link Link, listen func(address, target string) (*netfault.Proxy, error), from, to int) error {
			proxy, err := listen(address(from), address(to))
			if err != nil {
				return fmt.Errorf("proxy of %s for %s: %w", replicaName(i), link, err)
			}
			proxies[link] = append(proxies[link], proxy)
			return nil
		}
		if err := start(ToAPIServer, netfault.Listen, at.apiserver, l.plan.apiserver); err != nil {
			return err
		}
		for j, m := range l.plan.etcd {
			if err := start(ToEtcd, netfault.Listen, at.etcd[j], m.client); err != nil {
				return err
			}
		}
		if err := start(Gossip, netfault.ListenPackets, at.gossip, l.plan.gossip[i]); err != nil {
			return err
		}
	}
	return nil
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
