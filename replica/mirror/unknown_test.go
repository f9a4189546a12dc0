package mirror_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/understudy-ha/understudy/replica/etcdtest"
	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/mirror"
)

// The first transaction takes effect, and nobody hears of it.
func TestALostAnswerIsRepeated(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	lost := false
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		resp, err := send()
		if touches(ops) && !lost {
			lost = true
			return nil, context.DeadlineExceeded
		}
		return resp, err
	})
	m := run(t, cli, claimed, config())
	calls := 0
	m.Append([]ledger.Change{task(1, 1)}, func() { calls++ })
	m.flush(t)
	if !lost || calls != 1 || version(t, cli, 1) != 1 {
		t.Errorf("lost %t, %d callbacks, version %d", lost, calls, version(t, cli, 1))
	}
	m.appendWait(t, task(1, 2))
}

// The first transaction is delayed so much that it reaches etcd when a newer
// value of the same record is already there. Without Renew it would undo it.
func TestADelayedTransactionCannotUndoANewerOne(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	var delayed commit
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		if touches(ops) && delayed == nil {
			delayed = send
			return nil, context.DeadlineExceeded
		}
		return send()
	})
	m := run(t, cli, claimed, config())
	m.appendWait(t, task(1, 1))
	m.appendWait(t, task(1, 2))
	resp, err := delayed()
	if err != nil || resp.Succeeded {
		t.Errorf("the delayed transaction was accepted: %v, %v", resp, err)
	}
	if v := version(t, cli, 1); v != 2 {
		t.Errorf("version %d after version 2 was durable", v)
	}
}

// Every answer to a renewal is lost, too, and one renewal comes late.
func TestRenewalsMayBeLostAndLateToo(t *testing.T) {
	cli := etcdtest.Start(t).Client()
	claimed := claim(t, cli, 1)
	var late commit
	attempts, renewals := 0, 0
	intercept(cli, func(ops []clientv3.Op, send commit) (*clientv3.TxnResponse, error) {
		if touches(ops) {
			if attempts++; attempts == 1 {
				return nil, context.DeadlineExceeded
			}
			return send()
		}
		switch renewals++; renewals {
		case 1: // never arrives, until the end
			late = send
			return nil, context.DeadlineExceeded
		case 2: // arrives, without an answer
			_, _ = send()
			return nil, context.DeadlineExceeded
		}
		return send()
	})
	m := run(t, cli, claimed, config())
	m.appendWait(t, task(1, 1))
	if resp, err := late(); err != nil || resp.Succeeded {
		t.Errorf("the late renewal was accepted: %v, %v", resp, err)
	}
	m.appendWait(t, task(1, 2))
	if renewals != 2 || version(t, cli, 1) != 2 {
		t.Errorf("%d renewals, version %d", renewals, version(t, cli, 1))
	}
}

// While one replica does not know whether its write took effect, another one
// takes over. The repetition must not get through.
func TestFenceComesFirstAfterAnUnknownOutcome(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := etcdtest.NewProxy(t, server.Addr)
	direct := server.Client()
	cfg := config()
	cfg.RequestTimeout, cfg.Patience = 100*time.Millisecond, 50*time.Millisecond
	cli := etcdtest.Client(t, proxy.Addr)
	m := run(t, cli, claim(t, cli, 1), cfg)
	m.appendWait(t, task(1, 1))

	proxy.Cut()
	// Under the policy `available` effects run ahead, the debt waits.
	m.appendWait(t, task(1, 2), task(2, 2))
	claim(t, direct, 2)
	if _, err := direct.Put(etcdtest.Within(t), keys.Record(task(2, 0).Key), "the successor's"); err != nil {
		t.Fatal(err)
	}
	proxy.Restore()
	if err := m.ended(t); !errors.Is(err, mirror.ErrFenced) {
		t.Errorf("got %v", err)
	}
	if v := version(t, direct, 1); v != 1 {
		t.Errorf("the debt of epoch 1 was written after the claim of epoch 2: version %d", v)
	}
	if v := get(t, direct, keys.Record(task(2, 0).Key)).Kvs[0].Value; string(v) != "the successor's" {
		t.Error("the debt of epoch 1 undid a write of epoch 2")
	}
}

// Cuts, stalls and lost answers at the level of TCP, with a client that heals.
func TestTroubleOnTheNetwork(t *testing.T) {
	server := etcdtest.Start(t)
	direct := server.Client()
	proxy := etcdtest.NewProxy(t, server.Addr)
	cfg := config()
	cfg.Policy = mirror.Strict
	cfg.RequestTimeout = 100 * time.Millisecond
	cli := etcdtest.Client(t, proxy.Addr)
	m := run(t, cli, claim(t, cli, 1), cfg)
	n := 0
	for name, trouble := range map[string]func(){
		"cut": proxy.Cut, "blink": proxy.Blink, "stall": proxy.Stall, "deafen": proxy.Deafen,
		"server killed": server.Kill, "server paused": server.Pause,
	} {
		n++
		trouble()
		done := make(chan struct{})
		m.Append([]ledger.Change{task(1, n), task(2, n)}, func() { close(done) })
		if name != "blink" {
			etcdtest.Eventually(t, name+" is noticed", func() bool { return m.Status().LastError != "" })
		}
		select {
		case <-done:
			if name != "blink" {
				t.Errorf("%s: done without etcd", name)
			}
		default:
		}
		switch name {
		case "server killed":
			server.Restart()
		case "server paused":
			server.Resume()
		}
		proxy.Restore()
		select {
		case <-done:
		case <-time.After(etcdtest.Patience):
			t.Fatalf("%s: never done: %+v", name, m.Status())
		}
		if v1, v2 := version(t, direct, 1), version(t, direct, 2); v1 != n || v2 != n {
			t.Errorf("%s: versions %d and %d, want %d", name, v1, v2, n)
		}
	}
	m.flush(t)
	if s := m.Status(); s.LastError != "" || s.Stalled {
		t.Errorf("got %+v", s)
	}
}
