package migrate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	sicommon "github.com/apache/yunikorn-scheduler-interface/lib/go/common"
	v1 "k8s.io/api/core/v1"
)

// nodes looks at what labels and annotations of nodes mean besides what pods ask of them, which is the same for
// whoever schedules: selectors, affinity, taints and topology. YuniKorn writes none. From 1.3 on it handed all labels
// to its core, until 1.6 handed over none.
func (x *check) nodes() {
	var untyped []string
	for _, n := range x.Nodes {
		object := "node " + n.Name
		if partition := n.Labels[sicommon.NodePartition]; partition != "" {
			x.add(Differs, NodePartition, object, "taint it, if pods are to stay away",
				"has the label %s: %s, by which YuniKorn 1.3 to 1.5 set it apart: here, as from 1.6 on, pods are placed there", sicommon.NodePartition, partition)
		}
		if marks := marksOf(n); len(marks) > 0 {
			x.add(Note, NodeMark, object, "", "has %s, which neither YuniKorn nor a replica reads there: only pods that select nodes by it", some(marks))
		}
		if n.Labels[x.instanceType] == "" {
			untyped = append(untyped, n.Name)
		}
	}
	if len(x.Nodes) == 0 {
		return
	}
	object := "label " + x.instanceType
	switch {
	case len(untyped) == 0:
		x.add(Differs, NodeType, object, "", "names the types of nodes by which here is counted what an application has used; YuniKorn from 1.6 on counts all as UNKNOWN")
	case x.chosen:
		x.add(Configure, NodeType, object, "give it to them, or mend service.nodeInstanceTypeNodeLabelKey",
			"is missing on %d of %s: what applications use there counts as UNKNOWN: %s", len(untyped), counted(len(x.Nodes), "node"), some(untyped))
	case len(untyped) < len(x.Nodes):
		x.add(Differs, NodeType, object, "",
			"names the types of nodes by which here is counted what an application has used; %s without it and YuniKorn from 1.6 on count all as UNKNOWN", counted(len(untyped), "node"))
	}
}

// marksOf are labels and annotations of a node in YuniKorn's name.
func marksOf(n *v1.Node) (marks []string) {
	for what, all := range map[string]map[string]string{"label": n.Labels, "annotation": n.Annotations} {
		for key := range maps.Keys(all) {
			if strings.HasPrefix(key, sicommon.DomainYuniKorn) || strings.HasPrefix(key, sicommon.DomainYuniKornInternal) {
				marks = append(marks, fmt.Sprintf("the %s %s", what, key))
			}
		}
	}
	slices.Sort(marks)
	return marks
}
