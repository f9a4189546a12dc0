package timeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/e2e/verify/history"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

var killed = time.Unix(1000, 0)

// at is n milliseconds after the kill.
func at(n int) time.Time { return killed.Add(time.Duration(n) * time.Millisecond) }

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func claim(t *testing.T, ms int, epoch uint64) history.EtcdEvent {
	return history.EtcdEvent{At: at(ms), Revision: 70, Key: "leader",
		Value: encode(t, &recordpb.Leader{Epoch: epoch, Incarnation: fmt.Sprint("replica-", epoch)})}
}

func term(t *testing.T, ms int, epoch uint64, steps map[string]int) history.EtcdEvent {
	m := &recordpb.Term{Epoch: epoch}
	for step, ms := range steps {
		m.Timings = append(m.Timings, &recordpb.Timing{Step: step, At: at(ms).UnixNano()})
	}
	return history.EtcdEvent{At: at(ms), Key: fmt.Sprintf("terms/%020d", epoch), Value: encode(t, m)}
}

func lease(ms int, holder string, transitions int32) history.LeaseEvent {
	return history.LeaseEvent{At: at(ms), Kind: history.Changed, Holder: holder, Transitions: transitions}
}

func bind(ms int, name string, epoch uint64) history.PodEvent {
	return history.PodEvent{At: at(ms), Kind: history.Changed,
		Pod: &history.Pod{UID: name, Namespace: "ns", Name: name, Node: "n1", Epoch: epoch}}
}

// story renders a timeline as "offset name epoch".
func story(tl Timeline) string {
	var out []string
	for _, s := range tl.Steps {
		out = append(out, fmt.Sprintf("%d %s %d", s.Offset.Milliseconds(), s.Name, s.Epoch))
	}
	return strings.Join(out, "\n")
}

func failover(t *testing.T) Timeline {
	leases := []history.LeaseEvent{
		{At: at(-9000), Kind: history.Base, Holder: "replica-3", Transitions: 3},
		lease(8, "", 3),
		lease(20, "replica-4", 4),
	}
	etcd := []history.EtcdEvent{
		claim(t, -9000, 3),
		term(t, -8000, 3, map[string]int{"old": -8000}),
		claim(t, 35, 4),
		term(t, 90, 4, map[string]int{"caught up": 40}),
		term(t, 95, 4, map[string]int{"caught up": 40, "engine released": 60}),
	}
	pods := []history.PodEvent{
		bind(-100, "a", 3),
		bind(2, "b", 3), // was on its way when the lead was killed
		bind(75, "c", 4),
		bind(76, "d", 4),
	}
	return Assemble(killed, 3, leases, etcd, pods)
}

func TestAssembleTellsTheFailoverInOrder(t *testing.T) {
	tl := failover(t)
	want := strings.Join([]string{
		"0 lead killed 3",
		"8 lease released 0",
		"20 lease taken 4",
		"35 epoch claimed 4",
		"40 caught up 4",
		"60 engine released 4",
		"75 first bind 4",
	}, "\n")
	if got := story(tl); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !tl.Complete() || tl.NewEpoch != 4 || tl.NoBind != 73*time.Millisecond {
		t.Errorf("complete %v, epoch %d, no bind for %v", tl.Complete(), tl.NewEpoch, tl.NoBind)
	}
	if s := tl.Step(Claimed); s == nil || s.Source != FromEtcd || s.Detail != "replica-4, revision 70" {
		t.Errorf("claim: %+v", s)
	}
}

func TestAssembleTellsOfASuccessorThatDiedToo(t *testing.T) {
	leases := []history.LeaseEvent{
		{At: at(-9000), Kind: history.Base, Holder: "replica-3", Transitions: 3},
		lease(20, "replica-4", 4),
		lease(500, "replica-5", 5),
	}
	etcd := []history.EtcdEvent{claim(t, 35, 4), claim(t, 520, 5), term(t, 700, 5, map[string]int{"caught up": 530})}
	tl := Assemble(killed, 3, leases, etcd, []history.PodEvent{bind(600, "c", 5)})
	want := strings.Join([]string{
		"0 lead killed 3", "20 lease taken 4", "35 epoch claimed 4",
		"500 lease taken 5", "520 epoch claimed 5", "530 caught up 5", "600 first bind 5",
	}, "\n")
	if got := story(tl); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if s := tl.Step(Claimed); s.Epoch != 5 {
		t.Errorf("the claim that counts is of epoch %d", s.Epoch)
	}
}

func TestOnlyABindOfANewerEpochEndsTheFailover(t *testing.T) {
	pods := []history.PodEvent{
		bind(50, "a", 3), // the zombie's
		bind(60, "f", 0), // another scheduler's
	}
	pods = append(pods, history.PodEvent{At: at(70), Kind: history.Base, // bound before we looked
		Pod: &history.Pod{UID: "x", Node: "n1", Epoch: 4}})
	tl := Assemble(killed, 3, nil, []history.EtcdEvent{claim(t, 35, 4)}, pods)
	if tl.Complete() || tl.NewEpoch != 4 || tl.NoBind != 0 {
		t.Errorf("complete %v, epoch %d, no bind for %v", tl.Complete(), tl.NewEpoch, tl.NoBind)
	}
}

func TestPrintAndJSON(t *testing.T) {
	tl := failover(t)
	var out strings.Builder
	if err := tl.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"T+0 ms   lead killed", "T+20 ms  lease taken", "lease watch", "replica-4, transition 4",
		"T+75 ms  first bind", "ns/c to n1", "no bind for 73 ms",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	raw, err := json.Marshal(tl)
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		OldEpoch, NewEpoch uint64
		NoBind             float64 `json:"no_bind_ms"`
		Steps              []struct {
			Step string
			T    float64 `json:"t_ms"`
		}
	}
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if back.NoBind != 73 || len(back.Steps) != 7 || back.Steps[6].Step != FirstBind || back.Steps[6].T != 75 {
		t.Errorf("JSON came back as %+v", back)
	}
}
