//go:build !failpoints

package failpoint_test

import (
	"testing"

	"github.com/understudy-ha/understudy/replica/failpoint"
)

func TestTheShippedBuildIgnoresTheEnvironment(t *testing.T) {
	t.Setenv("UNDERSTUDY_FAILPOINT", failpoint.BeforeCommit)
	failpoint.Hit(failpoint.BeforeCommit) // would end the test
	if failpoint.Enabled {
		t.Error("failpoints are enabled without the tag")
	}
}
