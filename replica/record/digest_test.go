package record_test

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
)

// The hash of a record can be had from what is stored of it.
func TestHashIsThatOfKeyAndValue(t *testing.T) {
	task := &ledger.Task{AppID: "a/b", ID: "t", State: ledger.TaskStateBound}
	got := record.HashOf(ledger.Change{Key: ledger.Key{AppID: "a/b", TaskID: "t"}, Task: task})
	sum := sha256.Sum256([]byte("tasks/a%2Fb/t\x00" + string(record.EncodeTask(task))))
	want := record.Hash{High: binary.BigEndian.Uint64(sum[:8]), Low: binary.BigEndian.Uint64(sum[8:16])}
	if got != want {
		t.Errorf("got %x, want %x", got, want)
	}
	if deleted := record.HashOf(ledger.Change{Key: ledger.Key{AppID: "a"}}); deleted != (record.Hash{}) {
		t.Errorf("of no record: %x", deleted)
	}
}

// Whatever was there meanwhile, and in which order it came: the digest depends on
// what is there in the end.
func TestDigestDependsOnTheSetOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hash := rapid.Custom(func(t *rapid.T) record.Hash {
			return record.Hash{High: rapid.Uint64().Draw(t, "high"), Low: rapid.Uint64Min(1).Draw(t, "low")}
		})
		key := rapid.SampledFrom([]ledger.Key{{AppID: "a"}, {AppID: "b"}, {AppID: "a", TaskID: "x"}, {AppID: "a", TaskID: "y"}})
		var followed, want record.Digest
		now := map[ledger.Key]record.Hash{}
		for range rapid.IntRange(0, 20).Draw(t, "changes") {
			k, next := key.Draw(t, "key"), record.Hash{}
			if rapid.Bool().Draw(t, "put") {
				next = hash.Draw(t, "hash")
			}
			followed.Replace(k, now[k], next)
			now[k] = next
		}
		for k, h := range now {
			want.Replace(k, record.Hash{}, h)
		}
		if followed != want {
			t.Fatalf("followed %+v, want %+v", followed, want)
		}
	})
}

func TestDigestTellsSetsApart(t *testing.T) {
	key := ledger.Key{AppID: "a"}
	var d record.Digest
	d.Replace(key, record.Hash{}, record.Hash{High: 1})
	d.Replace(key, record.Hash{}, record.Hash{High: 1, Low: 1 << 63})
	d.Replace(key, record.Hash{}, record.Hash{Low: 1 << 63})
	if want := (record.Digest{Apps: 3, Sum: record.Hash{High: 3}}); d != want {
		t.Errorf("got %+v, want %+v: the lower half carries over", d, want)
	}
}
