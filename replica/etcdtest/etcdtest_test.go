package etcdtest_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/understudy-ha/understudy/replica/etcdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, cli *clientv3.Client, timeout time.Duration) (*clientv3.GetResponse, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	cli.ActiveConnection().ResetConnectBackoff()
	return cli.Get(ctx, "k")
}

// answers waits until the server can be reached, and returns the value it has.
func answers(t *testing.T, cli *clientv3.Client) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := get(t, cli, time.Second)
		switch {
		case err == nil && len(resp.Kvs) == 0:
			return ""
		case err == nil:
			return string(resp.Kvs[0].Value)
		case time.Now().After(deadline):
			t.Fatal(err)
		}
	}
}

func TestDataSurvivesWhatItShould(t *testing.T) {
	s := etcdtest.Start(t)
	cli := s.Client()
	if _, err := cli.Put(t.Context(), "k", "old"); err != nil {
		t.Fatal(err)
	}
	backup := s.Backup()
	answers(t, cli)
	if _, err := cli.Put(t.Context(), "k", "new"); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if v := answers(t, cli); v != "new" {
		t.Errorf("%q after a restart", v)
	}
	s.RestoreBackup(backup)
	if v := answers(t, cli); v != "old" {
		t.Errorf("%q after the backup was restored", v)
	}
	s.Wipe()
	if v := answers(t, cli); v != "" {
		t.Errorf("%q after the data was wiped", v)
	}
}

func TestProxyFailsAsToldAndHeals(t *testing.T) {
	s := etcdtest.Start(t)
	p := etcdtest.NewProxy(t, s.Addr)
	cli := etcdtest.Client(t, p.Addr)
	answers(t, cli)
	for name, trouble := range map[string]func(){"cut": p.Cut, "stall": p.Stall, "deafen": p.Deafen} {
		trouble()
		trouble() // twice is the same
		if _, err := get(t, cli, 100*time.Millisecond); err == nil {
			t.Errorf("%s: the server answers", name)
		}
		p.Restore()
		answers(t, cli)
	}
	p.Blink()
	answers(t, cli)
}
