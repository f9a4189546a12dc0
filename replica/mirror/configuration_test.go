package mirror_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/mirror"
	"github.com/understudy-ha/understudy/replica/record"
)

// TestTheConfigurationIsWrittenInTheNameOfItsEpoch: the newest one counts, and says who
// wrote it, also once the lead goes on in another epoch.
func TestTheConfigurationIsWrittenInTheNameOfItsEpoch(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	m := run(t, cli, claim(t, cli, 3), config())
	written := func(queues string, epoch uint64) {
		t.Helper()
		got, err := record.DecodeConfiguration(get(t, cli, keys.Configuration()).Kvs[0].Value)
		if err != nil || got.Epoch != epoch || got.Accepted != 7 || !maps.Equal(got.Data, map[string]string{"queues.yaml": queues}) {
			t.Errorf("%+v, %v; want %q of epoch %d", got, err, queues, epoch)
		}
	}
	put := func(queues string) {
		m.PutConfiguration(record.Configuration{Data: map[string]string{"queues.yaml": queues}, Accepted: 7, Epoch: 1})
	}
	put("first")
	put("second")
	m.flush(t)
	written("second", 3)
	if _, err := m.Reclaim(etcdtest.Within(t), leader(4)); err != nil {
		t.Fatal(err)
	}
	put("third")
	m.flush(t)
	written("third", 4)

	claim(t, cli, 5)
	put("of a lead that was")
	if err := m.ended(t); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("the mirror went on: %v", err)
	}
	written("third", 4)
}
