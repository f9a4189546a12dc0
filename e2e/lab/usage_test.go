package lab

import (
	"errors"
	"os"
	"testing"
	"time"
)

func TestUsageOfThisProcess(t *testing.T) {
	pid := os.Getpid()
	started, _ := startedAt(pid)
	p := Process{Name: "self", PID: pid, Started: started}
	before, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	held := make([]byte, 64<<20)
	for i := range held {
		held[i] = byte(i)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		for i := range held {
			held[i]++
		}
		after, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU >= before.CPU+50*time.Millisecond {
			if after.PeakRSS < int64(len(held)) || after.PeakRSS < after.RSS {
				t.Errorf("resident %d, at most %d, with %d held", after.RSS, after.PeakRSS, len(held))
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no processor time is seen: %v, then %v", before, after)
		}
	}
	p.Started++
	if _, err := p.Usage(); !errors.Is(err, ErrGone) {
		t.Errorf("usage of another process with the same id: %v", err)
	}
}
