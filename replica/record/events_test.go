package record

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// someEvents are what the core says of pods, and stranger things.
func someEvents(n int) []*si.EventRecord {
	events := make([]*si.EventRecord, n)
	for i := range events {
		events[i] = &si.EventRecord{
			Type: si.EventRecord_Type(i % 6), EventChangeType: si.EventRecord_ChangeType(i % 4),
			EventChangeDetail: si.EventRecord_ChangeDetail(100 * (i % 3)), TimestampNano: 1e18 + int64(i)*1e5*int64(1-2*(i%2)),
			ObjectID: fmt.Sprintf("app-%d", i/3), ReferenceID: fmt.Sprintf("node-%d", i%5), Message: strings.Repeat("é", i%4),
		}
		switch i % 4 {
		case 1:
			events[i].Resource = &si.Resource{Resources: map[string]*si.Quantity{"vcore": {Value: int64(i % 2)}, "memory": {Value: -1 << 40}}}
		case 2:
			events[i].Resource = &si.Resource{}
		}
	}
	return events
}

func TestEventsRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 500} {
		want := someEvents(n)
		got, err := DecodeEvents(EncodeEvents(want))
		if err != nil || len(got) != n {
			t.Fatalf("%d events: %d, %v", n, len(got), err)
		}
		for i := range want {
			if !proto.Equal(got[i], want[i]) {
				t.Fatalf("event %d is\n%v, want\n%v", i, got[i], want[i])
			}
		}
	}
}

// TestEventsThatAreNone: whatever etcd holds, it is an error and no panic.
func TestEventsThatAreNone(t *testing.T) {
	good := EncodeEvents(someEvents(50))
	newer := marshal(&recordpb.Events{Schema: SchemaVersion + 1})
	if _, err := DecodeEvents(newer); !errors.Is(err, ErrNewerSchema) {
		t.Errorf("of a newer version: %v", err)
	}
	for i := range good {
		if _, err := DecodeEvents(good[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("the first %d of %d bytes: %v", i, len(good), err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		c := columnsOf(someEvents(5))
		for _, column := range [][]int32{c.Object, c.Reference, c.Message, c.Resource} {
			column[random.IntN(5)] = random.Int32() - random.Int32()
		}
		c.Type = c.Type[:random.IntN(6)]
		_, _ = eventsOf(c) // no panic
	}
	c := columnsOf(someEvents(5))
	c.Object[2] = 1 << 30
	if _, err := eventsOf(c); err == nil {
		t.Error("a word that is not there was found")
	}
}

func TestSampleRoundTrip(t *testing.T) {
	want := Sample{At: 17, Applications: 3, Containers: 4}
	if got, err := DecodeSample(EncodeSample(want)); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := DecodeSample([]byte("x")); !errors.Is(err, ErrCorrupt) {
		t.Errorf("garbage: %v", err)
	}
}

// TestTheChronicleIsNotFollowed: its keys, and no others, are beyond those that views read.
func TestTheChronicleIsNotFollowed(t *testing.T) {
	k := Keys{Prefix: "/p"}
	for _, key := range []string{k.Leader(), k.Schema(), k.Configuration(), k.App("\xff"), k.Task("~", "~"), k.Terms(), k.Term(1 << 63)} {
		if key < k.Root() || key >= k.Followed() {
			t.Errorf("%q is not followed", key)
		}
	}
	for _, key := range []string{k.Events(), k.EventRun(0, 1), k.Samples(), k.Sample(1439)} {
		if key < k.Followed() || !strings.HasPrefix(key, k.Root()) {
			t.Errorf("%q is followed, or outside of the prefix", key)
		}
		if _, err := k.Parse(key); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%q: %v: an older view would take it for a record", key, err)
		}
	}
	for _, run := range [][2]uint64{{0, 0}, {9, 16}, {1 << 60, 1<<64 - 1}} {
		if first, last, err := k.ParseEventRun(k.EventRun(run[0], run[1])); first != run[0] || last != run[1] || err != nil {
			t.Errorf("%v: %d %d %v", run, first, last, err)
		}
	}
	for _, key := range []string{"", k.Events(), k.Events() + "1-2", k.EventRun(2, 1), k.EventRun(1, 2) + "0", k.Sample(3)} {
		if _, _, err := k.ParseEventRun(key); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func BenchmarkEncodeEvents(b *testing.B) {
	for _, n := range []int{8, 100} {
		events := someEvents(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				EncodeEvents(events)
			}
		})
	}
}
