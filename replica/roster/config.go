package roster

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// Config tunes a Roster. Name and Replica have no default.
type Config struct {
	// Name is the incarnation of this replica, Replica its lasting name.
	Name, Replica string
	// Bind is host:port to listen on, TCP and UDP; port 0 is a free one.
	Bind string
	// Advertise is host:port at which the others reach this replica; empty means
	// Bind. It has to be set where Bind is all interfaces.
	Advertise string
	// Peers are host:port of other replicas, static addresses or DNS names, all
	// of whose addresses are tried: a headless Service is enough. The own address
	// may be among them.
	Peers []string
	// KeyringFile holds the keys for encryption; empty means none.
	KeyringFile string

	// ProbeInterval is how often one other member is probed, ProbeTimeout how long
	// it may take to answer.
	ProbeInterval, ProbeTimeout time.Duration
	// JoinInterval is how often peers that are not members are tried, and the
	// keyring file is read.
	JoinInterval time.Duration
	// Remember is for how long a member that has gone is still listed.
	Remember time.Duration

	// Gone is called when a member has left or is taken for dead. It must return
	// at once. Nil for nobody.
	Gone func(Member)
	// TermEnded is called when another replica has stated that its term is over: see
	// TellTermEnded. It must return at once. Without a keyring it is never called. Nil for
	// nobody.
	TermEnded func(TermEnded)
}

// Default finds a dead member of three within about three seconds.
func Default() Config {
	return Config{
		Bind:          "127.0.0.1:0",
		ProbeInterval: 500 * time.Millisecond,
		ProbeTimeout:  250 * time.Millisecond,
		JoinInterval:  2 * time.Second,
		Remember:      time.Minute,
	}
}

// Validate reports every setting that cannot work.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("roster: "+format, args...))
		}
	}
	check(c.Name != "", "name is empty")
	check(c.Replica != "", "replica is empty")
	check(c.ProbeInterval > 0 && c.ProbeTimeout > 0 && c.ProbeTimeout <= c.ProbeInterval,
		"probeTimeout %v is not within probeInterval %v", c.ProbeTimeout, c.ProbeInterval)
	check(c.JoinInterval > 0, "joinInterval %v is not positive", c.JoinInterval)
	host, _, err := split(c.Bind)
	check(err == nil, "bind: %w", err)
	if c.Advertise != "" {
		_, _, err := split(c.Advertise)
		check(err == nil, "advertise: %w", err)
	} else if ip := net.ParseIP(host); err == nil {
		check(host != "" && (ip == nil || !ip.IsUnspecified()), "advertise is empty, and bind %q is no address to reach", c.Bind)
	}
	for _, peer := range c.Peers {
		_, port, err := split(peer)
		check(err == nil, "peer: %w", err)
		check(err != nil || port > 0, "peer %q has no port", peer)
	}
	return errors.Join(errs...)
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err == nil && (port < 0 || port > 65535) {
		err = errors.New("out of range")
	}
	if err != nil {
		return "", 0, fmt.Errorf("address %q: port: %w", address, err)
	}
	return host, port, nil
}
