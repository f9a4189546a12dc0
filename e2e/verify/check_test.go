package verify

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

func TestVerdictFailsWithOneCheckAndNamesIt(t *testing.T) {
	good := Check{Name: "good", OK: true, Detail: "3 of 3"}
	bad := newCheck("bad")
	for range 25 {
		bad.failf("pod %s is lost", "x")
	}
	v := NewVerdict(good, *bad)
	if v.OK {
		t.Error("a verdict with a failed check is OK")
	}
	var out strings.Builder
	if err := v.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"good  ", "3 of 3", "FAILED", "bad: 25 violations", "pod x is lost", "and 15 more"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	raw, err := v.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back Verdict
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if back.OK || len(back.Checks) != 2 || back.Checks[1].Violations != 25 || len(back.Checks[1].Examples) != maxExamples {
		t.Errorf("JSON came back as %+v", back)
	}
	if !NewVerdict(good).OK {
		t.Error("a verdict of passed checks is not OK")
	}
	if NewVerdict().OK {
		t.Error("a verdict without checks is OK")
	}
}

// A history with a gap proves nothing, whatever else it shows.
func TestGapFailsEveryCheckOfAHistory(t *testing.T) {
	s := newStory()
	s.addNode("n1", 1000)
	s.create("a", 100)
	s.bind("a", "n1", 1)
	s.run("a")
	ran := history.Running{Pods: []*history.Pod{s.pods[2].Pod}, Next: len(s.pods)}
	gap := []history.Gap{{What: "pods", After: 7, Until: 9, Reason: "compacted"}}
	etcd := newMirror()
	etcd.claim(1)

	fails(t, BoundOnce(expect("a"), s.pods, gap, nil), "lacks revisions 8 to 9")
	fails(t, OneEpochBinds(s.pods, gap, nil, ""), "lacks revisions 8 to 9")
	fails(t, Capacity(s.node, s.pods, gap), "lacks revisions 8 to 9")
	fails(t, Untouched(ran, s.pods, gap, nil), "lacks revisions 8 to 9")
	fails(t, Fence(etcd.events, gap, FenceOptions{}), "lacks revisions 8 to 9")
}
