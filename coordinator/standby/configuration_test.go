package standby

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/understudy-ha/understudy/coordinator/engine"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// mirrored is a view of which only the queue configuration matters.
type mirrored struct {
	fixedView
	held *record.Configuration
}

func (v *mirrored) Configuration() (record.Configuration, bool) {
	if v.held == nil {
		return record.Configuration{}, false
	}
	return *v.held, true
}

// spoken is what users are told.
type spoken []string

func (s *spoken) ConfigMap(_ *v1.ConfigMap, warning bool, reason, message string) {
	*s = append(*s, fmt.Sprint(reason, " ", warning, ": ", message))
}
func (s *spoken) Waits(*v1.Pod, string, string)                   {}
func (s *spoken) Problems(*v1.Pod, []workload.Problem)            {}
func (s *spoken) Object(v1.ObjectReference, bool, string, string) {}

// configured is a standby whose engine notes what it is given.
type configured struct {
	*Standby
	t     *testing.T
	view  *mirrored
	given []string
	// learnt is what the engine was told of queues that are gone.
	learnt []string
	calls  int // of Configured
	log    bytes.Buffer
}

func newConfigured(t *testing.T, held *record.Configuration) *configured {
	c := &configured{t: t, view: &mirrored{held: held}}
	c.Standby = New(Config{
		Log: slog.New(slog.NewTextHandler(&c.log, nil)), View: c.view, Configured: func() { c.calls++ },
		Now:     func() time.Time { return time.Unix(100, 0) },
		Cluster: kube.New(&kube.Clients{Reads: fake.NewClientset()}, kube.ClusterConfig{}, slog.New(slog.DiscardHandler)),
	})
	return c
}

// runs starts the engine.
func (c *configured) runs() { c.configures(c) }

// Configure takes what names no bad queue.
func (c *configured) Configure(data map[string]string) error {
	switch data["queues.yaml"] {
	case "stopped":
		return engine.ErrStopped
	case "refused":
		return errors.New("no such queue")
	}
	c.given = append(c.given, data["queues.yaml"])
	return nil
}

// Learn notes what it is told.
func (c *configured) Learn(data map[string]string, former string, since ledger.Time) error {
	c.learnt = append(c.learnt, fmt.Sprint(data["queues.yaml"], " after ", former, " at ", since))
	return nil
}

// Former is how many configurations the engine was given.
func (c *configured) Former() (former string, since ledger.Time, err error) {
	return fmt.Sprint(len(c.given)), ledger.Time(len(c.given)), nil
}

func (c *configured) is(queues, source, problem string, given ...string) {
	c.t.Helper()
	now := c.Configuration()
	said := ""
	if now.Err != nil {
		said = now.Err.Error()
	}
	if now.Data["queues.yaml"] != queues || now.Source != source || said != problem || !slices.Equal(c.given, given) {
		c.t.Errorf("%+v in force, the engine was given %q; want %q of %s, %q, and %q", now, c.given, queues, source, problem, given)
	}
}

func queues(name string) map[string]string { return map[string]string{"queues.yaml": name} }

func held(name string, epoch uint64) *record.Configuration {
	return &record.Configuration{Data: queues(name), Accepted: 5, Epoch: epoch}
}

// valid is a configuration that the real engine takes.
func valid(queue string) string {
	return "partitions:\n- name: default\n  queues:\n  - name: root\n    queues:\n    - name: " + queue + "\n"
}

var errUnreadable = errors.New("ConfigMap own/queues: neither gzip nor gzip in base64")

// TestWithoutAValidConfigMapTheMirrorsConfigurationCounts, for a replica that starts, and
// only then; without one in the mirror it waits.
func TestWithoutAValidConfigMapTheMirrorsConfigurationCounts(t *testing.T) {
	c := newConfigured(t, held(valid("old"), 3))
	c.start(queues(valid("new")), nil)
	c.is(valid("new"), FromConfigMap, "")
	if at := c.Configuration().Accepted; at != ledger.At(time.Unix(100, 0)) || c.Configuration().Epoch != 0 {
		t.Errorf("%+v", c.Configuration())
	}

	c = newConfigured(t, held(valid("old"), 3))
	c.start(nil, errUnreadable)
	c.is(valid("old"), FromMirror, errUnreadable.Error())
	if now := c.Configuration(); now.Epoch != 3 || now.Accepted != 5 || c.calls != 0 {
		t.Errorf("%+v, accepted %d times", now, c.calls)
	}
	if !strings.Contains(c.log.String(), "the last that was, as the mirror has it, is in force") {
		t.Errorf("the log says %s", c.log.String())
	}

	for name, held := range map[string]*record.Configuration{"none": nil, "one that is not valid either": held("queues: [", 3)} {
		t.Run(name, func(t *testing.T) {
			c := newConfigured(t, held)
			c.start(nil, errUnreadable)
			c.start(nil, errUnreadable)
			c.is("", "", errUnreadable.Error())
			if n := strings.Count(c.log.String(), "cannot lead until it is"); n != 1 {
				t.Errorf("said %d times", n)
			}
			c.start(queues(valid("mended")), nil)
			c.is(valid("mended"), FromConfigMap, "")
		})
	}
}

// TestTheLastValidConfigurationStaysInForce, and is the one that the mirror has if that
// is another: a replica may have missed one.
func TestTheLastValidConfigurationStaysInForce(t *testing.T) {
	c := newConfigured(t, nil)
	c.start(queues(valid("a")), nil)
	c.runs()
	c.Recall(*held("b", 1)) // the ConfigMaps' counts
	c.is(valid("a"), FromConfigMap, "")

	c.configure(queues("refused"), nil)
	c.is(valid("a"), FromConfigMap, "no such queue")
	c.Recall(*held("b", 1))
	c.is("b", FromMirror, "no such queue", "b")
	c.Recall(*held("b", 2)) // the same
	c.Recall(*held("refused", 3))
	c.is("b", FromMirror, "no such queue", "b")

	c.configure(queues("c"), nil)
	c.is("c", FromConfigMap, "", "b", "c")
	c.view.held = held("d", 4) // told while c was in force
	c.configure(nil, errUnreadable)
	c.is("d", FromMirror, errUnreadable.Error(), "b", "c", "d")
	if c.calls != 2 {
		t.Errorf("accepted %d times", c.calls)
	}
}

// TestWhatComesWhileTheEngineStartsIsNotMissed.
func TestWhatComesWhileTheEngineStartsIsNotMissed(t *testing.T) {
	c := newConfigured(t, held(valid("a"), 1))
	c.start(nil, errUnreadable)
	c.view.held = held("b", 2)
	c.Recall(*c.view.held) // there is no engine yet
	c.is(valid("a"), FromMirror, errUnreadable.Error())
	c.runs()
	c.is("b", FromMirror, errUnreadable.Error(), "b")
}

// TestALeadIsNotToldByTheMirror, which it writes itself.
func TestALeadIsNotToldByTheMirror(t *testing.T) {
	c := newConfigured(t, nil)
	c.start(queues(valid("a")), nil)
	c.runs()
	sink := func(ledger.Event) {}
	c.sink.Store(&sink)
	c.view.held = held("late", 1)
	c.configure(nil, errUnreadable)
	c.is(valid("a"), FromConfigMap, errUnreadable.Error())
}

// TestAnEngineThatHasStoppedRefusesNothing: a process that ends does not complain of a
// configuration that is right.
func TestAnEngineThatHasStoppedRefusesNothing(t *testing.T) {
	c := newConfigured(t, nil)
	c.start(queues(valid("a")), nil)
	c.runs()
	c.configure(queues("stopped"), nil)
	c.is(valid("a"), FromConfigMap, "")
	if strings.Contains(c.log.String(), "ERROR") {
		t.Errorf("the log says %s", c.log.String())
	}
}

// TestQueuesThatAreGoneArePassedOn: an understudy learns of them from the mirror, whatever
// the ConfigMaps say, and a lead from nobody; its engine says what the mirror gets.
func TestQueuesThatAreGoneArePassedOn(t *testing.T) {
	was := held("old", 1)
	was.Former, was.FormerSince = "gone", 7
	c := newConfigured(t, was)
	c.start(queues(valid("a")), nil)
	if c.Recall(*was); len(c.learnt) > 0 {
		t.Error("there is no engine yet")
	}
	c.runs()
	want := []string{"old after gone at 7"}
	if !slices.Equal(c.learnt, want) {
		t.Errorf("learnt %q, want %q", c.learnt, want)
	}
	c.configure(queues("b"), nil)
	if now := c.Configuration(); now.Former != "1" || now.FormerSince != 1 {
		t.Errorf("the mirror gets %+v", now)
	}
	sink := func(ledger.Event) {}
	c.sink.Store(&sink)
	c.Recall(*held("late", 2))
	if !slices.Equal(c.learnt, want) {
		t.Errorf("a lead learnt %q", c.learnt)
	}
	c.given = append(c.given, "by others")
	c.bequeath()
	if now := c.Configuration(); now.Former != "2" || now.Data["queues.yaml"] != "b" || now.Source != FromConfigMap {
		t.Errorf("a lead passes on %+v", now)
	}
}

// TestWithoutHotRefreshChangesWait for the process to be started again, and users are told
// so. One that turns it on takes effect at once, and so does the lack of the key.
func TestWithoutHotRefreshChangesWait(t *testing.T) {
	frozen := func(name, refresh string) map[string]string {
		return map[string]string{"queues.yaml": valid(name), "service.enableConfigHotRefresh": refresh}
	}
	c := newConfigured(t, nil)
	c.start(frozen("a", "false"), nil)
	c.runs()
	var said spoken
	c.SetVoice(&said)
	c.configure(frozen("b", "false"), nil)
	c.is(valid("a"), FromConfigMap, "")
	if now := c.Configuration(); now.Waiting != hashOf(frozen("b", "false")) || now.Hash != hashOf(frozen("a", "false")) {
		t.Errorf("%+v", now)
	}
	c.configure(map[string]string{"queues.yaml": "queues: [", "service.enableConfigHotRefresh": "false"}, nil)
	if now := c.Configuration(); now.Err == nil || now.Data["queues.yaml"] != valid("a") {
		t.Errorf("one that is not valid: %+v", now)
	}
	c.configure(frozen("a", "false"), nil) // as it was
	if now := c.Configuration(); now.Waiting != "" || now.Err != nil {
		t.Errorf("%+v", now)
	}
	c.configure(frozen("c", "true"), nil)
	c.is(valid("c"), FromConfigMap, "", valid("c"))
	c.configure(frozen("d", "false"), nil) // turned off by what is taken
	c.configure(queues(valid("e")), nil)
	c.is(valid("e"), FromConfigMap, "", valid("c"), valid("d"), valid("e"))

	want := []string{
		"ConfigurationWaits false: configuration " + hashOf(frozen("b", "false")) + " waits until the replicas are started again, " +
			hashOf(frozen("a", "false")) + " stays in force: service.enableConfigHotRefresh is false",
		"ConfigurationRefused true: the last valid configuration stays in force: queues.yaml: ",
		"ConfigurationAccepted false: configuration " + hashOf(frozen("a", "false")) + " is in force",
		"ConfigurationAccepted false: configuration " + hashOf(frozen("c", "true")) + " is in force",
		"ConfigurationAccepted false: configuration " + hashOf(frozen("d", "false")) + " is in force",
		"ConfigurationAccepted false: configuration " + hashOf(queues(valid("e"))) + " is in force",
	}
	if len(said) != len(want) {
		t.Fatalf("said %q, want %q", said, want)
	}
	for i := range want {
		if !strings.HasPrefix(said[i], want[i]) {
			t.Errorf("said %q, want %q", said[i], want[i])
		}
	}
}

// TestWhatAProcessReadsAsItStarts is known by its keys when it has changed, and is forgotten
// when it is as it was.
func TestWhatAProcessReadsAsItStarts(t *testing.T) {
	with := func(more map[string]string) map[string]string {
		data := queues(valid("a"))
		maps.Copy(data, more)
		return data
	}
	began := with(map[string]string{"service.clusterId": "one", "service.enableConfigHotRefresh": "false"})
	c := newConfigured(t, nil)
	c.start(began, nil)
	if c.Configuration().Restart != nil {
		t.Error("nothing has been started")
	}
	c.configuring.began = began
	c.runs()
	var said spoken
	c.SetVoice(&said)
	for _, tt := range []struct {
		data map[string]string
		want string
	}{
		{with(map[string]string{"service.clusterId": "two", "service.enableConfigHotRefresh": "false"}), ""}, // it waits
		{with(map[string]string{"service.clusterId": "one"}), ""},
		{with(map[string]string{"service.clusterId": "one", "log.level": "WARN", "service.eventChannelCapacity": "7", "unknown": "x"}), ""},
		{with(map[string]string{"service.clusterId": "two", "service.placeholderImage": "pause"}), "service.clusterId,service.placeholderImage"},
		{with(map[string]string{"service.clusterId": "one", "service.placeholderImage": "pause"}), "service.placeholderImage"},
		{with(map[string]string{"service.clusterId": "one"}), ""},
		{with(nil), "service.clusterId"},
	} {
		c.configure(tt.data, nil)
		if now := c.Configuration(); strings.Join(now.Restart, ",") != tt.want || now.Err != nil {
			t.Errorf("%v: %+v", tt.data, now)
		}
	}
	if last := said[len(said)-1]; !strings.HasSuffix(last, "to take on service.clusterId") {
		t.Errorf("said %q", last)
	}
}

// TestTheEngineRunsWithTheSettings of the ConfigMaps.
func TestTheEngineRunsWithTheSettings(t *testing.T) {
	data := map[string]string{"service.clusterId": "one", "service.policyGroup": "two", "service.nodeInstanceTypeNodeLabelKey": "example.com/type"}
	c := newConfigured(t, nil)
	var err error
	if c.settings, err = settings.Parse(data); err != nil {
		t.Fatal(err)
	}
	got := c.runsWith(data)
	if got.RMID != "one" || got.PolicyGroup != "two" || got.InstanceTypeLabel != "example.com/type" || !maps.Equal(got.ConfigYAML, data) {
		t.Errorf("it runs with %+v", got)
	}
}

// TestConfigurationsAreToldApart by their hash.
func TestConfigurationsAreToldApart(t *testing.T) {
	seen := make(map[string]map[string]string)
	for _, data := range []map[string]string{
		{}, {"a": ""}, {"a": "b"}, {"ab": ""}, {"a": "1", "b": "2"}, {"a": "1 1 b 1 2"}, {"a": "2", "b": "1"}, {"a": "1\n1 b 1 2"},
	} {
		hash := hashOf(data)
		if other, twice := seen[hash]; twice || len(hash) != 12 || hash != hashOf(maps.Clone(data)) {
			t.Errorf("%v and %v: %s", data, other, hash)
		}
		seen[hash] = data
	}
}

// TestUsersAreToldOfTheirConfiguration: by a replica that leads, at once or as soon as
// it leads, and once for each reason and for each configuration that comes into force.
func TestUsersAreToldOfTheirConfiguration(t *testing.T) {
	c := newConfigured(t, held(valid("a"), 1))
	c.start(nil, errUnreadable)
	c.runs()
	var said spoken
	c.SetVoice(&said)
	c.configure(nil, errUnreadable)
	c.configure(queues("refused"), nil)
	c.configure(queues("b"), nil)
	c.configure(queues("c"), nil)
	want := []string{
		"ConfigurationRefused true: the last valid configuration stays in force: " + errUnreadable.Error(),
		"ConfigurationRefused true: the last valid configuration stays in force: no such queue",
		"ConfigurationAccepted false: configuration " + hashOf(queues("b")) + " is in force",
		"ConfigurationAccepted false: configuration " + hashOf(queues("c")) + " is in force",
	}
	if !slices.Equal(said, want) {
		t.Errorf("said %q, want %q", said, want)
	}
	if !maps.Equal(c.Configuration().Data, queues("c")) {
		t.Errorf("%+v in force", c.Configuration())
	}
}
