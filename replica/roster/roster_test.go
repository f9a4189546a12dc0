package roster

import (
	"context"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// memberlist does not wait for its goroutines, which end by themselves.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// replica is a member in this process.
type replica struct {
	*Roster
	leave func()
	gone  func() []string
}

func start(t *testing.T, name, keyring string, peers ...string) *replica {
	t.Helper()
	return startWith(t, name, keyring, func(*Config) {}, peers...)
}

func startWith(t *testing.T, name, keyring string, change func(*Config), peers ...string) *replica {
	t.Helper()
	cfg := Default()
	cfg.Name, cfg.Replica, cfg.KeyringFile, cfg.Peers = name+"_1", name, keyring, peers
	cfg.JoinInterval = 50 * time.Millisecond
	var mu sync.Mutex
	var gone []string
	cfg.Gone = func(m Member) {
		mu.Lock()
		defer mu.Unlock()
		gone = append(gone, m.Name)
	}
	change(&cfg)
	r, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	leave := func() { cancel(); <-done }
	t.Cleanup(leave)
	return &replica{r, leave, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(gone)
	}}
}

// until waits for what gossip brings about some time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: ", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (r *replica) sees(name string, like func(Member) bool) func() bool {
	return func() bool {
		return slices.ContainsFunc(r.Members(), func(m Member) bool { return m.Name == name && like(m) })
	}
}

func alive(m Member) bool { return !m.Gone }

func gone(m Member) bool { return m.Gone }

func TestMembersLearnOfEachOther(t *testing.T) {
	a := start(t, "a", "")
	b := start(t, "b", "", a.Address())
	c := start(t, "c", "", a.Address())
	for _, r := range []*replica{a, b, c} {
		for _, name := range []string{"a_1", "b_1", "c_1"} {
			until(t, r.cfg.Name+" sees "+name, r.sees(name, alive))
		}
	}
	if first := b.Members()[0]; !first.Self || first.Name != "b_1" {
		t.Errorf("first is %+v", first)
	}
	c.Update(Standing{Role: "lead", Epoch: 7, Revision: 42, Ready: true, HTTP: "127.0.0.1:1"})
	want := Standing{Replica: "c", Role: "lead", Epoch: 7, Revision: 42, Ready: true, HTTP: "127.0.0.1:1"}
	until(t, "b knows how c stands", b.sees("c_1", func(m Member) bool { return m.Standing == want }))
	c.Update(Standing{Role: "lead", Epoch: 7, Revision: 50})
	until(t, "and what changes", b.sees("c_1", func(m Member) bool { return m.Revision == 50 }))

	c.leave()
	until(t, "b hears that c has left", b.sees("c_1", gone))
	until(t, "b has told so", func() bool { return slices.Equal(b.gone(), []string{"c_1"}) })
}

// A member that falls silent is reported within seconds, and is not forgotten at
// once.
func TestSilenceIsNoticed(t *testing.T) {
	a := start(t, "a", "")
	cfg := Default()
	cfg.Name, cfg.Replica = "b_1", "b"
	b, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.list.Join([]string{a.Address()}); err != nil {
		t.Fatal(err)
	}
	until(t, "a sees b", a.sees("b_1", alive))
	if err := b.list.Shutdown(); err != nil { // without a word
		t.Fatal(err)
	}
	until(t, "a takes b for dead", a.sees("b_1", gone))
	until(t, "a has told so", func() bool { return slices.Equal(a.gone(), []string{"b_1"}) })
}

func keyFile(t *testing.T, keys ...byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keyring")
	writeKeys(t, file, keys...)
	return file
}

func writeKeys(t *testing.T, file string, keys ...byte) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# test keys\n")
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(k)), 32))) + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStrangersAreKeptOut(t *testing.T) {
	a := start(t, "a", keyFile(t, 'x'))
	b := start(t, "b", keyFile(t, 'x'), a.Address())
	until(t, "who has the key is in", a.sees("b_1", alive))
	for name, keyring := range map[string]string{"open": "", "other": keyFile(t, 'y')} {
		s := start(t, name, keyring, a.Address())
		if _, err := s.list.Join([]string{a.Address()}); err == nil {
			t.Errorf("%s joined", name)
		}
		if a.sees(name+"_1", func(Member) bool { return true })() || b.sees(name+"_1", func(Member) bool { return true })() {
			t.Errorf("%s is listed", name)
		}
	}
}

// The three steps of a rotation keep the members together throughout.
func TestKeysAreRotated(t *testing.T) {
	files := []string{keyFile(t, 'x'), keyFile(t, 'x')}
	a := start(t, "a", files[0])
	b := start(t, "b", files[1], a.Address())
	until(t, "together", a.sees("b_1", alive))
	for _, keys := range [][]byte{{'x', 'y'}, {'y', 'x'}, {'y'}} {
		for _, f := range files {
			writeKeys(t, f, keys...)
		}
		for _, r := range []*replica{a, b} {
			until(t, "keys are read", func() bool {
				held := r.ring.GetKeys()
				return len(held) == len(keys) && held[0][0] == keys[0]
			})
		}
		b.Update(Standing{Revision: int64(keys[0]) + int64(len(keys))})
		until(t, "they still talk", a.sees("b_1", func(m Member) bool {
			return !m.Gone && m.Revision == int64(keys[0])+int64(len(keys))
		}))
	}
	if got := append(a.gone(), b.gone()...); len(got) > 0 {
		t.Errorf("gone meanwhile: %v", got)
	}
	c := start(t, "c", keyFile(t, 'x'), a.Address())
	if _, err := c.list.Join([]string{a.Address()}); err == nil {
		t.Error("the old key still opens")
	}
}

func TestBrokenKeyringChangesNothing(t *testing.T) {
	file := keyFile(t, 'x')
	a := start(t, "a", file)
	if err := os.WriteFile(file, []byte("c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.rotate()
	if keys := a.ring.GetKeys(); len(keys) != 1 || keys[0][0] != 'x' {
		t.Error("a broken file replaced the keys")
	}
	_, err := readKeys(file)
	if err == nil || strings.Contains(err.Error(), "c2VjcmV0") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error: %v", err)
	}
	cfg := Default()
	cfg.Name, cfg.Replica, cfg.KeyringFile = "b", "b", file
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a member without keys was started")
	}
}

func TestSuccessorIsReadyAndMostCaughtUp(t *testing.T) {
	m := func(name string, revision, lag int64, ready, gone bool) Member {
		return Member{Name: name + "_1", Gone: gone, Standing: Standing{Replica: name, Revision: revision, Lag: lag, Ready: ready}}
	}
	self := m("self", 100, 0, true, false)
	self.Self = true
	all := []Member{self, m("gone", 99, 0, true, true), m("unready", 98, 0, false, false), m("behind", 90, 5, true, false), m("best", 95, 0, true, false)}
	for replica, want := range map[string]string{"": "best_1", "behind": "behind_1", "gone": "", "unready": "", "self": "", "nobody": ""} {
		if got := Successor(all, replica); got != want {
			t.Errorf("successor among %q is %q, want %q", replica, got, want)
		}
	}
}

// In a rollout the lead is asked to go while others of its template are still there.
func TestSuccessorIsOfTheNewestTemplate(t *testing.T) {
	m := func(name, template string, created, revision int64, ready bool) Member {
		return Member{Name: name, Standing: Standing{Template: template, Created: created, Revision: revision, Ready: ready}}
	}
	lead := m("lead", "old", 100, 99, false)
	lead.Self = true
	left := m("left", "gone", 400, 99, true)
	left.Gone = true
	old, renewed := m("old", "old", 101, 95, true), m("renewed", "old", 300, 96, true)
	for name, tt := range map[string]struct {
		others []Member
		want   string
	}{
		"the newest, although behind":          {[]Member{old, m("new", "new", 200, 90, true), left}, "new"},
		"most caught up among the newest":      {[]Member{m("new", "new", 200, 90, true), m("new2", "new", 201, 91, true), old}, "new2"},
		"an old one that was made anew is old": {[]Member{renewed, m("new", "new", 200, 90, true)}, "new"},
		"ready comes first":                    {[]Member{old, m("new", "new", 200, 99, false)}, "old"},
		"undone: the older name is the newer":  {[]Member{m("bad", "bad", 50, 99, true), m("back", "old", 100, 90, true)}, "back"},
		"before there were templates":          {[]Member{m("before", "", 0, 99, true), m("new", "new", 200, 90, true)}, "new"},
		"nobody says":                          {[]Member{m("a", "", 0, 90, true), m("b", "", 0, 91, true)}, "b"},
	} {
		if got := Successor(append([]Member{lead}, tt.others...), ""); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// A lead that hands over for settings is followed by a replica that has them, although
// another may be more caught up.
func TestSuccessorHasTheSettings(t *testing.T) {
	m := func(name, template string, stale bool, revision int64, ready bool) Member {
		return Member{Name: name, Standing: Standing{Template: template, Created: int64(len(template)), Stale: stale, Revision: revision, Ready: ready}}
	}
	lead := m("lead", "", true, 99, false)
	lead.Self = true
	for name, tt := range map[string]struct {
		others []Member
		want   string
	}{
		"it has them":            {[]Member{m("stale", "", true, 99, true), m("fresh", "", false, 90, true)}, "fresh"},
		"nobody does":            {[]Member{m("a", "", true, 99, true), m("b", "", true, 90, true)}, "a"},
		"who does is not ready":  {[]Member{m("a", "", true, 90, true), m("b", "", false, 99, false)}, "a"},
		"a newer template first": {[]Member{m("a", "newer", true, 90, true), m("b", "old", false, 99, true)}, "a"},
	} {
		if got := Successor(append([]Member{lead}, tt.others...), ""); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestWhatIsMissingIsToldInShort(t *testing.T) {
	long := Summary([]string{"engine: the engine is being fed", strings.Repeat("x", 100) + strings.Repeat("é", 100)})
	s := Standing{Replica: "r", Role: "understudy", Missing: long, HTTP: "10.0.0.1:8080", Template: "7d4b9c", Created: 1 << 40}
	if got := decode(s.encode(memberlist.MetaMaxSize)); got != s || !strings.HasPrefix(got.Missing, "engine: the engine is being fed; x") || len(got.Missing) > 130 {
		t.Errorf("got %+v", got)
	}
	if got := Summary(nil); got != "" {
		t.Errorf("nothing is missing: %q", got)
	}
}

// Of the ready understudies exactly one comes first, whichever of them looks; a lead
// that has just died looks ready still.
func TestAllAgreeWhoComesFirst(t *testing.T) {
	m := func(name string, ready, gone bool) Member {
		return Member{Name: name, Gone: gone, Standing: Standing{Ready: ready}}
	}
	lead, unready, gone := m("a", true, false), m("aa", false, false), m("b", true, true)
	ready := []Member{m("c", true, false), m("d", true, false), m("e", true, false)}
	for i, self := range ready {
		others := slices.Delete(slices.Clone(ready), i, i+1)
		self.Self = true
		if got := First(append([]Member{self, lead, unready, gone}, others...), lead.Name); got != (i == 0) {
			t.Errorf("%s comes first: %t", self.Name, got)
		}
	}
}

func TestStandingFitsIntoAPacket(t *testing.T) {
	s := Standing{Replica: strings.Repeat("r", 400), Role: "understudy", Epoch: 1 << 40, Revision: 1 << 60, Lag: 1 << 60, HTTP: strings.Repeat("h", 400)}
	raw := s.encode(memberlist.MetaMaxSize)
	if len(raw) > memberlist.MetaMaxSize {
		t.Fatalf("%d bytes", len(raw))
	}
	got := decode(raw)
	s.HTTP = ""
	if got != s {
		t.Errorf("got %+v", got)
	}
	if decode([]byte("{")) != (Standing{}) {
		t.Error("garbage says something")
	}
}

func TestValidateNamesWhatCannotWork(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"name":      func(c *Config) { c.Name = "" },
		"bind":      func(c *Config) { c.Bind = "localhost" },
		"advertise": func(c *Config) { c.Bind = "0.0.0.0:7946" },
		"peer":      func(c *Config) { c.Peers = []string{"host"} },
		"probe":     func(c *Config) { c.ProbeTimeout = time.Hour },
	} {
		cfg := Default()
		cfg.Name, cfg.Replica = "a", "a"
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
