package record_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/protocol/v1alpha1"
	"github.com/understudy-ha/understudy/replica/ledger"
)

// text includes what is awkward: slashes, percent signs, other alphabets.
var text = rapid.StringOfN(rapid.RuneFrom([]rune("ab/%. é漢")), 0, 8, -1)

var ident = rapid.StringOfN(rapid.RuneFrom([]rune("ab/%. é漢")), 1, 8, -1)

func when(t *rapid.T) ledger.Time { return ledger.Time(rapid.Int64().Draw(t, "time")) }

// sliceOf draws nil, never an empty slice: the two are the same record.
func sliceOf[T any](t *rapid.T, name string, one func(t *rapid.T) T) []T {
	var out []T
	for range rapid.IntRange(0, 3).Draw(t, name) {
		out = append(out, one(t))
	}
	return out
}

func stringMap(t *rapid.T, name string) map[string]string {
	m := rapid.MapOfN(text, text, 0, 3).Draw(t, name)
	if len(m) == 0 {
		return nil
	}
	return m
}

func drawGroup(t *rapid.T) v1alpha1.TaskGroup {
	g := v1alpha1.TaskGroup{
		Name:         text.Draw(t, "name"),
		MinMember:    rapid.Int32().Draw(t, "minMember"),
		Labels:       stringMap(t, "labels"),
		Annotations:  stringMap(t, "annotations"),
		NodeSelector: stringMap(t, "nodeSelector"),
	}
	if rapid.Bool().Draw(t, "resources") {
		g.MinResource = map[string]resource.Quantity{
			"cpu":    resource.MustParse(fmt.Sprintf("%dm", rapid.IntRange(0, 100000).Draw(t, "cpu"))),
			"memory": resource.MustParse(fmt.Sprintf("%dKi", rapid.IntRange(0, 1<<30).Draw(t, "memory"))),
		}
	}
	if rapid.Bool().Draw(t, "placement") {
		seconds := rapid.Int64().Draw(t, "seconds")
		g.Tolerations = []corev1.Toleration{{Key: "k", Operator: corev1.TolerationOpExists, TolerationSeconds: &seconds}}
		g.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey:   "zone",
				LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
			}},
		}}
		g.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: "zone"}}
	}
	return g
}

func drawApp(t *rapid.T) *ledger.App {
	return &ledger.App{
		ID:          ident.Draw(t, "id"),
		Manager:     text.Draw(t, "manager"),
		Queue:       text.Draw(t, "queue"),
		PlacedQueue: text.Draw(t, "placed"),
		User:        text.Draw(t, "user"),
		Groups:      sliceOf(t, "groups", func(t *rapid.T) string { return text.Draw(t, "group") }),
		Tags:        stringMap(t, "tags"),
		TaskGroups:  sliceOf(t, "taskGroups", drawGroup),
		OwnerReferences: sliceOf(t, "owners", func(t *rapid.T) metav1.OwnerReference {
			yes := rapid.Bool().Draw(t, "controller")
			return metav1.OwnerReference{
				APIVersion: "v1", Kind: "Pod", Name: text.Draw(t, "name"), UID: types.UID(text.Draw(t, "uid")), Controller: &yes,
			}
		}),
		PlaceholderTimeout: rapid.Int64().Draw(t, "timeout"),
		Style:              ledger.GangStyle(text.Draw(t, "style")),
		Submitted:          when(t),
		State:              ledger.AppState(text.Draw(t, "state")),
		StateLog: sliceOf(t, "log", func(t *rapid.T) ledger.Transition {
			return ledger.Transition{State: ledger.AppState(text.Draw(t, "state")), At: when(t)}
		}),
		PlaceholderDeadline: when(t),
		Gang: sliceOf(t, "gang", func(t *rapid.T) ledger.GroupCount {
			n := rapid.Int32()
			return ledger.GroupCount{
				Name: text.Draw(t, "name"), Wanted: n.Draw(t, "wanted"), Bound: n.Draw(t, "bound"),
				Replaced: n.Draw(t, "replaced"), TimedOut: n.Draw(t, "timedOut"),
			}
		}),
		Message:  text.Draw(t, "message"),
		Started:  when(t),
		Finished: when(t),
		Trace:    text.Draw(t, "trace"),
		Unknown:  drawUnknown(t),

		Originator:   text.Draw(t, "originator"),
		Asked:        ledger.AppState(text.Draw(t, "asked")),
		AskedMessage: text.Draw(t, "askedMessage"),
		Replacements: drawReplacements(t),
		Crews: sliceOf(t, "crews", func(t *rapid.T) ledger.Crew {
			return ledger.Crew{
				Name: text.Draw(t, "name"), UID: text.Draw(t, "uid"), Wanted: rapid.Int32().Draw(t, "wanted"),
				Whole: rapid.Bool().Draw(t, "whole"), Until: when(t), Pausing: rapid.Bool().Draw(t, "pausing"),
				Retries: rapid.Uint32().Draw(t, "retries"), Reason: text.Draw(t, "reason"), Message: text.Draw(t, "message"),
				Rank: ledger.Rank{
					Priority: rapid.Int32().Draw(t, "priority"), Ranked: rapid.Bool().Draw(t, "ranked"),
					Yields: rapid.Bool().Draw(t, "yields"), Together: rapid.Bool().Draw(t, "together"),
				},
			}
		}),
	}
}

func drawReplacements(t *rapid.T) map[string]uint32 {
	m := rapid.MapOfN(text, rapid.Uint32(), 0, 3).Draw(t, "replacements")
	if len(m) == 0 {
		return nil
	}
	return m
}

func drawTask(t *rapid.T) *ledger.Task {
	resources := rapid.MapOfN(text, rapid.Int64(), 0, 3).Draw(t, "resources")
	if len(resources) == 0 {
		resources = nil
	}
	return &ledger.Task{
		AppID:       ident.Draw(t, "app"),
		ID:          ident.Draw(t, "id"),
		Namespace:   text.Draw(t, "namespace"),
		Name:        text.Draw(t, "name"),
		State:       ledger.TaskState(text.Draw(t, "state")),
		Placeholder: rapid.Bool().Draw(t, "placeholder"),
		TaskGroup:   text.Draw(t, "group"),
		Resources:   resources,
		Submitted:   when(t),
		Node:        text.Draw(t, "node"),
		Allocated:   when(t),
		Bound:       when(t),
		Termination: ledger.Termination(text.Draw(t, "termination")),
		DeletePod:   rapid.Bool().Draw(t, "delete"),
		FailPod:     rapid.Bool().Draw(t, "fail"),
		Retries:     rapid.Uint32().Draw(t, "retries"),
		NextAttempt: when(t),
		Message:     text.Draw(t, "message"),
		Trace:       text.Draw(t, "trace"),
		Reason:      text.Draw(t, "reason"),
		Swapped:     rapid.Bool().Draw(t, "swapped"),
		Avoid:       sliceOf(t, "avoid", func(t *rapid.T) string { return text.Draw(t, "node") }),
		Unknown:     drawUnknown(t),
	}
}
