package ledger_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// TestEqualAfterEtcd: what an understudy reads is what the lead has.
func TestEqualAfterEtcd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, read := ledger.RandomLedger(t), ledger.New()
		for app := range l.Apps() {
			decoded, err := record.DecodeApp(record.EncodeApp(app))
			if err != nil {
				t.Fatalf("%+v: %v", app, err)
			}
			read.Apply(ledger.Change{Key: ledger.Key{AppID: app.ID}, App: decoded})
			for task := range l.Tasks(app.ID) {
				decoded, err := record.DecodeTask(record.EncodeTask(task))
				if err != nil {
					t.Fatalf("%+v: %v", task, err)
				}
				read.Apply(ledger.Change{Key: ledger.Key{AppID: app.ID, TaskID: task.ID}, Task: decoded})
			}
		}
		if !l.Equal(read) || !read.Equal(l) {
			t.Fatal("records differ after they were encoded and decoded")
		}
	})
}
