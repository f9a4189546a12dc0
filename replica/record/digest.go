package record

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"github.com/understudy-ha/understudy/replica/ledger"
)

// Hash is a number of 128 bits.
type Hash struct{ High, Low uint64 }

// HashOf returns the hash of a record: the first half of the SHA-256 of its key
// below the prefix, a zero byte, and its encoding without the writer's epoch. A
// change of neither makes the zero Hash.
func HashOf(c ledger.Change) Hash {
	var value []byte
	switch {
	case c.Task != nil:
		value = EncodeTask(c.Task)
	case c.App != nil:
		value = EncodeApp(c.App)
	default:
		return Hash{}
	}
	key := Keys{}.Record(c.Key)[len("/"):]
	sum := sha256.Sum256(append(append([]byte(key), 0), value...))
	h, _ := hashOf(sum[:hashSize])
	return h
}

const hashSize = 16

func hashOf(b []byte) (Hash, bool) {
	if len(b) != hashSize {
		return Hash{}, false
	}
	return Hash{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, true
}

func (h Hash) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, h.High), h.Low)
}

// Digest tells one set of records from another. The order in which they came
// makes no difference, so that it follows each change at the cost of that change:
// it is the sum of the hashes, modulo 2^128. It is no protection from somebody
// who looks for two sets with the same one.
type Digest struct {
	// Apps and Tasks say how many records there are.
	Apps, Tasks uint64
	Sum         Hash
}

// Replace takes the hash of a record's old version out of the digest, and that of
// its new one in. The zero Hash stands for no record.
func (d *Digest) Replace(key ledger.Key, before, after Hash) {
	count := &d.Apps
	if key.TaskID != "" {
		count = &d.Tasks
	}
	var carry uint64
	if before != (Hash{}) {
		*count--
		d.Sum.Low, carry = bits.Sub64(d.Sum.Low, before.Low, 0)
		d.Sum.High, _ = bits.Sub64(d.Sum.High, before.High, carry)
	}
	if after != (Hash{}) {
		*count++
		d.Sum.Low, carry = bits.Add64(d.Sum.Low, after.Low, 0)
		d.Sum.High, _ = bits.Add64(d.Sum.High, after.High, carry)
	}
}
