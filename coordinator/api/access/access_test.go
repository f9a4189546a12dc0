package access_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/understudy-ha/understudy/coordinator/api/access"
)

// reviewer is an API server that knows two tokens: that of ann, who may get what is below /ws, and
// that of bob, who may nothing.
type reviewer struct {
	mu    sync.Mutex
	away  bool
	over  bool           // no token is anybody's any more
	bars  bool           // nobody may anything any more
	asked map[string]int // reviews by kind
}

func (r *reviewer) becomes(change func(*reviewer)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *reviewer) client() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.away {
			return true, nil, http.ErrServerClosed
		}
		create, _ := action.(clienttesting.CreateAction)
		switch x := create.GetObject().(type) {
		case *authenticationv1.TokenReview:
			r.asked["tokens"]++
			user, ok := map[string]string{"token-a": "ann", "token-b": "bob"}[x.Spec.Token]
			ok = ok && !r.over
			x.Status = authenticationv1.TokenReviewStatus{Authenticated: ok, User: authenticationv1.UserInfo{Username: user}}
			return true, x, nil
		case *authorizationv1.SubjectAccessReview:
			r.asked["access"]++
			on := x.Spec.NonResourceAttributes
			x.Status.Allowed = !r.bars && x.Spec.User == "ann" && on != nil && on.Verb == "get" && strings.HasPrefix(on.Path, "/ws/")
			return true, x, nil
		}
		return false, nil, nil
	})
	return client
}

// guarded asks a server that tells who came through, with the token that it saw.
func guarded(t *testing.T, r *reviewer) func(method, path string, headers ...string) (int, string) {
	t.Helper()
	handler := access.Guard(r.client(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("secret " + r.Header.Get("Authorization")))
	}), func(w http.ResponseWriter, _ *http.Request, status int, why string) { http.Error(w, why, status) }, slog.New(slog.DiscardHandler))
	return func(method, path string, headers ...string) (int, string) {
		request := httptest.NewRequest(method, path, nil)
		for i := 0; i+1 < len(headers); i += 2 {
			request.Header.Add(headers[i], headers[i+1])
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Code, answer.Body.String()
	}
}

func TestNothingIsReadWithoutCredentials(t *testing.T) {
	r := &reviewer{asked: map[string]int{}}
	ask := guarded(t, r)
	for name, c := range map[string]struct {
		method, path string
		headers      []string
		want         int
	}{
		"without a token":        {"GET", "/ws/v1/clusters", nil, 401},
		"with another scheme":    {"GET", "/ws/v1/clusters", []string{"Authorization", "Basic YTpi"}, 401},
		"with an empty token":    {"GET", "/ws/v1/clusters", []string{"Authorization", "Bearer "}, 401},
		"with an unknown token":  {"GET", "/ws/v1/clusters", []string{"Authorization", "Bearer x"}, 401},
		"a replica without one":  {"GET", "/ws/v1/clusters", []string{"X-Understudy-Forwarded", "r0"}, 401},
		"a browser that asks":    {"OPTIONS", "/ws/v1/clusters", nil, 401},
		"by a user who may not":  {"GET", "/ws/v1/clusters", []string{"Authorization", "Bearer token-b"}, 403},
		"another path":           {"GET", "/debug/stack", []string{"Authorization", "Bearer token-a"}, 403},
		"another method":         {"POST", "/ws/v1/validate-conf", []string{"Authorization", "Bearer token-a"}, 403},
		"the own name in header": {"GET", "/ws/v1/clusters", []string{"X-Remote-User", "ann", "X-Remote-Group", "system:masters"}, 401},
		"by who may":             {"GET", "/ws/v1/clusters", []string{"Authorization", "Bearer token-a"}, 200},
	} {
		status, body := ask(c.method, c.path, c.headers...)
		if status != c.want || (status != 200) == strings.Contains(body, "secret") {
			t.Errorf("%s: %d %q, want %d", name, status, body, c.want)
		}
		if status == 200 && !strings.Contains(body, "Bearer token-a") {
			t.Errorf("the token did not go on with the request: %q", body)
		}
	}
}

// TestReviewsAreRemembered: for a short time the API server is not asked again.
func TestReviewsAreRemembered(t *testing.T) {
	r := &reviewer{asked: map[string]int{}}
	ask := guarded(t, r)
	for range 10 {
		if status, _ := ask("GET", "/ws/v1/clusters", "Authorization", "Bearer token-a"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	if r.asked["tokens"] != 1 || r.asked["access"] != 1 {
		t.Errorf("reviews: %v", r.asked)
	}
}

// TestNobodyReadsWhereTheAPIServerIsAway but those whom it has let in a moment ago.
func TestNobodyReadsWhereTheAPIServerIsAway(t *testing.T) {
	r := &reviewer{asked: map[string]int{}, away: true}
	ask := guarded(t, r)
	if status, body := ask("GET", "/ws/v1/clusters", "Authorization", "Bearer token-a"); status != 401 || strings.Contains(body, "secret") {
		t.Errorf("%d %q", status, body)
	}
}

// TestAWatchEndsWithItsToken: a request that lasts goes on for as long as its user may make it.
func TestAWatchEndsWithItsToken(t *testing.T) {
	const soon = 2*time.Minute + time.Second
	for name, c := range map[string]struct {
		change func(*reviewer)
		ends   time.Duration // after the change, at most; zero for never
	}{
		"when nothing changes":         {func(*reviewer) {}, 0},
		"when the token has expired":   {func(r *reviewer) { r.over = true }, soon},
		"when the right is taken":      {func(r *reviewer) { r.bars = true }, soon},
		"when the API server has gone": {func(r *reviewer) { r.away = true }, 7 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reviewer{asked: map[string]int{}}
				ctx, leave := context.WithCancel(t.Context())
				ended := make(chan time.Time, 1)
				handler := access.Guard(r.client(), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					ended <- time.Now()
				}), func(_ http.ResponseWriter, _ *http.Request, status int, _ string) { t.Errorf("refused: %d", status) }, slog.New(slog.DiscardHandler))
				request := httptest.NewRequest(http.MethodGet, "/ws/v1/events/stream", nil).WithContext(ctx)
				request.Header.Set("Authorization", "Bearer token-a")
				served := make(chan struct{})
				go func() {
					defer close(served)
					handler.ServeHTTP(httptest.NewRecorder(), request)
				}()
				time.Sleep(time.Hour)
				synctest.Wait()
				changed := time.Now()
				r.becomes(c.change)
				// A moment of silence ends nothing.
				r.becomes(func(r *reviewer) { r.away = true })
				time.Sleep(90 * time.Second)
				r.becomes(func(r *reviewer) { r.away = false })
				r.becomes(c.change)
				time.Sleep(time.Hour)
				leave()
				<-served
				took := (<-ended).Sub(changed)
				if never := took > time.Hour; never != (c.ends == 0) || !never && took > 90*time.Second+c.ends {
					t.Errorf("it ended after %s", took)
				}
			})
		})
	}
}
