package api

import (
	"testing"

	"github.com/apache/yunikorn-core/pkg/common/resources"
)

// TestANodeIsFullToATenth: 10 % are in the first. One that has more than its capacity, as after
// a node has shrunk, is as full as one can be.
func TestANodeIsFullToATenth(t *testing.T) {
	for percent, want := range map[resources.Quantity]int{0: 0, 1: 0, 10: 0, 11: 1, 100: 9, 101: 9, 1 << 40: 9} {
		if got := tenthOf(resources.NewResourceFromMap(map[string]resources.Quantity{"vcore": percent}), "vcore"); got != want {
			t.Errorf("%d %% is in bucket %d, want %d", percent, got, want)
		}
	}
	if got := tenthOf(resources.NewResource(), "vcore"); got != 0 {
		t.Errorf("nothing is in bucket %d", got)
	}
}
