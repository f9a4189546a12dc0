package roster

import (
	"encoding/json"
	"time"
)

// Standing is what a replica says about itself.
type Standing struct {
	Replica string `json:"n"`
	Role    string `json:"r"`
	// Ready says whether it could lead at once.
	Ready bool `json:"y,omitempty"`
	// Epoch is that of the newest claim it knows of, Revision the etcd revision
	// that it has caught up with, and Lag how many more it knows of.
	Epoch    uint64 `json:"e,omitempty"`
	Revision int64  `json:"v,omitempty"`
	Lag      int64  `json:"l,omitempty"`
	// HTTP is where it serves its status; empty if it did not say.
	HTTP string `json:"h,omitempty"`
}

// Member is a replica as the others see it.
type Member struct {
	Standing
	// Name is its incarnation.
	Name    string
	Address string
	// Gone says that it has left, or is taken for dead because it fell silent.
	Gone bool
	// Since is the local time since when it is a member, or gone.
	Since time.Time
	// Self says that it is the one that was asked.
	Self bool
}

// maxMeta is memberlist's limit on what a member says, in bytes.
const maxMeta = 512

// encode leaves out what does not fit: names are free to be long.
func (s Standing) encode(limit int) []byte {
	for _, shorter := range []func(){func() {}, func() { s.HTTP = "" }, func() { s.Replica = "" }} {
		shorter()
		if raw, err := json.Marshal(s); err == nil && len(raw) <= limit {
			return raw
		}
	}
	return nil
}

// decode reads what a member says. One that cannot be read says nothing.
func decode(raw []byte) (s Standing) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return Standing{}
	}
	return s
}
