package mirror

import (
	"errors"
	"fmt"
	"time"

	"github.com/understudy-ha/understudy/replica/mirror/internal/fenced"
)

// Policy says what happens to effects while etcd is away.
type Policy string

// The policies.
const (
	// Available lets effects run ahead of durability after Patience.
	Available Policy = "available"
	// Strict holds effects until they are durable.
	Strict Policy = "strict"
)

// Config tunes a mirror; Default fills everything but the prefix.
type Config struct {
	// Prefix is the key below which everything is stored.
	Prefix string
	Policy Policy
	// RequestTimeout bounds one request to etcd.
	RequestTimeout time.Duration
	// Patience is how long callbacks wait for an etcd that does not answer, under
	// the policy Available.
	Patience time.Duration
	// FinalFlush bounds the flush after the context of Run has ended.
	FinalFlush time.Duration
	// CheckInterval is how often the leader key is looked at while there is
	// nothing to write, so that an idle lead learns that it is none.
	CheckInterval time.Duration
	// MaxOps and MaxBytes bound one transaction. etcd itself takes 128 operations
	// and 1.5 MiB unless it is configured otherwise.
	MaxOps   int
	MaxBytes int
}

// Default returns the defaults, without a prefix.
func Default() Config {
	return Config{
		Policy:         Available,
		RequestTimeout: 2 * time.Second,
		Patience:       time.Second,
		FinalFlush:     time.Second,
		CheckInterval:  5 * time.Second,
		MaxOps:         128,
		MaxBytes:       1 << 20,
	}
}

// Validate names every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	if err := fenced.CheckPrefix(c.Prefix); err != nil {
		errs = append(errs, err)
	}
	if c.Policy != Available && c.Policy != Strict {
		errs = append(errs, fmt.Errorf("policy %q: must be %q or %q", c.Policy, Available, Strict))
	}
	positive := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: must be above zero", name))
		}
	}
	positive("requestTimeout", c.RequestTimeout > 0)
	positive("patience", c.Patience > 0)
	positive("finalFlush", c.FinalFlush > 0)
	positive("checkInterval", c.CheckInterval > 0)
	positive("maxOps", c.MaxOps > 0)
	positive("maxBytes", c.MaxBytes > 0)
	return errors.Join(errs...)
}
