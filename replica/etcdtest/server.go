package etcdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/understudy-ha/understudy/internal/process"
)

// Server is one etcd process, a cluster of its own.
type Server struct {
	// Addr is where clients reach it, host:port; it outlives a restart.
	Addr string

	tb   testing.TB
	bin  string
	peer string
	data string
	args []string

	cmd    *exec.Cmd
	output *lockedBuffer
	exited chan struct{}
}

// Start runs an etcd, with further flags if any are given, and returns when it
// serves. By default it does not sync its log to disk: its data survives the
// end of the process, which is all that a test can bring about.
func Start(tb testing.TB, flags ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, bin: binary(tb), Addr: freeAddr(tb), peer: freeAddr(tb), data: tb.TempDir()}
	s.args = flags
	if len(flags) == 0 {
		s.args = []string{"--unsafe-no-fsync"}
	}
	tb.Cleanup(s.Kill)
	s.Restart()
	return s
}

// Restart runs the process again, on the data that it left.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	args := append([]string{
		"--name=test", "--data-dir=" + s.data, "--log-level=error",
		"--listen-client-urls=http://" + s.Addr, "--advertise-client-urls=http://" + s.Addr,
		"--listen-peer-urls=http://" + s.peer, "--initial-advertise-peer-urls=http://" + s.peer,
		"--initial-cluster=test=http://" + s.peer,
	}, s.args...)
	cmd := exec.Command(s.bin, args...)
	s.output = new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = s.output, s.output
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		s.tb.Fatalf("etcd: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.cmd, s.exited = cmd, exited
	if err := s.awaitHealthy(30 * time.Second); err != nil {
		s.tb.Fatalf("etcd: %v\n%s", err, s.output)
	}
}

// Kill ends the process with SIGKILL and keeps its data. It does nothing if
// the process is not running.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Pause stops the process with SIGSTOP: connections stay open, nothing answers.
func (s *Server) Pause() {
	s.tb.Helper()
	if err := process.Freeze(s.cmd.Process); err != nil {
		s.tb.Fatalf("etcd: %v", err)
	}
}

// Resume lets a paused process go on.
func (s *Server) Resume() {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.tb.Fatalf("etcd: %v", err)
	}
}

// Wipe deletes the data. With another name the cluster that then starts at the
// same address has another cluster ID; with the same flags it has the same.
func (s *Server) Wipe(flags ...string) {
	s.tb.Helper()
	s.Kill()
	s.data = s.tb.TempDir()
	s.args = append(s.args, flags...)
	s.Restart()
}

// Backup copies the data as it is, for RestoreBackup. The process is restarted.
func (s *Server) Backup() string {
	s.tb.Helper()
	s.Kill()
	dir := filepath.Join(s.tb.TempDir(), "backup")
	if err := os.CopyFS(dir, os.DirFS(s.data)); err != nil {
		s.tb.Fatal(err)
	}
	s.Restart()
	return dir
}

// RestoreBackup restarts the process on the data that Backup returned: the same
// cluster, at an earlier revision.
func (s *Server) RestoreBackup(dir string) {
	s.tb.Helper()
	s.Kill()
	s.data = dir
	s.Restart()
}

// Client returns a client of this server, closed when the test ends.
func (s *Server) Client() *clientv3.Client {
	s.tb.Helper()
	return Client(s.tb, s.Addr)
}

// Client returns a client of whatever serves at addr.
func Client(tb testing.TB, addr string) *clientv3.Client {
	tb.Helper()
	cli, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + addr}, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatalf("etcd client: %v", err)
	}
	tb.Cleanup(func() { _ = cli.Close() })
	return cli
}

func (s *Server) awaitHealthy(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/health", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return errors.New("exited")
		case <-ctx.Done():
			return fmt.Errorf("not healthy after %v", limit)
		}
	}
}

// binary finds the etcd to run.
func binary(tb testing.TB) string {
	tb.Helper()
	if bin := os.Getenv("UNDERSTUDY_ETCD"); bin != "" {
		return bin
	}
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for {
		bin := filepath.Join(dir, "bin", "etcd")
		if info, err := os.Stat(bin); err == nil && !info.IsDir() {
			return bin
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			tb.Fatal("bin/etcd is missing: run make tools")
		}
		dir = parent
	}
}

// freeAddr returns an address of its own on the loopback network: nobody takes its
// port while the server is down, as could happen to one of 127.0.0.1.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	host := net.IPv4(127, byte(1+rand.IntN(254)), byte(rand.IntN(256)), byte(1+rand.IntN(254)))
	l, err := net.Listen("tcp", net.JoinHostPort(host.String(), "0"))
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// lockedBuffer collects what a process says while others may read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
