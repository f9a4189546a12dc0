//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled says whether this build has failpoints.
const Enabled = true

// points is one set for the whole process, as the process is what it ends.
var points = sync.OnceValue(func() *set {
	s := newSet(kill, stop)
	spec, err := inherited()
	if err == nil && spec != "" {
		err = s.arm(spec)
	}
	if err != nil {
		// Only test builds come here; a test must not run unarmed.
		panic(err)
	}
	return s
})

// fileEnv names the file that arms one process after the other until one of them
// has died of it.
const fileEnv = "UNDERSTUDY_FAILPOINT_FILE"

// inherited returns what the environment arms.
func inherited() (string, error) {
	file := os.Getenv(fileEnv)
	if file == "" {
		return os.Getenv("UNDERSTUDY_FAILPOINT"), nil
	}
	spec, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(spec)), err
}

// Hit passes the point name.
func Hit(name string) { points().hit(name) }

// guardsOff is what the environment switches off.
var guardsOff = sync.OnceValue(func() []string { return strings.Split(os.Getenv("UNDERSTUDY_GUARDS_OFF"), ",") })

// Off reports whether the guard is switched off.
func Off(guard string) bool { return slices.Contains(guardsOff(), guard) }

// Handler arms points and lists their hits.
func Handler() http.Handler { return points() }

type set struct {
	mu          sync.Mutex
	hits        map[string]int
	armed       string
	left        int
	act         func(name string) // what the armed point does
	die, freeze func(name string)
	held        map[string]bool
	released    *sync.Cond // of mu: held has changed
}

func newSet(die, freeze func(name string)) *set {
	s := &set{hits: make(map[string]int), held: make(map[string]bool), die: die, freeze: freeze}
	s.released = sync.NewCond(&s.mu)
	return s
}

// hold has everybody who passes the point wait there, or lets them go on.
func (s *set) hold(name string, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[name] = held
	s.released.Broadcast()
}

func (s *set) arm(spec string) error {
	place, freezes := strings.CutSuffix(spec, ":stop")
	name, count, counted := strings.Cut(place, ":")
	left := 1
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return fmt.Errorf("failpoint %q: want NAME or NAME:N with N above zero, and perhaps :stop", spec)
		}
		left = n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed, s.left, s.act = name, left, s.die
	if freezes {
		s.act = s.freeze
	}
	return nil
}

func (s *set) hit(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[name]++
	for s.held[name] {
		s.released.Wait()
	}
	if name != s.armed {
		return
	}
	if s.left--; s.left == 0 {
		// With the lock held: nobody passes another point meanwhile.
		s.act(name)
	}
}

// kill ends the process without any chance to tidy up.
func kill(name string) {
	if file := os.Getenv(fileEnv); file != "" {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			panic(err)
		}
	}
	fmt.Fprintf(os.Stderr, "failpoint %s: SIGKILL\n", name)
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {}
}

// stop freezes the process until somebody sends it SIGCONT. The signal is for the
// thread that comes here, which would else run on until another has taken it.
func stop(name string) {
	fmt.Fprintf(os.Stderr, "failpoint %s: SIGSTOP\n", name)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP); err != nil {
		panic(err)
	}
}

func (s *set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		query := r.URL.Query()
		switch {
		case query.Has("hold"):
			s.hold(query.Get("hold"), true)
		case query.Has("release"):
			s.hold(query.Get("release"), false)
		default:
			if err := s.arm(query.Get("arm")); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.hits)) {
		fmt.Fprintf(w, "%s %d\n", name, s.hits[name])
	}
}
