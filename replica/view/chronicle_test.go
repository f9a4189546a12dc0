package view_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// heard is what a client is told of the chronicle.
type heard struct {
	mu   sync.Mutex
	keys []string
}

func (h *heard) note(key []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(string(key), keys.Events()) {
		h.keys = append(h.keys, string(key))
	}
}

type heardKV struct {
	clientv3.KV
	*heard
}

func (h heardKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := h.KV.Get(ctx, key, opts...)
	if err == nil {
		for _, kv := range resp.Kvs {
			h.note(kv.Key)
		}
	}
	return resp, err
}

type heardWatcher struct {
	clientv3.Watcher
	*heard
}

func (h heardWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	from, to := h.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(to)
		for resp := range from {
			for _, e := range resp.Events {
				h.note(e.Kv.Key)
			}
			select {
			case to <- resp:
			case <-ctx.Done():
			}
		}
	}()
	return to
}

// TestViewsDoNotHearOfTheChronicle: neither when they load nor when they follow, and they know all
// the same how far they are.
func TestViewsDoNotHearOfTheChronicle(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	l := leading(t, cli, 1)
	put := func(from int) {
		for i := range 5 {
			n := uint64(from + i)
			l.PutNotes([]mirror.Note{{Key: keys.EventRun(n, n), Value: []byte(fmt.Sprint("event ", n))}}, nil)
		}
		if err := l.Flush(etcdtest.Within(t)); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	told := &heard{}
	cli.KV, cli.Watcher = heardKV{cli.KV, told}, heardWatcher{cli.Watcher, told}
	f := follow(t, cli, config())
	f.wait(t, l.Status().Revision)
	put(5)
	f.wait(t, l.Status().Revision)
	told.mu.Lock()
	defer told.mu.Unlock()
	if len(told.keys) > 0 {
		t.Errorf("told of %q", told.keys)
	}
}
