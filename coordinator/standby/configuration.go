package standby

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// Where the queue configuration in force comes from.
const (
	FromConfigMap = "configmap"
	FromMirror    = "mirror"
)

// Configuration is the queue configuration that is in force here. Its Epoch is zero
// unless it comes from the mirror.
type Configuration struct {
	record.Configuration
	// Source is FromConfigMap or FromMirror, empty while none is in force.
	Source string
	// Err is why that of the ConfigMaps is not in force; nil if it is, or waits.
	Err error
	// Hash tells it from others: it is the same in all replicas that have the same one.
	Hash string
	// Restart has the keys whose values this process does not run with: it has read others
	// as it started.
	Restart []string
	// Waiting is the hash of that of the ConfigMaps while it waits for this process to be
	// started again, because hot refresh is off; empty if none does.
	Waiting string
}

// configuring is the choice of the queue configuration. The ConfigMaps' counts as long
// as it is valid. Else the last valid one stays in force; what that was is known from
// the mirror to those that have not seen it: who starts later, and who was told of two
// changes as of one.
type configuring struct {
	// mu is held while the engine takes a configuration.
	mu     sync.Mutex
	engine configurable // nil until the engine runs
	now    atomic.Pointer[Configuration]
	// began is what the engine was started with, nil until then.
	began map[string]string
}

// configurable is an engine: see package engine for the methods.
type configurable interface {
	Configure(data map[string]string) error
	Learn(data map[string]string, former string, since ledger.Time) error
	Former() (former string, since ledger.Time, err error)
}

// Configuration returns what is in force now, and why.
func (s *Standby) Configuration() Configuration {
	if c := s.configuring.now.Load(); c != nil {
		return *c
	}
	return Configuration{}
}

// configurationPeriod is how often a queue configuration that is not valid is
// looked at again.
const configurationPeriod = time.Second

// choose returns the queue configuration to start with, as soon as there is one that is
// valid: without one there are no quotas to schedule by, so the replica waits, and says
// why.
func (s *Standby) choose(ctx context.Context) (map[string]string, error) {
	for {
		data, err := s.cfg.Cluster.Configuration()
		if err == nil {
			err = engine.Validate(data)
		}
		if c := s.start(data, err); c.Source != "" {
			s.configuring.mu.Lock()
			s.configuring.began = c.Data
			s.configuring.mu.Unlock()
			return c.Data, nil
		}
		s.missing("the queue configuration is not valid: " + err.Error())
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(configurationPeriod):
		}
	}
}

// start chooses between the ConfigMaps' configuration, or why it is not valid, and
// that of the mirror.
func (s *Standby) start(data map[string]string, err error) Configuration {
	s.configuring.mu.Lock()
	defer s.configuring.mu.Unlock()
	if err == nil {
		s.accept(data)
		return s.Configuration()
	}
	next := Configuration{Err: err}
	if held, ok := s.cfg.View.Configuration(); ok && engine.Validate(held.Data) == nil {
		next.Configuration, next.Source = held, FromMirror
	}
	s.enforce(next)
	return next
}

// configures says which engine takes configurations from now on.
func (s *Standby) configures(e configurable) {
	s.configuring.mu.Lock()
	s.configuring.engine = e
	s.configuring.mu.Unlock()
	s.recollect()
}

// recollect takes over what the mirror has of the configuration.
func (s *Standby) recollect() {
	if held, ok := s.cfg.View.Configuration(); ok {
		s.Recall(held) // what has come since the engine was given one
	}
}

// configure is told of the ConfigMaps' configuration, or why it cannot be read.
func (s *Standby) configure(data map[string]string, err error) {
	s.configuring.mu.Lock()
	defer s.configuring.mu.Unlock()
	if err == nil && !hot(s.Configuration().Data) && !hot(data) {
		if err = engine.Validate(data); err == nil {
			s.await(data)
			return
		}
	}
	if err == nil {
		err = s.configuring.engine.Configure(data)
	}
	switch {
	case errors.Is(err, engine.ErrStopped):
	case err == nil:
		s.accept(data)
	default:
		next := s.Configuration()
		next.Err = err
		s.enforce(next)
		if held, ok := s.cfg.View.Configuration(); ok {
			s.recall(held)
		}
	}
}

// Recall is told of the last valid configuration that the mirror has. It comes into
// force if the ConfigMaps have none. What it says of queues that are gone counts in any
// case: a lead has seen them go.
func (s *Standby) Recall(held record.Configuration) {
	s.configuring.mu.Lock()
	defer s.configuring.mu.Unlock()
	s.recall(held)
	if s.configuring.engine == nil || s.sink.Load() != nil {
		return
	}
	if err := s.configuring.engine.Learn(held.Data, held.Former, held.FormerSince); err != nil {
		s.log.Error("the mirror's queues cannot be read", "epoch", held.Epoch, "err", err)
	}
}

// recall does, with configuring.mu held. Who leads says himself what is in force.
func (s *Standby) recall(held record.Configuration) {
	was := s.Configuration()
	if s.configuring.engine == nil || was.Err == nil || s.sink.Load() != nil || maps.Equal(was.Data, held.Data) {
		return
	}
	err := s.configuring.engine.Configure(held.Data)
	if errors.Is(err, engine.ErrStopped) {
		return
	}
	if err != nil {
		s.log.Error("the mirror's queue configuration is refused, the old one stays in force", "epoch", held.Epoch, "err", err)
		return
	}
	s.enforce(Configuration{Configuration: held, Source: FromMirror, Err: was.Err})
}

// accept notes that the ConfigMaps' configuration is in force. configuring.mu is held.
func (s *Standby) accept(data map[string]string) {
	next := record.Configuration{Data: data, Accepted: ledger.At(s.cfg.Now())}
	s.addFormer(&next)
	s.enforce(Configuration{Configuration: next, Source: FromConfigMap})
	s.cfg.Configured()
}

// await notes that the ConfigMaps' configuration waits for a process that starts with it.
// configuring.mu is held.
func (s *Standby) await(data map[string]string) {
	next := s.Configuration()
	next.Err, next.Waiting = nil, ""
	if hash := hashOf(data); hash != next.Hash {
		next.Waiting = hash
	}
	s.enforce(next)
}

// hot reports whether a configuration wants changes to take effect at once.
func hot(data map[string]string) bool {
	refresh, err := strconv.ParseBool(cmp.Or(data[settings.KeyHotRefresh], settings.Default(settings.KeyHotRefresh)))
	return refresh || err != nil
}

// restarts returns the keys whose change takes effect in a process that starts with it.
func restarts(began, now map[string]string) (keys []string) {
	if began == nil {
		return nil
	}
	refreshed := func(data map[string]string) map[string]string {
		all := map[string]string{}
		maps.Copy(all, data)
		all[settings.KeyHotRefresh] = "true" // what waits has not come into force
		return all
	}
	for _, change := range settings.Changes(refreshed(began), refreshed(now)) {
		if change.Effect == settings.HandOver {
			keys = append(keys, change.Key)
		}
	}
	return keys
}

// hashLength is how many characters tell configurations apart.
const hashLength = 12

// hashOf returns the hash of a configuration.
func hashOf(data map[string]string) string {
	sum := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(sum, "%d %s %d %s\n", len(key), key, len(data[key]), data[key])
	}
	return hex.EncodeToString(sum.Sum(nil))[:hashLength]
}

// addFormer adds what the engine knows of queues that are gone. configuring.mu is held.
func (s *Standby) addFormer(c *record.Configuration) {
	if s.configuring.engine == nil {
		return
	}
	var err error
	if c.Former, c.FormerSince, err = s.configuring.engine.Former(); err != nil {
		s.log.Error("queues that are gone are not told to others", "err", err)
	}
}

// bequeath has the configuration say of queues that are gone what the engine of a lead
// makes of them.
func (s *Standby) bequeath() {
	s.configuring.mu.Lock()
	defer s.configuring.mu.Unlock()
	next := s.Configuration()
	s.addFormer(&next.Configuration)
	s.configuring.now.Store(&next)
}

// enforce notes what is in force, and tells what is wrong with it. configuring.mu is held.
func (s *Standby) enforce(next Configuration) {
	was := s.Configuration()
	if next.Source != "" {
		next.Hash = hashOf(next.Data)
		next.Restart = restarts(s.configuring.began, next.Data)
	}
	s.configuring.now.Store(&next)
	told := was.Err != nil && next.Err != nil && was.Err.Error() == next.Err.Error()
	switch {
	case next.Err != nil && next.Source == "" && !told:
		s.log.Error("queue configuration is not valid: this replica cannot lead until it is", "err", next.Err)
	case next.Source == FromMirror && (was.Source != FromMirror || was.Epoch != next.Epoch):
		s.log.Error("queue configuration is not valid: the last that was, as the mirror has it, is in force",
			"epoch", next.Epoch, "accepted", next.Accepted.Time(), "err", next.Err)
	case next.Err != nil && !told:
		s.log.Error("queue configuration refused, the old one stays in force", "err", next.Err)
	case next.Waiting != "":
		s.log.Warn("queue configuration waits for this process to be started again: hot refresh is off", "waiting", next.Waiting, "in force", next.Hash)
	case next.Err == nil && was.Source != "":
		s.log.Info("queue configuration in force", "hash", next.Hash, "again", was.Err != nil)
	}
	changed := was.Source != "" && (was.Hash != next.Hash || was.Waiting != next.Waiting || was.Err != nil)
	if !told && (next.Err != nil || changed) {
		s.tellConfiguration()
	}
}

// The reasons of Events about the queue configuration.
const (
	ReasonRefused  = "ConfigurationRefused"
	ReasonAccepted = "ConfigurationAccepted"
	ReasonWaits    = "ConfigurationWaits"
)

// tellConfiguration tells users, through a replica that leads, whether the ConfigMaps'
// configuration is in force.
func (s *Standby) tellConfiguration() {
	voice, c := s.voice.Load(), s.Configuration()
	if voice == nil {
		return
	}
	say := func(warning bool, reason, message string) {
		(*voice).ConfigMap(s.cfg.Cluster.ConfigMap(), warning, reason, message)
	}
	switch {
	case c.Err != nil:
		say(true, ReasonRefused, "the last valid configuration stays in force: "+c.Err.Error())
	case c.Waiting != "":
		say(false, ReasonWaits, fmt.Sprintf("configuration %s waits until the replicas are started again, %s stays in force: %s is false",
			c.Waiting, c.Hash, settings.KeyHotRefresh))
	case len(c.Restart) > 0:
		say(false, ReasonAccepted, fmt.Sprintf("configuration %s is in force; the replicas are started again one after another, the lead last, to take on %s",
			c.Hash, strings.Join(c.Restart, ", ")))
	default:
		say(false, ReasonAccepted, fmt.Sprintf("configuration %s is in force", c.Hash))
	}
}
