package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/understudy-ha/understudy/e2e/lab"
	"github.com/understudy-ha/understudy/e2e/load"
	"github.com/understudy-ha/understudy/e2e/verify"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// patience is for what must happen, on a machine with much else to do.
const patience = 2 * time.Minute

// eventually waits until ok, and ends the test if it never is.
func eventually(t *testing.T, what string, ok func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("%v have passed", patience))
	defer cancel()
	var last error
	err := await(ctx, what, func() (done bool, _ error) {
		done, last = ok(ctx) // the API server may be away for a moment
		return done, nil
	})
	if err != nil {
		t.Fatal(errors.Join(err, last))
	}
}

// begin starts to observe l until the test ends.
func begin(t *testing.T, l *lab.Lab) *Session {
	t.Helper()
	s, err := Begin(t.Context(), l, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func create(t *testing.T, s *Session, pod *v1.Pod) *v1.Pod {
	t.Helper()
	made, err := s.Lab.Client().CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// bound waits until the pod has a node, and returns it.
func bound(t *testing.T, s *Session, pod *v1.Pod) (node string) {
	t.Helper()
	eventually(t, pod.Name+" to be bound", func(ctx context.Context) (bool, error) {
		now, err := s.Lab.Client().CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err == nil {
			node = now.Spec.NodeName
		}
		return node != "", err
	})
	return node
}

// told returns the messages of the Warning Events on a pod that have the reason,
// sorted.
func told(ctx context.Context, s *Session, pod *v1.Pod, reason string) ([]string, error) {
	list, err := s.Lab.Client().CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(pod.UID), "reason": reason, "type": v1.EventTypeWarning}.String(),
	})
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, e := range list.Items {
		for range max(1, e.Count) {
			messages = append(messages, e.Message)
		}
	}
	slices.Sort(messages)
	return messages, nil
}

// succeed kills the lead, has something done while nobody leads, and waits for
// the successor.
func succeed(t *testing.T, s *Session, meanwhile func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.KillLead(ctx, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	if _, err := s.Lab.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
}

const (
	keyTaskGroups = "yunikorn.apache.org/task-groups"
	keyPolicy     = "yunikorn.apache.org/schedulingPolicyParameters"
	keyHolds      = "yunikorn.apache.org/placeholder"
	keyUser       = "yunikorn.apache.org/user.info"
	keyIgnore     = "yunikorn.apache.org/ignore-application"
	keyPreempt    = "yunikorn.apache.org/allow-preemption"
)

const oneMember = `[{"name": "g", "minMember": 1, "minResource": {"cpu": "100m"}}]`

// malformed are pods with something in them that cannot be read, and how often
// that is to be told under which key.
func malformed() map[*v1.Pod]map[string]int {
	return map[*v1.Pod]map[string]int{
		podOf("bad-json", "bad-json", annotated(keyTaskGroups, `[{"name": "g", "minMember": `)):                        {keyTaskGroups: 1},
		podOf("bad-member", "bad-member", annotated(keyTaskGroups, `[{"name": "g", "minMember": 0}]`)):                 {keyTaskGroups: 1},
		podOf("bad-quantity", "bad-quantity", annotated(keyTaskGroups, strings.Replace(oneMember, "100m", "much", 1))): {keyTaskGroups: 1},
		podOf("bad-policy", "bad-policy", annotated(keyTaskGroups, oneMember), annotated("yunikorn.apache.org/task-group-name", "g"),
			annotated(keyPolicy, "placeholderTimeoutInSeconds=soon gangSchedulingStyle=Firm now")): {keyPolicy: 3},
		podOf("bad-flags", "bad-flags", annotated(keyHolds, "maybe"), annotated(keyIgnore, "perhaps"), annotated(keyPreempt, "no!")): {
			keyHolds: 1, keyIgnore: 1, keyPreempt: 1,
		},
		podOf("bad-user", "bad-user", annotated(keyUser, `{"groups": ["x"]}`)): {keyUser: 1},
	}
}

// What cannot be read of a pod counts as absent, is told once, and keeps no pod
// from being scheduled.
func malformedPods(t *testing.T, s *Session) {
	pods := malformed()
	for pod := range pods {
		pod.UID = create(t, s, pod).UID
	}
	for pod := range pods {
		bound(t, s, pod)
	}
	complain := func() {
		t.Helper()
		for pod, keys := range pods {
			eventually(t, fmt.Sprintf("Events about %v on %s", keys, pod.Name), func(ctx context.Context) (bool, error) {
				messages, err := told(ctx, s, pod, "InvalidAnnotation")
				return len(messages) > 0 && counts(messages, keys) == nil, errors.Join(err, counts(messages, keys))
			})
		}
	}
	complain()
	// The gang whose parameters could not be read was scheduled as one, by the
	// defaults. Lists that could not be read made no gang.
	holds := map[string]bool{}
	for _, ev := range s.Cluster.Pods() {
		if strings.HasPrefix(ev.Pod.Name, "tg-") {
			holds[strings.TrimPrefix(ev.Pod.Name, "tg-bad-policy-g-")] = true
		}
	}
	for nonce := range holds {
		if len(holds) != 1 || len(nonce) != 10 {
			t.Errorf("placeholders: %v", holds)
		}
	}
	if len(holds) == 0 {
		t.Error("there was no placeholder")
	}

	// A pod may also come while nobody leads, of an application that is known.
	late := podOf("bad-user", "bad-late", annotated(keyUser, "nobody"))
	pods[late] = map[string]int{keyUser: 1}
	startAnew(t, s, func() { late.UID = create(t, s, late).UID })
	bound(t, s, late)
	complain()
}

// counts compares messages, each of which begins with its key, with how often each
// key is to be told.
func counts(messages []string, want map[string]int) error {
	got := map[string]int{}
	for _, m := range messages {
		key, _, _ := strings.Cut(m, ": ")
		got[key]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("told %v, want %v: %q", got, want, messages)
	}
	return nil
}

// A pod that fits nowhere is told why, once for each reason, and is bound when a
// node comes that has room for it.
func unschedulablePods(t *testing.T, s *Session) {
	wide := podOf("wide", "wide", requests("40"))
	wide.UID = create(t, s, wide).UID
	reasons := func(want ...string) func(context.Context) (bool, error) {
		return func(ctx context.Context) (bool, error) {
			messages, err := told(ctx, s, wide, "FailedScheduling")
			ok := len(messages) == len(want)
			for i := 0; ok && i < len(want); i++ {
				ok = slices.ContainsFunc(messages, func(m string) bool { return strings.Contains(m, want[i]) })
			}
			return ok, errors.Join(err, fmt.Errorf("told %q, want %q", messages, want))
		}
	}
	eventually(t, "an Event that says what is missing", reasons("0/20 nodes are available: 20 Insufficient cpu"))
	scheduled(t, s, wide, v1.ConditionFalse, "Unschedulable")

	// It is looked at again every 15 s. Other numbers are no other reason.
	nodes := s.Lab.Client().CoreV1().Nodes()
	small := lab.Node("small", lab.NodeSize{CPU: "1", Memory: "1Gi", Pods: "10"})
	if _, err := nodes.Create(t.Context(), small, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for again := time.After(17 * time.Second); again != nil; {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-again:
			again = nil
		}
		if messages, err := told(t.Context(), s, wide, "FailedScheduling"); err == nil && len(messages) != 1 {
			t.Fatalf("told again: %q", messages)
		}
	}
	big := lab.Node("big", lab.NodeSize{CPU: "64", Memory: "256Gi", Pods: "100"})
	big.Spec.Taints = []v1.Taint{{Key: "reserved", Effect: v1.TaintEffectNoSchedule}}
	big, err := nodes.Create(t.Context(), big, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	both := reasons("0/20 nodes are available: 20 Insufficient cpu", "1 node(s) had untolerated taint")
	eventually(t, "an Event about the taint", both)

	eventually(t, "the taint to be lifted", func(ctx context.Context) (bool, error) {
		big, err := nodes.Get(ctx, big.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		big.Spec.Taints = nil
		_, err = nodes.Update(ctx, big, metav1.UpdateOptions{})
		return err == nil, err
	})
	if node := bound(t, s, wide); node != big.Name {
		t.Errorf("bound to %s", node)
	}
	if ok, err := both(t.Context()); !ok {
		t.Error(err)
	}
	scheduled(t, s, wide, v1.ConditionTrue, "")
}

// scheduled waits until the condition PodScheduled of a pod is as autoscalers should
// find it.
func scheduled(t *testing.T, s *Session, pod *v1.Pod, status v1.ConditionStatus, reason string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s to be PodScheduled=%s %s", pod.Name, status, reason), func(ctx context.Context) (bool, error) {
		now, err := s.Lab.Client().CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == v1.PodScheduled {
				return c.Status == status && c.Reason == reason, fmt.Errorf("it is %s %s: %s", c.Status, c.Reason, c.Message)
			}
		}
		return false, errors.New("it has no such condition")
	})
}

// A pod that a quota holds has no use for another node.
func podsBeyondTheirQuota(t *testing.T, s *Session) {
	namespace := &v1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "small", Annotations: map[string]string{"yunikorn.apache.org/namespace.quota": `{"cpu": "1"}`},
	}}
	if _, err := s.Lab.Client().CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	in := func(p *v1.Pod) { p.Namespace = namespace.Name }
	first := create(t, s, podOf("first", "first", in, requests("1")))
	bound(t, s, first)
	second := create(t, s, podOf("second", "second", in, requests("1")))
	scheduled(t, s, second, v1.ConditionFalse, "SchedulingSkipped")
	if err := s.Lab.Client().CoreV1().Pods(first.Namespace).Delete(t.Context(), first.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	bound(t, s, second)
	scheduled(t, s, second, v1.ConditionTrue, "")
}

// Records that nobody can read are named, and the cluster tells what was in them.
// fresh says that the successor never read what they were before.
func badRecords(t *testing.T, s *Session, fresh bool) {
	tag := fmt.Sprintf("-fresh-%t", fresh)
	elsewhere := func(p *v1.Pod) { p.Spec.NodeSelector = map[string]string{"for": "waits" + tag} }
	kept, newer := create(t, s, podOf("kept"+tag, "kept"+tag)), create(t, s, podOf("kept"+tag, "newer"+tag))
	only, gone := create(t, s, podOf("only"+tag, "only"+tag)), create(t, s, podOf("kept"+tag, "gone"+tag))
	vanished, waits := create(t, s, podOf("vanished"+tag, "vanished"+tag)), create(t, s, podOf("waits"+tag, "waits"+tag, elsewhere))
	for _, pod := range []*v1.Pod{kept, newer, only, gone, vanished} {
		bound(t, s, pod)
	}
	agree(t, s)

	task := func(p *v1.Pod) string { return "tasks/" + p.Labels["applicationId"] + "/" + string(p.UID) }
	app := func(p *v1.Pod) string { return "apps/" + p.Labels["applicationId"] }
	garbage, unreadable := []byte("\x08\x01\xffgarbage"), map[string][]byte{}
	for _, key := range []string{task(kept), task(gone), app(only), app(vanished)} {
		unreadable[key] = garbage
	}
	for _, key := range []string{task(newer), app(waits)} {
		unreadable[key] = newerSchema(t, s, key)
	}
	forge := func() {
		for key, value := range unreadable {
			if err := s.Forge(t.Context(), key, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func() {
		for _, pod := range []*v1.Pod{gone, vanished} {
			if err := s.Delete(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		}
	}
	if fresh {
		startAnew(t, s, func() { forge(); remove() })
	} else {
		forge()
		succeed(t, s, remove)
	}
	for key := range unreadable {
		eventually(t, key+" to be named in a log", func(context.Context) (bool, error) {
			return logged(s, "a record cannot be read and is skipped", `"key":"`+s.state.Prefix+"/"+key+`"`)
		})
	}
	agree(t, s)

	// What waited still does, and is bound when it can be.
	node := lab.Node("for-waits"+tag, lab.NodeSize{CPU: "1", Memory: "1Gi", Pods: "10"})
	node.Labels["for"] = "waits" + tag
	if _, err := s.Lab.Client().CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bound(t, s, waits)
	agree(t, s)
}

// newerSchema returns the record under key as a later version might write it,
// for later versions to read.
func newerSchema(t *testing.T, s *Session, key string) []byte {
	t.Helper()
	resp, err := s.Lab.Etcd().Get(t.Context(), s.state.Prefix+"/"+key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, resp, err)
	}
	var m proto.Message = &recordpb.App{}
	if strings.HasPrefix(key, "tasks/") {
		m = &recordpb.Task{}
	}
	if err := proto.Unmarshal(resp.Kvs[0].Value, m); err != nil {
		t.Fatal(err)
	}
	schema := m.ProtoReflect().Descriptor().Fields().ByName("schema")
	m.ProtoReflect().Set(schema, protoreflect.ValueOfUint32(99))
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// agree waits until records and cluster say the same.
func agree(t *testing.T, s *Session) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := verify.AwaitRecordsAgree(ctx, s.Lab.Client(), s.Lab.Etcd(), s.state.Prefix, verify.AgreeOptions{IdleApps: true})
	if err != nil || !c.OK {
		t.Fatalf("%v: %s %q", err, c.Detail, c.Examples)
	}
}

// startAnew ends all replicas, has something done, and starts them again.
func startAnew(t *testing.T, s *Session, meanwhile func()) {
	t.Helper()
	for _, name := range s.state.Replicas() {
		if err := s.Lab.Stop(name); err != nil {
			t.Fatal(err)
		}
	}
	meanwhile()
	for _, name := range s.state.Replicas() {
		if err := s.Lab.Start(name); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Lab.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
}

// logged reports whether a line in the log of any replica has all the parts.
func logged(s *Session, parts ...string) (bool, error) {
	for _, name := range s.state.Replicas() {
		log, err := os.ReadFile(s.state.Process(name).Log)
		if err != nil {
			return false, err
		}
		for line := range strings.Lines(string(log)) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Bad input of every kind, one after the other, to one cluster.
func TestBadInput(t *testing.T) {
	t.Parallel()
	l := up(t, nil)
	s := begin(t, l)
	t.Run("pods that cannot be read", func(t *testing.T) { malformedPods(t, s) })
	t.Run("pods that fit nowhere", func(t *testing.T) { unschedulablePods(t, s) })
	t.Run("pods beyond their quota", func(t *testing.T) { podsBeyondTheirQuota(t, s) })
	t.Run("records that cannot be read", func(t *testing.T) { badRecords(t, s, false) })
	t.Run("records that could never be read", func(t *testing.T) { badRecords(t, s, true) })
	t.Run("nothing is lost", func(t *testing.T) {
		cfg := load.Default()
		cfg.Pods, cfg.Timeout = 100, patience
		g, err := s.Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Run(t.Context()); err != nil {
			t.Error(err)
		}
		v, err := s.Verdict(t.Context())
		report(t, v, err)
	})
}
