package history

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
)

const prefix = "/understudy"

func put(t *testing.T, cli *clientv3.Client, key, value string) int64 {
	t.Helper()
	resp, err := cli.Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func watchEtcd(t *testing.T, cli *clientv3.Client) *Etcd {
	t.Helper()
	e, err := WatchEtcd(t.Context(), cli, prefix, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func settle(t *testing.T, e interface{ Settle(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := e.Settle(ctx); err != nil {
		t.Fatal(err)
	}
}

// keys renders events as "generation/revision key=value", "base" ones marked.
func keys(evs []EtcdEvent, origin int64) []string {
	var out []string
	for _, e := range evs {
		s := fmt.Sprintf("%d/%d %s=%s", e.Generation, e.Revision-origin, e.Key, e.Value)
		if e.Deleted {
			s = fmt.Sprintf("%d/%d %s deleted", e.Generation, e.Revision-origin, e.Key)
		}
		if e.Base {
			s += " base"
		}
		out = append(out, s)
	}
	return out
}

func TestEtcdHistoryHoldsEveryWriteAcrossARestart(t *testing.T) {
	srv := etcdtest.Start(t)
	cli := srv.Client()
	origin := put(t, cli, prefix+"/leader", "1")
	put(t, cli, prefix+"-other/leader", "x") // another prefix that begins alike
	e := watchEtcd(t, cli)
	var told []EtcdEvent
	defer e.Subscribe(func(ev EtcdEvent) { told = append(told, ev) })()

	if _, err := cli.Txn(t.Context()).Then(
		clientv3.OpPut(prefix+"/apps/a", "A"), clientv3.OpPut(prefix+"/tasks/a/1", "T"),
	).Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Delete(t.Context(), prefix+"/tasks/a/1"); err != nil {
		t.Fatal(err)
	}
	settle(t, e)
	first := []string{"0/0 leader=1 base", "0/2 apps/a=A", "0/2 tasks/a/1=T", "0/3 tasks/a/1 deleted"}
	want(t, "events", keys(e.Events(), origin), first)

	srv.Kill()
	srv.Restart()
	put(t, cli, prefix+"/leader", "2")
	settle(t, e)
	want(t, "events", keys(e.Events(), origin), append(first, "0/4 leader=2"))
	if gaps := e.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps: %+v", gaps)
	}
	e.Close() // ends the goroutine that told
	want(t, "events told", keys(told, origin), keys(e.Events()[1:], origin))
}

func TestCompactionUnderACutWatchLeavesAGap(t *testing.T) {
	srv := etcdtest.Start(t)
	direct := srv.Client()
	origin := put(t, direct, prefix+"/leader", "1")
	proxy := etcdtest.NewProxy(t, srv.Addr)
	e := watchEtcd(t, etcdtest.Client(t, proxy.Addr))

	proxy.Cut()
	put(t, direct, prefix+"/apps/a", "A")
	put(t, direct, prefix+"/apps/a", "B")
	last := put(t, direct, prefix+"/apps/a", "C")
	if _, err := direct.Compact(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	settle(t, e)
	want(t, "events", keys(e.Events(), origin), []string{
		"0/0 leader=1 base", "0/3 apps/a=C base", "0/0 leader=1 base",
	})
	gaps := e.Gaps()
	if len(gaps) != 1 || gaps[0].What != "etcd" || gaps[0].After != uint64(origin) || gaps[0].Until != uint64(last) {
		t.Errorf("gaps: %+v, want one from %d to %d", gaps, origin, last)
	}
}

// After a wipe revisions start over, and a watch that waits for the next of the
// old ones would be silent.
func TestWipedEtcdBeginsANewGenerationWithoutAGap(t *testing.T) {
	for what, writes := range map[string]int{
		"fewer revisions than before": 1,
		"more revisions than before":  9, // the revision alone does not give it away
	} {
		t.Run(what, func(t *testing.T) {
			srv := etcdtest.Start(t)
			cli := srv.Client()
			put(t, cli, prefix+"/leader", "1")
			e := watchEtcd(t, cli)
			for range 5 {
				put(t, cli, prefix+"/apps/a", "A")
			}
			settle(t, e)
			before := len(e.Events())

			srv.Wipe()
			put(t, cli, prefix+"/leader", "2")
			wanted := []string{"1/2 leader=2"}
			for i := range writes {
				put(t, cli, prefix+"/apps/b", "B")
				wanted = append(wanted, fmt.Sprintf("1/%d apps/b=B", i+3))
			}
			settle(t, e)
			want(t, "events", keys(e.Events()[before:], 0), wanted)
			if gaps := e.Gaps(); len(gaps) != 0 {
				t.Errorf("gaps: %+v", gaps)
			}
		})
	}
}

func TestAnotherDataSetIsRecognized(t *testing.T) {
	was := mark{cluster: 1, term: 2, revision: 9, leader: 4, value: "1"}
	for what, c := range map[string]struct {
		next mark
		want bool
	}{
		"nothing happened":       {was, false},
		"writes":                 {mark{1, 2, 50, 4, "1"}, false},
		"a claim":                {mark{1, 3, 50, 49, "2"}, false},
		"leader key removed":     {mark{1, 2, 10, 0, ""}, false},
		"revision went back":     {mark{1, 2, 8, 4, "1"}, true},
		"raft term went back":    {mark{1, 1, 50, 4, "1"}, true},
		"another cluster":        {mark{2, 2, 50, 4, "1"}, true},
		"an older claim":         {mark{1, 2, 50, 3, "1"}, true},
		"another claim in place": {mark{1, 2, 50, 4, "2"}, true},
	} {
		if got := was.other(c.next); got != c.want {
			t.Errorf("%s: other data = %v", what, got)
		}
	}
}

// Settle must not take the old data's progress for that of the new.
func TestGenerationOfAMarkIsTheSameBeforeAndAfterItWasNoticed(t *testing.T) {
	was := mark{cluster: 1, term: 2, revision: 9, leader: 4, value: "1"}
	wiped := mark{cluster: 1, term: 2, revision: 3, leader: 2, value: "2"}
	e := &Etcd{last: was, progress: 9}
	if got := e.generationOf(was); got != 0 {
		t.Errorf("old data: generation %d", got)
	}
	if got := e.generationOf(wiped); got != 1 {
		t.Errorf("new data, not noticed yet: generation %d, want 1", got)
	}
	if !e.notice(wiped) || e.progress != 0 {
		t.Errorf("the wipe was not noticed; progress %d", e.progress)
	}
	if got := e.generationOf(wiped); got != 1 {
		t.Errorf("new data, noticed: generation %d, want 1", got)
	}
}
