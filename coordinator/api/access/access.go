// Package access lets those read the REST interface who may, by Kubernetes' own account: a request
// carries a token, of which the API server says whose it is (TokenReview), and whether they may get
// that path (SubjectAccessReview of a nonResourceURL). So do kube-rbac-proxy and the filters of
// controller-runtime; k8s.io/apiserver has the same for servers that bring the rest of it along.
//
// Guarantees:
//
//   - Nothing behind Guard sees a request whose token the API server has not taken for good, or whose
//     user it does not let have the path.
//   - What the API server has said holds for a short time. Where it does not answer, nobody may read.
//   - A request that lasts, as a watch does, is asked about again every minute. It ends when its user
//     may not make it any more, and when the API server has not said for five minutes that he may.
//   - A request goes on as it came, its token included: another replica asks for itself.
//   - Tokens are kept as hashes.
package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/kubernetes"
)

const (
	// remembered is for how long it holds whose a token is, and what a user may do; refused for
	// how long that a token is nobody's, or that they may not.
	remembered = time.Minute
	refused    = 10 * time.Second
	// unheard is for how long a request goes on of which the API server does not say anything.
	unheard = 5 * time.Minute
	// answers is how many of either are remembered.
	answers = 4096
	// reviewTimeout bounds one review.
	reviewTimeout = 5 * time.Second
	// maxToken bounds what is taken for a token, in bytes.
	maxToken = 16 << 10
)

// Refuse answers a request that is not let through, with a status and a sentence.
type Refuse func(w http.ResponseWriter, r *http.Request, status int, why string)

type guard struct {
	reviews kubernetes.Interface
	next    http.Handler
	refuse  Refuse
	log     *slog.Logger
	// users are *authenticationv1.UserInfo by the hash of their token, nil for nobody; allowed
	// whether a user may, by who and what.
	users, allowed *cache.LRUExpireCache
}

// Guard lets requests through to next whose user may make them, by what reviews says, and has refuse
// answer the others: 401 for those whose user is not known, 403 for those who may not.
func Guard(reviews kubernetes.Interface, next http.Handler, refuse Refuse, log *slog.Logger) http.Handler {
	return &guard{
		reviews: reviews, next: next, refuse: refuse, log: log,
		users: cache.NewLRUExpireCache(answers), allowed: cache.NewLRUExpireCache(answers),
	}
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := g.user(r)
	if err != nil {
		g.log.Warn("whose a token is could not be found out", "err", err)
	}
	if user == nil {
		w.Header().Set("WWW-Authenticate", "Bearer")
		g.refuse(w, r, http.StatusUnauthorized, "A token is needed of somebody whom the API server knows")
		return
	}
	verb := strings.ToLower(r.Method)
	may, err := g.may(r.Context(), user, verb, r.URL.Path)
	if err != nil {
		g.log.Warn("what a user may read could not be found out", "user", user.Username, "err", err)
	}
	if !may {
		g.refuse(w, r, http.StatusForbidden, fmt.Sprintf("User %s may not %s %s", user.Username, verb, r.URL.Path))
		return
	}
	ctx, end := context.WithCancel(r.Context())
	r = r.WithContext(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.last(r, end)
	}()
	defer func() { end(); <-ended }()
	g.next.ServeHTTP(w, r)
}

// last asks about a request again for as long as it lasts, and ends it when it has lasted for too
// long for its user.
func (g *guard) last(r *http.Request, end func()) {
	heard := time.Now()
	for {
		select {
		case <-time.After(remembered):
		case <-r.Context().Done():
			return
		}
		user, err := g.user(r)
		may := false
		if user != nil {
			may, err = g.may(r.Context(), user, strings.ToLower(r.Method), r.URL.Path)
		}
		switch {
		case may:
			heard = time.Now()
		case err == nil || time.Since(heard) >= unheard:
			g.log.Info("a request that lasts is ended: its user may not make it any more", "path", r.URL.Path, "err", err)
			end()
			return
		}
	}
}

// user returns who makes a request, nil for nobody who is known.
func (g *guard) user(r *http.Request) (*authenticationv1.UserInfo, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return nil, nil
	}
	key := sha256.Sum256([]byte(token))
	if known, ok := g.users.Get(key); ok {
		user, _ := known.(*authenticationv1.UserInfo)
		return user, nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), reviewTimeout)
	defer cancel()
	review, err := g.reviews.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	if review.Status.Authenticated {
		g.users.Add(key, &review.Status.User, remembered)
		return &review.Status.User, nil
	}
	if review.Status.Error != "" {
		return nil, errors.New(review.Status.Error)
	}
	g.users.Add(key, (*authenticationv1.UserInfo)(nil), refused)
	return nil, nil
}

// may reports whether a user may do that to a path.
func (g *guard) may(ctx context.Context, user *authenticationv1.UserInfo, verb, path string) (bool, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	spec := authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: path},
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return false, err
	}
	key := sha256.Sum256(text)
	if known, ok := g.allowed.Get(key); ok {
		may, _ := known.(bool)
		return may, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	review, err := g.reviews.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	holds := refused
	if review.Status.Allowed {
		holds = remembered
	}
	g.allowed.Add(key, review.Status.Allowed, holds)
	return review.Status.Allowed, nil
}
