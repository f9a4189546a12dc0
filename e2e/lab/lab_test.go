package lab

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// helperDir makes the test executable a program that brings a lab up there and
// then waits to be killed.
const helperDir = "LAB_TEST_HELPER_DIR"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "keep" { // as `lab keep --dir DIR NAME`
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := Keep(ctx, os.Args[3], os.Args[4], slog.Default()); err != nil {
			panic(err)
		}
		return
	}
	if os.Getenv(helperZombie) != "" {
		outliveTheLeader()
	}
	if dir := os.Getenv(helperDir); dir != "" {
		if _, err := Up(context.Background(), clusterOnly(dir)); err != nil {
			panic(err)
		}
		select {}
	}
	goleak.VerifyTestMain(m)
}

func clusterOnly(dir string) Options {
	o := Default()
	o.Dir, o.Replicas, o.Nodes = dir, 0, 3
	return o
}

// needTools skips a test that takes a control plane where only quick ones are
// asked for.
func needTools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
}

func start(t *testing.T, o Options) *Lab {
	t.Helper()
	var out bytes.Buffer
	o.Out = &out
	l, err := Up(t.Context(), o)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	return l
}

// running returns the processes of a state that run.
func running(s *State) []string {
	var names []string
	for _, p := range s.Processes {
		if p.Running() {
			names = append(names, p.Name)
		}
	}
	return names
}

func eventually(t *testing.T, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := until(ctx, nil, what, ok); err != nil {
		t.Fatal(err)
	}
}

func pod(name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations},
		Spec: corev1.PodSpec{
			SchedulerName: "nobody",
			Containers:    []corev1.Container{{Name: "main", Image: "none"}},
		},
	}
}

func TestBoundPodsRunAndNothingIsLeft(t *testing.T) {
	needTools(t)
	dir := filepath.Join(t.TempDir(), "a lab, of all names")
	// A second time right after the first, in the same place.
	for range 2 {
		l := start(t, clusterOnly(dir))
		pods := l.Client().CoreV1().Pods("default")
		for name, annotations := range map[string]map[string]string{
			"stays": nil, "ends": {"lab.understudy.dev/run-for": "100ms"},
		} {
			if _, err := pods.Create(t.Context(), pod(name, annotations), metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			bind := &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Name: name},
				Target:     corev1.ObjectReference{Kind: "Node", Name: "node-0001"},
			}
			if err := pods.Bind(t.Context(), bind, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		awaitPhase(t, l, "stays", corev1.PodRunning)
		awaitPhase(t, l, "ends", corev1.PodSucceeded)
		if err := pods.Delete(t.Context(), "stays", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the pod to go", func(ctx context.Context) error {
			_, err := pods.Get(ctx, "stays", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return errors.New("still there")
		})

		state, err := l.State()
		if err != nil {
			t.Fatal(err)
		}
		if got := running(state); len(got) != 4 {
			t.Errorf("running: %v, want two etcds, an API server and kwok", got)
		}
		if err := l.Down(false); err != nil {
			t.Fatal(err)
		}
		if got := running(state); len(got) > 0 {
			t.Errorf("still running after Down: %v", got)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory is still there: %v", err)
		}
	}
}

func awaitPhase(t *testing.T, l *Lab, name string, phase corev1.PodPhase) {
	t.Helper()
	eventually(t, name+" to be "+string(phase), func(ctx context.Context) error {
		p, err := l.Client().CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		switch {
		case err != nil:
			return err
		case p.Status.Phase != phase:
			return errors.New("phase " + string(p.Status.Phase))
		case p.Status.PodIP == "":
			return errors.New("no address")
		}
		return nil
	})
}

func TestTwoLabsSideBySide(t *testing.T) {
	needTools(t)
	labs := make([]*Lab, 2)
	var wg sync.WaitGroup
	for i := range labs {
		dir := filepath.Join(t.TempDir(), "lab")
		wg.Go(func() {
			l, err := Up(t.Context(), clusterOnly(dir))
			if err != nil {
				t.Error(err)
				return
			}
			labs[i] = l
		})
	}
	wg.Wait()
	for _, l := range labs {
		if l == nil {
			continue
		}
		t.Cleanup(func() { _ = l.Down(false) })
	}
	if t.Failed() {
		return
	}
	if _, err := labs[0].Client().CoreV1().Pods("default").Create(t.Context(), pod("one", nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := labs[0].Etcd().Put(t.Context(), "key", "one"); err != nil {
		t.Fatal(err)
	}
	if err := labs[0].Down(false); err != nil {
		t.Fatal(err)
	}
	// The other one never saw any of it, and is still there.
	_, err := labs[1].Client().CoreV1().Pods("default").Get(t.Context(), "one", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("the second lab on the pod of the first: %v", err)
	}
	got, err := labs[1].Etcd().Get(t.Context(), "key")
	if err != nil || got.Count != 0 {
		t.Errorf("the second lab's etcd on the key of the first: %v, %v", got, err)
	}
}

func TestEtcdKeepsItsDataAcrossStopAndStart(t *testing.T) {
	needTools(t)
	o := clusterOnly(filepath.Join(t.TempDir(), "lab"))
	o.EtcdMembers, o.Nodes = 3, 0
	l := start(t, o)
	if _, err := l.Etcd().Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	members := []string{"etcd-0", "etcd-1", "etcd-2"}
	for _, name := range members {
		if err := l.Stop(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range members {
		if err := l.Start(name); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the value", func(ctx context.Context) error {
		got, err := l.Etcd().Get(ctx, "key")
		if err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value") {
			t.Fatalf("the data is lost: %v", got)
		}
		return err
	})
	if err := l.WipeEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := l.Etcd().Get(t.Context(), "key")
	if err != nil || got.Count != 0 {
		t.Errorf("after WipeEtcd: %v, %v", got, err)
	}
}

// cancelAt cancels when it is told about a step.
type cancelAt struct {
	step   string
	cancel context.CancelFunc
}

func (c cancelAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), c.step) {
		c.cancel()
	}
	return len(b), nil
}

func TestInterruptedUpLeavesOnlyLogs(t *testing.T) {
	needTools(t)
	dir := filepath.Join(t.TempDir(), "lab")
	ctx, cancel := context.WithCancel(t.Context())
	o := clusterOnly(dir)
	o.Out = cancelAt{step: "etcd answers", cancel: cancel}

	var seen *State
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() { // remember what was started
		defer close(watched)
		for {
			if s, err := ReadState(dir); err == nil && (seen == nil || len(s.Processes) >= len(seen.Processes)) {
				seen = s
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	_, err := Up(ctx, o)
	close(stop)
	<-watched
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Up: %v, want that it was cancelled", err)
	}
	if seen == nil || len(seen.Processes) < 2 {
		t.Fatalf("nothing was started: %+v", seen)
	}
	if got := running(seen); len(got) > 0 {
		t.Errorf("still running: %v", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "logs" {
		t.Errorf("left behind: %v, %v; want the logs", entries, err)
	}
}

func TestAttachedLabDiesWithTheProcessThatStartedIt(t *testing.T) {
	needTools(t)
	dir := filepath.Join(t.TempDir(), "lab")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	var state *State
	eventually(t, "the helper's lab", func(context.Context) error {
		s, err := ReadState(dir)
		if err == nil && len(running(s)) < 4 {
			err = errors.New("not all of it runs")
		}
		state = s
		return err
	})
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "belongs to the process") {
		t.Errorf("Open of another process's lab: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all of it to end", func(context.Context) error {
		if left := running(state); len(left) > 0 {
			return errors.New("still running: " + strings.Join(left, ", "))
		}
		return nil
	})
}
