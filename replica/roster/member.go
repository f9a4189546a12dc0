package roster

import (
	"encoding/json"
	"strings"
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
	// REST is the port at which it serves YuniKorn's REST interface to others, at the host
	// of its Address; zero if it does not.
	REST uint16 `json:"w,omitempty"`
	// Missing says in short why it is not ready; empty if it is, or leads.
	Missing string `json:"m,omitempty"`
	// Template is the version of the pod template that it was made from, Created when
	// its pod was, in seconds since 1970. Empty and zero where it did not say.
	Template string `json:"t,omitempty"`
	Created  int64  `json:"c,omitempty"`
	// Configuration tells which configuration is in force there; empty where it did not say.
	Configuration string `json:"f,omitempty"`
	// Stale says that it wants to be started again, to take on settings.
	Stale bool `json:"s,omitempty"`
}

// Summary shortens what is missing to what a Standing has room for.
func Summary(missing []string) string {
	const room = 120
	all := strings.Join(missing, "; ")
	if len(all) <= room {
		return all
	}
	return strings.ToValidUTF8(all[:room], "") + "..."
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
	for _, shorter := range []func(){
		func() {}, func() { s.Missing = "" }, func() { s.HTTP, s.Configuration = "", "" }, func() { s.Template, s.Created = "", 0 }, func() { s.Replica = "" },
	} {
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
