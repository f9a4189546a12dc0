package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
	"google.golang.org/grpc/grpclog"
	"k8s.io/klog/v2"
)

// capture returns a JSON logger and a function that takes its lines so far.
func capture(t *testing.T, level string, s *Standing) (*slog.Logger, func() []map[string]any) {
	t.Helper()
	var buf bytes.Buffer
	l, err := NewLogger(&buf, level, "json", s)
	if err != nil {
		t.Fatal(err)
	}
	return l, func() []map[string]any {
		t.Helper()
		var lines []map[string]any
		for decoder := json.NewDecoder(&buf); ; {
			var line map[string]any
			err := decoder.Decode(&line)
			if errors.Is(err, io.EOF) {
				return lines
			}
			if err != nil {
				t.Fatalf("not JSON: %v", err)
			}
			lines = append(lines, line)
		}
	}
}

func one(t *testing.T, lines []map[string]any) map[string]any {
	t.Helper()
	if len(lines) != 1 {
		t.Fatalf("%d lines, want one: %v", len(lines), lines)
	}
	return lines[0]
}

func TestEveryLineSaysWhereTheReplicaStands(t *testing.T) {
	standing := NewStanding("r1")
	l, lines := capture(t, "info", standing)
	derived := l.With("component", "mirror").WithGroup("etcd").With("revision", 4)

	derived.Info("before", "key", "a")
	standing.Set("lead", 7)
	derived.Info("after", "key", "b")
	l.Warn("plain")

	got := lines()
	for i, want := range []string{
		"before r1 understudy 0 mirror map[key:a revision:4]",
		"after r1 lead 7 mirror map[key:b revision:4]",
		"plain r1 lead 7 <nil> <nil>",
	} {
		line := got[i]
		if s := fmt.Sprint(line["msg"], " ", line["replica"], " ", line["role"], " ", line["epoch"], " ",
			line["component"], " ", line["etcd"]); s != want {
			t.Errorf("line %d: %s, want %s", i, s, want)
		}
	}
}

func TestRoleAndEpochOfALineBelongTogether(t *testing.T) {
	standing := NewStanding("r1")
	l, lines := capture(t, "info", standing)
	var writers sync.WaitGroup
	writers.Go(func() {
		for epoch := range uint64(500) {
			standing.Set(fmt.Sprintf("role-%d", epoch), epoch)
		}
	})
	for range 2 {
		writers.Go(func() {
			for range 500 {
				l.Info("line")
			}
		})
	}
	writers.Wait()
	for _, line := range lines() {
		if line["role"] == "understudy" {
			continue
		}
		if want := fmt.Sprintf("role-%v", line["epoch"]); line["role"] != want {
			t.Fatalf("role %v with epoch %v", line["role"], line["epoch"])
		}
	}
}

func TestLevelAndFormat(t *testing.T) {
	l, lines := capture(t, "warn", NewStanding("r1"))
	l.Info("quiet")
	l.Error("loud")
	if got := one(t, lines()); got["msg"] != "loud" {
		t.Errorf("got %v", got)
	}
	var buf bytes.Buffer
	text, err := NewLogger(&buf, "info", "text", NewStanding("r1"))
	if err != nil {
		t.Fatal(err)
	}
	text.Info("hello")
	if !strings.Contains(buf.String(), "msg=hello replica=r1 role=understudy epoch=0") {
		t.Errorf("text: %s", &buf)
	}
	for _, bad := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := NewLogger(io.Discard, bad[0], bad[1], nil); err == nil {
			t.Errorf("level %s, format %s accepted", bad[0], bad[1])
		}
	}
}

func TestZapWritesTheSameLines(t *testing.T) {
	standing := NewStanding("r1")
	standing.Set("lead", 2)
	l, lines := capture(t, "info", standing)
	z := Zap(l)

	z.Debug("dropped")
	z.Named("raft").With(zap.String("endpoint", "a:1")).Warn("retrying",
		zap.Error(errors.New("refused")), zap.Duration("after", time.Second), zap.Namespace("in"), zap.Int("attempt", 3))

	got := one(t, lines())
	want := map[string]any{"msg": "retrying", "level": "WARN", "logger": "raft", "endpoint": "a:1", "error": "refused",
		"after": float64(time.Second), "replica": "r1", "role": "lead", "epoch": 2.0}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %v, want %v", k, got[k], v)
		}
	}
	if in, ok := got["in"].(map[string]any); !ok || in["attempt"] != 3.0 {
		t.Errorf("namespace: %v", got["in"])
	}
}

func TestLibrariesWriteTheSameLines(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(io.Discard)
		klog.ClearLogger()
	})
	standing := NewStanding("r1")
	standing.Set("lead", 5)
	l, lines := capture(t, "info", standing)
	Redirect(l)

	for name, write := range map[string]func(){
		"klog":            func() { klog.ErrorS(errors.New("away"), "watch ended", "resource", "pods") },
		"klog, formatted": func() { klog.Warningf("watch of %s ended", "pods") },
		"log":             func() { log.Printf("watch of %s ended", "pods") },
		"grpc":            func() { grpclog.Error("watch ended") },
		"otel":            func() { otel.Handle(errors.New("watch ended")) },
	} {
		t.Run(name, func(t *testing.T) {
			write()
			line := one(t, lines())
			if line["epoch"] != 5.0 || line["role"] != "lead" || line["replica"] != "r1" ||
				!strings.Contains(fmt.Sprint(line), "ended") {
				t.Errorf("line = %v", line)
			}
		})
	}
	grpclog.Info("connecting")
	klog.V(4).InfoS("details")
	if got := lines(); len(got) != 0 {
		t.Errorf("chatter is logged: %v", got)
	}
}

func TestFailingTelemetryIsLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, lines := capture(t, "info", nil)
		h := &errorHandler{log: l}
		for range 3 {
			h.Handle(errors.New("no collector"))
			time.Sleep(5 * time.Second)
		}
		one(t, lines())
		time.Sleep(quiet)
		h.Handle(errors.New("no collector"))
		if got := one(t, lines()); got["suppressed"] != 2.0 {
			t.Errorf("suppressed = %v, want 2", got["suppressed"])
		}
	})
}
