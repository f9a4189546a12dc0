package settings

import (
	"fmt"
	"strings"
	"testing"
)

func TestQueueChanges(t *testing.T) {
	after := replaced("vcore: 4", "vcore: 2", "          - name: b\n", "          - name: c\n            limits: [{limit: x, users: [u], maxapplications: 1}]\n", "'*'", "'ann'",
		"      - name: provided\n", "      - name: provided\n      - {name: user, create: true}\n")
	changes, err := QueueChanges(map[string]string{"queues.yaml": good}, map[string]string{"queues.yaml": after})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprint(c.Change, " ", c.Queue, c.Fields))
	}
	want := []string{
		"changed [{placementrules[1].create  true} {placementrules[1].name  user}]", "changed root[{submitacl * ann}]",
		"changed root.a[{resources.max.vcore 4 2}]", "removed root.b[]",
		"added root.c[{limits[0].limit  x} {limits[0].maxapplications  1} {limits[0].users[0]  u}]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if changes, err := QueueChanges(nil, map[string]string{"queues.yaml": "\n"}); err != nil || len(changes) != 0 {
		t.Errorf("the core's default: %v, %v", changes, err)
	}
	for _, sides := range [][2]string{{"{", good}, {good, "{"}} {
		if _, err := QueueChanges(map[string]string{"queues.yaml": sides[0]}, map[string]string{"queues.yaml": sides[1]}); err == nil {
			t.Error("what cannot be read is compared")
		}
	}
}
