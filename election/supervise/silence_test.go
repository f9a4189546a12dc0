package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// alert does everything at once but what a healthy child has to do in time.
func alert() pace {
	p := hasty()
	p.period, p.silence = 20*time.Millisecond, 600*time.Millisecond
	return p
}

func needsTether(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("there is no tether")
	}
}

func (a *act) signal(pid int, sig syscall.Signal) {
	a.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		a.t.Fatal(err)
	}
}

func TestAFrozenLeadIsKilledAndItsLeaseReleased(t *testing.T) {
	needsTether(t)
	a := play(t, "lead", alert())
	pid, incarnation := a.up()
	a.hold(incarnation, 5)
	a.signal(pid, syscall.SIGSTOP)
	a.logged.await(t, 1, "lease released for the dead replica holder="+incarnation)
	how := a.logged.await(t, 1, "replica ended")
	if !strings.Contains(how, "how=the lead has not shown life for 0.6s (stopped): killed") {
		t.Errorf("log: %s", how)
	}
	if holder := *a.store.Lease().Spec.HolderIdentity; holder != "" {
		t.Errorf("the lease is held by %s", holder)
	}
	a.up()
}

func TestAHungLeadIsKilledWithMorePatienceEachTime(t *testing.T) {
	needsTether(t)
	p := hasty()
	p.period, p.silence, p.longest = 5*time.Millisecond, 50*time.Millisecond, 200*time.Millisecond
	a := play(t, "mute", p)
	for i, want := range []float64{0.05, 0.1, 0.2, 0.2} {
		how := a.logged.await(t, i+1, "replica ended")
		_, rest, _ := strings.Cut(how, "how=the lead has not shown life for ")
		var got float64
		// What the log says is rounded.
		if _, err := fmt.Sscan(strings.TrimSuffix(strings.Fields(rest + " -")[0], "s"), &got); err != nil || got < want-0.051 {
			t.Errorf("child %d (%v): %s; want a silence of %v", i, err, how, want)
		}
	}
}

// A lead that has ended its term owes nothing, nor does one that never led.
func TestAFrozenUnderstudyIsLeftAlone(t *testing.T) {
	needsTether(t)
	p := hasty()
	p.period, p.silence = time.Millisecond, 5*time.Millisecond
	for _, kind := range []string{"obedient", "retired"} {
		t.Run(kind, func(t *testing.T) {
			a := play(t, kind, p)
			pid, _ := a.up()
			a.signal(pid, syscall.SIGSTOP)
			<-time.After(100 * p.silence) // nothing tells that nothing happens
			a.signal(pid, syscall.SIGCONT)
			a.signals <- syscall.SIGUSR1
			hear(t, a.said, "heard user defined signal 1")
			if n := a.logged.count("replica ended"); n != 0 {
				t.Errorf("it has ended %d times", n)
			}
		})
	}
}

// Supervisor and child are stopped, as with their container, for longer than a lead may
// be silent, and the supervisor is the last to stop and the first to go on.
func TestASupervisorThatWasStoppedItselfKillsNobody(t *testing.T) {
	needsTether(t)
	out, said := pipe(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=supervisor", grandchildEnv+"=lead")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	a := &act{t: t, said: said}
	pid, _ := a.up()
	a.signal(pid, syscall.SIGSTOP)
	<-time.After(defaultPace().silence / 4) // it has seen the last beat
	a.signal(cmd.Process.Pid, syscall.SIGSTOP)
	<-time.After(defaultPace().silence * 3 / 2)
	a.signal(cmd.Process.Pid, syscall.SIGCONT)
	<-time.After(defaultPace().silence / 4)
	a.signal(pid, syscall.SIGCONT)
	<-time.After(defaultPace().silence / 2)
	a.signal(cmd.Process.Pid, syscall.SIGUSR1)
	for line := range said {
		if line == "heard user defined signal 1" {
			break
		}
		if strings.HasPrefix(line, "up ") {
			t.Errorf("there is another child: %s", line)
		}
	}
	a.signal(cmd.Process.Pid, syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// during lets a vigil look for a time, at a lead whose last beat was now.
func during(v *vigil, d time.Duration, is condition) (killed bool, after time.Duration) {
	for after = 0; after < d; {
		after += v.period
		if v.look(v.beats, true, func() condition { return is }) {
			return true, after
		}
	}
	return false, after
}

// beating lets it look at a lead that beats each time.
func beating(v *vigil, d time.Duration) {
	for ; d > 0; d -= v.period {
		v.look(v.beats+1, true, func() condition { return asleep })
	}
}

func TestPatience(t *testing.T) {
	const s = time.Second
	v := newVigil(defaultPace())
	kill := func(is condition, want time.Duration) {
		t.Helper()
		v.begin()
		beating(v, s)
		if killed, after := during(v, time.Hour, is); !killed || after != want {
			t.Errorf("%s: killed=%t after %v, want %v", is, killed, after, want)
		}
	}
	kill(asleep, 1*s)
	kill(asleep, 2*s)
	kill(stopped, 1*s)  // whatever the patience
	kill(starved, 24*s) // 3 times 8
	kill(asleep, 16*s)
	kill(asleep, 30*s)
	kill(asleep, 30*s)

	// It shrinks where less would do, and no further than it began.
	for range 4 {
		beating(v, 61*s)
	}
	if v.patience >= 2*s || v.patience < s {
		t.Errorf("patience %v after four quiet minutes", v.patience)
	}
	for range 4 {
		beating(v, 61*s)
	}
	if v.patience != s {
		t.Errorf("patience %v after eight", v.patience)
	}
}

func TestPatienceIsKeptWhereItIsNeeded(t *testing.T) {
	const s = time.Second
	v := newVigil(defaultPace())
	v.patience = 8 * s
	for range 20 { // a machine that stalls for five seconds now and then
		beating(v, 30*s)
		if killed, _ := during(v, 5*s, asleep); killed {
			t.Fatal("killed for a stall that it had been forgiven")
		}
	}
	if v.patience != 8*s {
		t.Errorf("patience %v", v.patience)
	}
}

func TestNoBeatIsOwedByWhoDoesNotLead(t *testing.T) {
	v := newVigil(defaultPace())
	v.begin()
	for range 1000 {
		if v.look(7, false, func() condition { return stopped }) {
			t.Fatal("killed")
		}
	}
	if v.patience != v.silence {
		t.Errorf("patience %v", v.patience)
	}
}

func TestAChildKnowsWhatCameBeforeIt(t *testing.T) {
	file := t.TempDir() + "/lease"
	a := play(t, "obedient", hasty(), func(c *Config) { c.Env = append(c.Env, willEnv+"="+file) })
	past := func() string { return hear(t, a.said, "past ") }
	if got := past(); got != "0 <nil>" {
		t.Errorf("the first is told %q", got)
	}
	pid, first := a.up()
	a.hold(first, 5)
	raw, err := a.store.Lease().Marshal()
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.signals <- syscall.SIGUSR1
	hear(t, a.said, "heard user defined signal 1")
	a.kill(pid)
	_, suffix, _ := strings.Cut(first, "_")
	epoch := 5
	if runtime.GOOS != "linux" {
		epoch = 0
	}
	if got, want := past(), fmt.Sprintf("1 %s signal: killed 137 false %d", suffix, epoch); got != want {
		t.Errorf("the second is told %q, want %q", got, want)
	}
	pid, _ = a.up()
	a.signal(pid, syscall.SIGTERM)
	if got := past(); !strings.HasPrefix(got, "2 ") || !strings.HasSuffix(got, " exit status 0 0 false 0") {
		t.Errorf("the third is told %q", got)
	}
}

func TestNothingComesBeforeAProcessWithoutSupervisor(t *testing.T) {
	t.Setenv(PastEnv, "")
	if past, err := Before(); err != nil || past != (Past{}) {
		t.Errorf("%+v, %v", past, err)
	}
	t.Setenv(PastEnv, "{")
	if past, err := Before(); err == nil || past != (Past{}) {
		t.Errorf("%+v, %v", past, err)
	}
}
