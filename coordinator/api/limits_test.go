package api

import (
	"fmt"
	"maps"
	"testing"

	"github.com/apache/yunikorn-core/pkg/common/configs"
)

// TestLimitsOfEvents are those of the core's configuration, also once it has changed.
func TestLimitsOfEvents(t *testing.T) {
	before := maps.Clone(configs.GetConfigMap())
	defer configs.SetConfigMap(before)
	c := newCore(nil, Config{})
	for _, want := range []struct {
		size       string
		events     uint64
		streams    int // in all
		streamsOfA int
	}{{"7", 7, 3, 2}, {"0", configs.DefaultRESTResponseSize, 4, 1}} {
		settings := map[string]string{}
		maps.Copy(settings, before)
		settings[configs.CMRESTResponseSize] = want.size
		settings[configs.CMMaxEventStreams], settings[configs.CMMaxEventStreamsPerHost] = fmt.Sprint(want.streams), fmt.Sprint(want.streamsOfA)
		configs.SetConfigMap(settings)
		if got := maxEvents(); got != want.events {
			t.Errorf("an answer has up to %d events, want %d", got, want.events)
		}
		var hosts []string
		for i := range 10 {
			for _, host := range []string{"a", fmt.Sprint("other-", i)} {
				if c.streams.AddHost(host) {
					hosts = append(hosts, host)
				}
			}
		}
		ofA := 0
		for _, host := range hosts {
			if host == "a" {
				ofA++
			}
			c.streams.RemoveHost(host)
		}
		if len(hosts) != want.streams || ofA != want.streamsOfA {
			t.Errorf("%d streams, %d of them of one host, want %d and %d", len(hosts), ofA, want.streams, want.streamsOfA)
		}
	}
}
