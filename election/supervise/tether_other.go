//go:build !linux

package supervise

import (
	"errors"
	"os"
)

// A tether tells of a child's death before wait does, on Linux.
type tether struct{ file *os.File }

func newTether() (*tether, error) { return nil, errors.ErrUnsupported }

func (*tether) awaitDeath(int, <-chan struct{}) {}
func (*tether) cut()                            {}
func (*tether) close()                          {}
func (*tether) will() []byte                    { return nil }
func (*tether) leave([]byte)                    {}
func (*tether) lead(bool)                       {}
func (*tether) beat()                           {}
func (*tether) pulse() (uint32, bool)           { return 0, false }

func hold() (*tether, error) { return nil, nil }
