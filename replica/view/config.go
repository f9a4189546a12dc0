package view

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// Config tunes a view; Default fills everything but the prefix.
type Config struct {
	// Prefix is the key below which everything is stored.
	Prefix string
	// PageSize is how many records one request of a load asks for.
	PageSize int
	// RequestTimeout bounds one small request to etcd; a page may take four times
	// as long.
	RequestTimeout time.Duration
	// Yields, which may be nil, says whether a load is to leave etcd to others: it rests after
	// each page, for as long as that took.
	Yields func() bool
	// ProbeInterval is how often etcd is asked whether it is there, and still the
	// same.
	ProbeInterval time.Duration
	// StallTimeout is how long a watch may deliver nothing, while there is something
	// to deliver, before it is started again.
	StallTimeout time.Duration
	// OnChange, which may be nil, is called for every change after it and what came
	// with it has been applied, in order, from one goroutine, with the state, which
	// nobody changes meanwhile. It must not call Take or Read.
	OnChange func(*ledger.Ledger, ledger.Change)
	// OnLeader, which may be nil, is called from the same goroutine when the claim
	// of an epoch other than the last one has been applied, with the revision up
	// to which everything has.
	OnLeader func(leader record.Leader, revision int64)
	// OnApplied, which may be nil, is called from the same goroutine after the others, with all
	// that has been applied up to a revision; anew says that the state was loaded, and that what
	// came between two revisions is not known. It must not call Take or Read.
	OnApplied func(changes []ledger.Change, revision int64, anew bool)
	// OnConfiguration, which may be nil, is called from the same goroutine when another
	// queue configuration has been applied, the first included; not when there is none
	// any more. It must not call Take or Read.
	OnConfiguration func(record.Configuration)
}

// Default returns the defaults, without a prefix.
func Default() Config {
	return Config{
		PageSize:       1000,
		RequestTimeout: 2 * time.Second,
		ProbeInterval:  time.Second,
		StallTimeout:   5 * time.Second,
	}
}

// Validate names every field that is out of range.
func (c Config) Validate() error {
	var errs []error
	if strings.Trim(c.Prefix, "/") == "" {
		errs = append(errs, errors.New("prefix: must not be empty"))
	}
	positive := func(name string, ok bool) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: must be above zero", name))
		}
	}
	positive("pageSize", c.PageSize > 0)
	positive("requestTimeout", c.RequestTimeout > 0)
	positive("probeInterval", c.ProbeInterval > 0)
	positive("stallTimeout", c.StallTimeout > 0)
	return errors.Join(errs...)
}
