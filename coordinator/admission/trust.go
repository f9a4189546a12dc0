package admission

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

const (
	// strangersStay is how long an authority stays known to the API server that is none of this
	// replica's: another one may show a certificate of it. A kubelet takes a minute or two to
	// replace the files of a pod.
	strangersStay = 10 * time.Minute
	// newStrangersStay is how long one stays that is newer than this replica's: most probably
	// it is this replica that is late.
	newStrangersStay = 24 * time.Hour
)

// trust is what one replica knows about the authorities of the others. To be used by one
// goroutine.
type trust struct {
	since map[string]time.Time // of authorities that are not this replica's, by what they are
}

// join returns a replica's own authorities and, of those that the API server was told of
// before, the ones that another replica may need. Where somebody else tells the API server
// there are no own ones, and none is told of.
func (t *trust) join(own, told []byte, now time.Time) []byte {
	mine := authoritiesIn(own)
	if len(mine) == 0 {
		return own
	}
	var newest time.Time
	blocks := make([][]byte, 0, len(mine))
	have := make(map[string]bool)
	add := func(c *x509.Certificate) {
		if !have[string(c.Raw)] {
			have[string(c.Raw)] = true
			blocks = append(blocks, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
	}
	for _, c := range mine {
		add(c)
		if c.NotBefore.After(newest) {
			newest = c.NotBefore
		}
	}
	since := make(map[string]time.Time)
	for _, c := range authoritiesIn(told) {
		if have[string(c.Raw)] || now.After(c.NotAfter) {
			continue
		}
		first, known := t.since[string(c.Raw)]
		if !known {
			first = now
		}
		since[string(c.Raw)] = first
		stays := strangersStay
		if c.NotBefore.After(newest) {
			stays = newStrangersStay
		}
		if now.Sub(first) < stays {
			add(c)
		}
	}
	t.since = since
	// All replicas write the same, whoever is the first.
	slices.SortFunc(blocks, bytes.Compare)
	return bytes.Join(blocks, nil)
}

// authoritiesIn are the certificates of a bundle. What cannot be read is none.
func authoritiesIn(bundle []byte) (list []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return list
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
}
