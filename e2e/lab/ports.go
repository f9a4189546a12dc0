package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// freePorts returns n ports on 127.0.0.1 that nobody listens on. They lie below
// the range from which the kernel takes ports for outgoing connections, so that
// a process that is stopped finds its port still free when it starts again.
func freePorts(n int) ([]int, error) {
	const low, high = 20000, 32000
	ports := make([]int, 0, n)
	held := make([]net.Listener, 0, n) // so that no port is found twice
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 100 * (n + 1) {
		if len(ports) == n {
			return ports, nil
		}
		port := low + rand.IntN(high-low)
		l, err := net.Listen("tcp", address(port))
		if err != nil {
			continue
		}
		held, ports = append(held, l), append(ports, port)
	}
	return nil, errors.New("no free ports between 20000 and 32000 on 127.0.0.1")
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
