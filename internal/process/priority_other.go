//go:build !linux

package process

import "errors"

// Yield fails: this system has no priority that all threads of a process share and may take back.
func Yield() (resume func() error, err error) { return nil, errors.ErrUnsupported }
