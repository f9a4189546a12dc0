package predicates_test

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/understudy-ha/understudy/coordinator/engine/predicates"
)

// crowd returns a cache of 500 nodes with 20 pods each.
func crowd(b *testing.B, edit ...func(*v1.Pod)) *predicates.Cache {
	b.Helper()
	c := newCache(b)
	for i := range 500 {
		name := fmt.Sprint("n", i)
		c.SetNode(node(name, label(v1.LabelTopologyZone, fmt.Sprint(i%3)), func(n *v1.Node) {
			n.Status.Allocatable[v1.ResourceCPU] = resource.MustParse("64")
			n.Status.Allocatable[v1.ResourcePods] = resource.MustParse("250")
		}))
		for j := range 20 {
			c.SetPod(pod(fmt.Sprintf("%d-%d", i, j), append(edit, on(name), labelled("app", fmt.Sprint("app", j)))...))
		}
	}
	return c
}

// BenchmarkFits asks about one node after the other, for a new pod every 8
// nodes, and places it on the last, as the core does.
func BenchmarkFits(b *testing.B) {
	for _, kind := range []struct {
		name  string
		crowd []func(*v1.Pod)
		edit  []func(*v1.Pod)
	}{
		{"plain", nil, nil},
		{"plainAmongAntiAffinity", []func(*v1.Pod){apart(v1.LabelHostname, "app", "nobody")}, nil},
		{"antiAffinityHost", nil, []func(*v1.Pod){labelled("app", "web"), apart(v1.LabelHostname, "app", "web")}},
		{"antiAffinityZone", nil, []func(*v1.Pod){labelled("app", "web"), apart(v1.LabelTopologyZone, "app", "nobody")}},
		{"spreadZone", nil, []func(*v1.Pod){labelled("app", "web"), spread(v1.LabelTopologyZone, "app", "web")}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			c := crowd(b, kind.crowd...)
			uid := ""
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i%8 == 0 {
					if uid != "" {
						c.Forget(uid)
						c.RemovePod(uid)
					}
					uid = fmt.Sprint("new", i)
					c.SetPod(pod(uid, append(kind.edit, cpu("1m"))...))
				}
				name := fmt.Sprint("n", i%500)
				if err := c.Fits(uid, name, true); err == nil && i%8 == 7 {
					c.Assume(uid, name)
				}
				i++
			}
		})
	}
}
