package settings

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/yunikorn-core/pkg/common/configs"
)

// The table says of each key what its kind takes and what it does not.
func TestEveryKeyReadsItsKind(t *testing.T) {
	values := map[Kind]struct{ good, bad []string }{
		Bool:     {[]string{"true", "false", "T", "1", "FALSE"}, []string{"", "yes", "tru", "true ", "2"}},
		Int:      {[]string{"1000", "-1", "0"}, []string{"", "1.5", "1k", " 1", "99999999999"}},
		Uint:     {[]string{"0", "1000"}, []string{"", "-1", "1.5", "1k", "18446744073709551615"}},
		Duration: {[]string{"1s", "10m", "1h30m", "0.5s"}, []string{"", "10", "1 s", "1d", "s"}},
		Level:    {[]string{"INFO", "debug", "-1", "5"}, []string{"LOUD", "1.5", "1000"}},
		Patterns: {[]string{"", "^a$", "a,^b$, c"}, []string{"(", "a,*", "[z-a]"}},
	}
	for _, k := range Table() {
		v := values[k.Kind]
		for _, text := range v.good {
			if err := k.check(text); err != nil {
				t.Errorf("%s: %q is refused: %v", k.Name, text, err)
			}
		}
		for _, text := range v.bad {
			if err := k.check(text); err == nil {
				t.Errorf("%s: %q is taken", k.Name, text)
			}
		}
		if _, family := strings.CutPrefix(k.Name, "<"); k.Default != "" && !family {
			if err := k.check(k.Default); err != nil {
				t.Errorf("%s: the default %q is refused: %v", k.Name, k.Default, err)
			}
		}
		if k.Meaning == "" || !strings.HasSuffix(k.Meaning, ".") || k.Effect == "" || k.Reader == "" {
			t.Errorf("%s: incomplete: %+v", k.Name, k)
		}
	}
}

func TestDefaultsOfTheCoreAreTheCores(t *testing.T) {
	for key, want := range map[string]string{
		configs.HealthCheckInterval: configs.DefaultHealthCheckInterval.String(), configs.CMEventTrackingEnabled: "true", configs.CMEventRequestCapacity: "1000",
		configs.CMEventRingBufferCapacity: "100000", configs.CMMaxEventStreams: "100", configs.CMMaxEventStreamsPerHost: "15", configs.CMRESTResponseSize: "10000",
	} {
		if got := Default(key); got != want {
			t.Errorf("%s: default %q, want %q", key, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	s, err := Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.ClusterID != "mycluster" || s.PolicyGroup != "queues" || s.VolumeBindTimeout != 10*time.Minute || s.DisableGangScheduling || !s.HotRefresh ||
		s.PlaceholderImage != "registry.k8s.io/pause:3.7" || s.QPS != 1000 || s.Burst != 1000 || s.InstanceTypeLabel != "node.kubernetes.io/instance-type" {
		t.Errorf("defaults: %+v", s)
	}
	if s.Given(KeyQPS) {
		t.Error("a key is given that nobody gave")
	}
	s, err = Parse(map[string]string{
		KeyClusterID: "c", KeyPolicyGroup: "night", KeyVolumeBindTimeout: "90s", KeyDisableGangs: "true", KeyHotRefresh: "false", KeyPlaceholderImage: "pause:x",
		KeyRunAsUser: "1000", KeyRunAsGroup: "2000", KeyFSGroup: "3000", KeyInstanceTypeLabel: "a/b", KeyQPS: "50", KeyBurst: "60", KeyUniqueAppID: "true",
		"nobody.reads.this": "?", "admissionController.filtering.bypassNamespaces": "(",
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.ClusterID != "c" || s.PolicyGroup != "night" || s.VolumeBindTimeout != 90*time.Second || !s.DisableGangScheduling || s.HotRefresh || s.PlaceholderImage != "pause:x" ||
		s.RunAsUser != 1000 || s.RunAsGroup != 2000 || s.FSGroup != 3000 || s.InstanceTypeLabel != "a/b" || s.QPS != 50 || s.Burst != 60 || !s.GenerateUniqueAppID {
		t.Errorf("given: %+v", s)
	}
	if !s.Given(KeyQPS) || s.Given(KeyLogLevel) {
		t.Error("what is given is not told from what is not")
	}
}

func TestOneBadValueFailsAll(t *testing.T) {
	for key, value := range map[string]string{
		KeyClusterID: "", KeyPolicyGroup: "a b", KeyVolumeBindTimeout: "0s", KeyDisableGangs: "yes", KeyHotRefresh: "", KeyPlaceholderImage: "a b", KeyRunAsUser: "-5",
		KeyInstanceTypeLabel: "a b", KeyQPS: "many", KeyUniqueAppID: "perhaps", KeyLogLevel: "LOUD", "log.core.level": "LOUD", KeyHealthCheckInterval: "often",
		"service.schedulingInterval": "1", "event.maxStreams": "-1", "service.dispatchTimeout": "\xff",
	} {
		s, err := Parse(map[string]string{key: value, KeyQPS + "x": "y", KeyBurst: "7"})
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s=%q: %v", key, value, err)
		}
		if s.Burst != 0 {
			t.Errorf("%s=%q: the rest is taken: %+v", key, value, s)
		}
	}
}

func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"service.placeholderimage":  KeyPlaceholderImage,
		"service.placholderImage":   KeyPlaceholderImage,
		"kubernetes.QPS":            KeyQPS,
		"queue.yaml":                "queues.yaml",
		"log.core.schduler.level":   "log.core.scheduler.level",
		"log.levle":                 KeyLogLevel,
		"event.RestResponseSize":    "event.RESTResponseSize",
		"log.nothing.of.that.level": "",
		"nothing.like.it":           "",
		"x":                         "",
		"":                          "",
		strings.Repeat("a", 1<<16):  "",
	} {
		if got := Nearest(nil, name); got != want {
			t.Errorf("%.40q: %q, want %q", name, got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	const queues, others = "partitions: [{name: default, queues: [{name: root}]}]", "partitions: [{name: default, queues: [{name: root, submitacl: '*'}]}]"
	const resolved = "partitions: [{name: default, usergroupresolver: {type: os}, queues: [{name: root}]}]"
	for _, c := range []struct {
		name          string
		before, after map[string]string
		want          string // key=effect, in order
	}{
		{name: "nothing"},
		{name: "a default given", after: map[string]string{KeyVolumeBindTimeout: "10m", KeyHotRefresh: "true"}},
		{name: "a default taken away", before: map[string]string{KeyVolumeBindTimeout: "10m"}},
		{name: "a default of two files", after: map[string]string{KeyQPS: "1000"}, want: KeyQPS + "=hand-over"},
		{name: "of each kind", after: map[string]string{KeyLogLevel: "DEBUG", KeyClusterID: "x", "service.schedulingInterval": "2s", "service.operatorPlugins": "x", "what": "x"},
			want: KeyLogLevel + "=hot " + KeyClusterID + "=hand-over service.operatorPlugins=gone service.schedulingInterval=none what="},
		{name: "queues", before: map[string]string{"queues.yaml": queues}, after: map[string]string{"queues.yaml": others}, want: "queues.yaml=hot"},
		{name: "queues taken away", before: map[string]string{"queues.yaml": queues}, want: "queues.yaml=hot"},
		{name: "the resolver", before: map[string]string{"queues.yaml": queues}, after: map[string]string{"queues.yaml": resolved}, want: "queues.yaml=hand-over"},
		{name: "another group", before: map[string]string{"queues.yaml": queues}, after: map[string]string{KeyPolicyGroup: "night", "queues.yaml": queues, "night.yaml": others},
			want: "night.yaml=hand-over " + KeyPolicyGroup + "=hand-over"},
		{name: "refresh off", before: map[string]string{KeyHotRefresh: "false"}, after: map[string]string{KeyHotRefresh: "false", KeyLogLevel: "DEBUG"}, want: KeyLogLevel + "=hand-over"},
		{name: "refresh on again", before: map[string]string{KeyHotRefresh: "false"}, after: map[string]string{KeyLogLevel: "DEBUG"}, want: KeyLogLevel + "=hot " + KeyHotRefresh + "=hot"},
		{name: "refresh off now", after: map[string]string{KeyHotRefresh: "false", KeyLogLevel: "DEBUG"}, want: KeyLogLevel + "=hot " + KeyHotRefresh + "=hot"},
		{name: "a logger", before: map[string]string{"log.core.level": "INFO"}, want: "log.core.level=hot"},
	} {
		var got []string
		for _, change := range Changes(c.before, c.after) {
			got = append(got, change.Key+"="+string(change.Effect))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", c.name, strings.Join(got, " "), c.want)
		}
	}
}
