package record

import "google.golang.org/protobuf/encoding/protowire"

// Fields that hold the epoch of the writer.
const (
	epochField     = 22 // of App and Task, Events and Sample
	termEpochField = 10
)

// Sign adds to an encoded record the epoch of the lead that writes it, so that
// etcd's own history tells who wrote what. It says nothing about the content,
// and is not part of what decoding returns: whoever writes next signs anew.
func Sign(kind Kind, value []byte, epoch uint64) []byte {
	field := protowire.Number(epochField)
	if kind == KindTerm {
		field = termEpochField
	}
	return protowire.AppendVarint(protowire.AppendTag(value, field, protowire.VarintType), epoch)
}
