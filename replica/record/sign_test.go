package record

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// TestSignatureIsOfTheWriter: whatever was read, a record says who wrote this
// version of it, and the signature does not become part of the content.
func TestSignatureIsOfTheWriter(t *testing.T) {
	first := Sign(KindTask, EncodeTask(&ledger.Task{AppID: "a", ID: "t"}), 4)
	task, err := DecodeTask(first)
	if err != nil {
		t.Fatal(err)
	}
	if len(task.Unknown) != 0 {
		t.Errorf("the signature was kept as unknown content: %x", task.Unknown)
	}
	var stored recordpb.Task
	if err := proto.Unmarshal(Sign(KindTask, EncodeTask(task), 5), &stored); err != nil || stored.GetEpoch() != 5 {
		t.Errorf("epoch %d, err %v", stored.GetEpoch(), err)
	}
	var term recordpb.Term
	value := Sign(KindTerm, EncodeTerm(Term{Epoch: 4}), 5)
	if err := proto.Unmarshal(value, &term); err != nil || term.GetEpoch() != 4 || term.GetWriterEpoch() != 5 {
		t.Errorf("term %d written by %d, err %v", term.GetEpoch(), term.GetWriterEpoch(), err)
	}
}
