package admission

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// Config says how admission is done.
type Config struct {
	// Mode is config.AdmissionWebhook or config.AdmissionPolicy.
	Mode string
	// Namespace and ServiceAccount are the replicas'. What they do themselves is theirs.
	Namespace, ServiceAccount string
	// SchedulerName is that of the pods to schedule.
	SchedulerName string
	// ConfigMaps are the names of those that hold the configuration, a later one overriding
	// an earlier one, and ConfigMapNamespace is where they are; empty for Namespace.
	ConfigMaps         []string
	ConfigMapNamespace string
	// FailurePolicy is what becomes of a pod about which no replica decides in time: Ignore
	// or Fail.
	FailurePolicy string
	Where         Where
	Workloads     []Workload
	// Annotations are those of the webhooks. They tell whoever keeps certificates.
	Annotations map[string]string
}

// Source reads the ConfigMaps, nil for one that does not exist, in the order of
// Config.ConfigMaps.
type Source func(context.Context) ([]*v1.ConfigMap, error)

const (
	// readPeriod is how often the ConfigMaps are looked at, which are in a cache mostly.
	readPeriod = 500 * time.Millisecond
	// keepPeriod is how often what the API server has is put right, and certificates are
	// looked at.
	keepPeriod = 20 * time.Second
	// keepTimeout bounds that.
	keepTimeout = 10 * time.Second
)

// Service is what a replica does for admission.
type Service struct {
	cfg          Config
	facts        Facts
	source       Source
	objects      Objects
	certificates Certificates // nil without a server
	now          func() time.Time
	log          *slog.Logger

	current atomic.Pointer[configuration]
	handler *handler
	trust   trust
	last    string // what was wrong last
}

// configuration is what the ConfigMaps say.
type configuration struct {
	settings Settings
	maps     Maps
	data     map[string]string
}

// New makes the service; Run starts it. certificates are nil without a server.
func New(cfg Config, facts Facts, source Source, objects Objects, certificates Certificates, now func() time.Time,
	metrics prometheus.Registerer, log *slog.Logger) *Service {
	s := &Service{
		cfg: cfg, facts: facts, source: source, objects: objects, certificates: certificates, now: now, log: log,
	}
	s.handler = newHandler(map[string]judge{PathMutate: s.mutate, PathValidate: s.validate}, metrics, log)
	if certificates != nil {
		metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "understudy_admission_certificate_expires_timestamp_seconds",
			Help: "When the certificate ends that is shown to the API server.",
		}, func() float64 {
			if end := certificates.Expires(); !end.IsZero() {
				return float64(end.Unix())
			}
			return 0
		}))
	}
	return s
}

// Handler answers the API server.
func (s *Service) Handler() http.Handler { return s.handler }

var errNotRead = errors.New("the ConfigMaps have not been read yet")

func (s *Service) mutate(ctx context.Context, req *admissionv1.AdmissionRequest) (answer, error) {
	current := s.current.Load()
	if current == nil {
		return answer{}, errNotRead
	}
	rules := Rules{Settings: current.settings, SchedulerName: s.cfg.SchedulerName, Workloads: s.cfg.Workloads, Facts: s.facts}
	d, err := rules.Mutate(ctx, req)
	return answer{refusal: d.Refusal, patch: d.Patch}, err
}

func (s *Service) validate(_ context.Context, req *admissionv1.AdmissionRequest) (answer, error) {
	current := s.current.Load()
	if current == nil {
		return answer{}, errNotRead
	}
	refusal, warnings, err := current.maps.Judge(req)
	return answer{refusal: refusal, warnings: warnings}, err
}

// retries are soon after the first failure, which may be no more than that another replica was
// faster, and rare where the API server does not have what is asked for.
func retries() wait.Backoff {
	return wait.Backoff{Duration: readPeriod, Factor: 2, Jitter: 0.1, Steps: 8, Cap: keepPeriod}
}

// Run reads the ConfigMaps and keeps certificates and the API server's objects up to date
// until ctx ends. What fails is tried again.
func (s *Service) Run(ctx context.Context) error {
	ticker := time.NewTicker(readPeriod)
	defer ticker.Stop()
	var due time.Time
	pause := retries()
	for {
		changed := s.read(ctx)
		if s.current.Load() != nil && (changed || s.renews() || !s.now().Before(due)) {
			if s.keep(ctx) {
				due, pause = s.now().Add(keepPeriod), retries()
			} else {
				due = s.now().Add(pause.Step())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// renews reports whether there is a certificate to take over now, and not only when its time comes.
func (s *Service) renews() bool {
	files, ok := s.certificates.(interface{ Due(now time.Time) bool })
	return ok && files.Due(s.now())
}

// read takes over what the ConfigMaps say, and reports whether that is new.
func (s *Service) read(ctx context.Context) (changed bool) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	held, err := s.source(ctx)
	if err != nil {
		s.say("the ConfigMaps cannot be read", err)
		return false
	}
	was := s.current.Load()
	next := &configuration{maps: Maps{Names: s.cfg.ConfigMaps, Held: held}}
	merged, err := settings.Merge(held...)
	data := merged.Data
	switch {
	case err != nil && was == nil:
		s.say("the ConfigMaps cannot be read, the defaults count", err)
		data = nil
	case err != nil:
		s.say("the ConfigMaps cannot be read, what was read before counts", err)
		data = was.data
	}
	next.data = data
	if was != nil && (maps.Equal(was.data, data) || !was.settings.HotRefresh) {
		next.settings, next.data = was.settings, was.data
		s.current.Store(next)
		return false
	}
	var wrong []error
	if next.settings, wrong = ReadSettings(data); len(wrong) > 0 {
		s.log.Error("admission: some settings count as their defaults", "err", errors.Join(wrong...))
	}
	s.current.Store(next)
	return true
}

// keep renews the certificate and writes the API server's objects; it reports whether all is
// as it should be.
func (s *Service) keep(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()
	var bundle []byte
	if s.certificates != nil {
		told, err := s.objects.Told(ctx)
		if err != nil {
			s.say("the API server's objects cannot be read", err)
			return false
		}
		if bundle, err = s.certificates.Renew(ctx, told, s.now()); err != nil {
			s.say("no certificate", err)
			return false
		}
		bundle = s.trust.join(bundle, told, s.now())
	}
	want := s.cfg.wanted(s.current.Load().settings, bundle)
	if err := s.objects.Keep(ctx, want, All()); err != nil {
		s.say("the API server's objects cannot be written", err)
		return false
	}
	s.last = ""
	return true
}

// say logs what is wrong, once.
func (s *Service) say(what string, err error) {
	if message := what + ": " + err.Error(); message != s.last {
		s.last = message
		s.log.Error("admission: "+what+", trying again", "err", err)
	}
}
