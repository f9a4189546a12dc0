package ledger

import (
	"fmt"
	"testing"
)

// TestKindsAreTheNamesOfTheirTypes: metrics and logs show the names that the code has.
func TestKindsAreTheNamesOfTheirTypes(t *testing.T) {
	for _, kind := range []interface{ Kind() string }{
		AddApp{}, AddTask{}, CompleteTask{}, RemoveTask{}, CompleteApp{}, FailApp{}, KillApp{},
		RemoveApp{}, AppAccepted{}, AppRejected{}, AppEnded{}, Allocated{}, Released{},
		AskReleased{}, AskRejected{}, BindDone{}, BindFailed{}, NodeLost{}, PlaceholderFailed{},
		PlaceholderDelayed{}, DeleteFailed{}, PodNotFailed{}, PodFailed{}, RemoveDoubles{}, Tick{}, SetCrew{}, Continue{},
		SubmitApp{}, ForgetApp{}, Ask{}, Restore{}, Release{}, Bind{}, AssessGang{},
		CreatePlaceholder{}, CancelPlaceholders{}, DeletePod{}, FailPod{}, ReportTask{},
	} {
		if want := fmt.Sprintf("%T", kind); "ledger."+kind.Kind() != want {
			t.Errorf("%s is of kind %s", want, kind.Kind())
		}
	}
}
