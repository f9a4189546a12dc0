package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/understudy-ha/understudy/election"
)

// Bounds of one etcd transaction, as an etcd server has them unless it was
// configured otherwise: operations, and bytes with room for keys and framing.
const (
	maxTxnOps   = 128
	maxTxnBytes = 1 << 20
)

// Validate checks every value and the relations between them. The error holds
// an *Error for every mistake.
func (c Config) Validate() error {
	var errs []error
	for _, e := range c.check() {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

func (c Config) check() []*Error {
	var k checker
	k.oneOf("apiVersion", c.APIVersion, APIVersion)
	k.oneOf("kind", c.Kind, Kind)
	if c.Identity != "" {
		k.all("identity", validation.IsDNS1123Subdomain(c.Identity))
	}
	if c.Namespace != "" {
		k.all("namespace", validation.IsDNS1123Label(c.Namespace))
	}
	k.all("schedulerName", validation.IsDNS1123Subdomain(c.SchedulerName))
	k.kubernetes(c.Kubernetes)
	k.election(c.Election)
	k.etcd(c.Etcd)
	k.mirror(c.Mirror)

	k.all("engine.defaultsConfigMap", validation.IsDNS1123Subdomain(c.Engine.DefaultsConfigMap))
	k.all("engine.configMap", validation.IsDNS1123Subdomain(c.Engine.ConfigMap))
	k.must("engine.configMap", c.Engine.ConfigMap != c.Engine.DefaultsConfigMap,
		"is the same as engine.defaultsConfigMap, want two names")
	if c.Engine.ConfigMapNamespace != "" {
		k.all("engine.configMapNamespace", validation.IsDNS1123Label(c.Engine.ConfigMapNamespace))
	}
	k.oneOf("engine.logLevel", c.Engine.LogLevel, "debug", "info", "warn", "error")
	k.between("binder.workers", c.Binder.Workers, 1, 1024)
	for name, id := range map[string]int{
		"runAsUser": c.Placeholder.RunAsUser, "runAsGroup": c.Placeholder.RunAsGroup, "fsGroup": c.Placeholder.FSGroup,
	} {
		k.must("placeholder."+name, id >= 0, "is %d, want zero or more", id)
	}
	k.must("placeholder.image", c.Placeholder.Image != "" && !strings.ContainsAny(c.Placeholder.Image, " \t\r\n"),
		"is %q, want the name of an image", c.Placeholder.Image)
	k.all("workload.userLabel", validation.IsQualifiedName(c.Workload.UserLabel))
	k.managers(c.Managers)
	k.address("http.address", c.HTTP.Address)
	k.rest(c.REST)
	k.admission(c.Admission)
	k.gossip(c.Gossip)
	k.between("history.applications", c.History.Applications, 1, 100_000)
	k.within("history.applicationAge", c.History.ApplicationAge, time.Minute, 365*24*time.Hour)
	k.between("history.events", c.History.Events, 1, 1_000_000)
	k.within("history.eventAge", c.History.EventAge, time.Minute, 365*24*time.Hour)
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "json", "text")
	return k.errs
}

// checker collects mistakes.
type checker struct{ errs []*Error }

func (k *checker) must(field string, ok bool, format string, args ...any) {
	if !ok {
		k.errs = append(k.errs, &Error{Field: field, Message: fmt.Sprintf(format, args...)})
	}
}

func (k *checker) all(field string, problems []string) {
	for _, p := range problems {
		k.must(field, false, "%s", p)
	}
}

func (k *checker) oneOf(field, value string, want ...string) {
	switch {
	case slices.Contains(want, value):
	case value == "":
		k.must(field, false, "is missing, want %s", strings.Join(want, ", "))
	default:
		k.must(field, false, "is %q, want %s", value, strings.Join(want, ", "))
	}
}

func (k *checker) between(field string, value, low, high int) {
	k.must(field, value >= low && value <= high, "is %d, want %d to %d", value, low, high)
}

func (k *checker) within(field string, value, low, high time.Duration) {
	k.must(field, value >= low && value <= high, "is %s, want %s to %s", value, low, high)
}

// address wants host:port; it does not resolve the host.
func (k *checker) address(field, value string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		k.must(field, false, "is %q, want host:port", value)
		return
	}
	_, err = strconv.ParseUint(port, 10, 16)
	k.must(field, err == nil, "has port %q, want 0 (any free one) to 65535", port)
	k.must(field, !strings.ContainsAny(host, " /"), "has host %q, want a name or an IP address", host)
}

func (k *checker) rest(c REST) {
	if c.Address == "" {
		k.must("rest.address", !c.TLS.Enabled(), "is missing, and rest.tls is set")
		return
	}
	k.address("rest.address", c.Address)
	host, _, _ := net.SplitHostPort(c.Address)
	at, _ := netip.ParseAddr(host)
	k.must("rest.tls", !c.TokenReview || c.TLS.Enabled() || at.IsLoopback() || host == "localhost",
		"is missing, and rest.tokenReview is set: tokens would go over the network as they are")
	if !c.TLS.Enabled() {
		return
	}
	const missing = "is missing, and the rest of rest.tls is set"
	k.must("rest.tls.cert", c.TLS.Cert != "", missing)
	k.must("rest.tls.key", c.TLS.Key != "", missing)
	k.must("rest.tls.serverName", c.TLS.ServerName != "", missing)
}

func (k *checker) admission(c Admission) {
	if c.Mode == "" {
		return
	}
	k.oneOf("admission.mode", c.Mode, AdmissionWebhook, AdmissionPolicy)
	k.all("admission.serviceAccount", validation.IsDNS1123Subdomain(c.ServiceAccount))
	if c.Mode != AdmissionWebhook {
		return
	}
	k.address("admission.address", c.Address)
	k.all("admission.service", validation.IsDNS1035Label(c.Service))
	k.all("admission.secret", validation.IsDNS1123Subdomain(c.Secret))
	k.oneOf("admission.failurePolicy", c.FailurePolicy, "Ignore", "Fail")
	for i, text := range c.URLs {
		u, err := url.Parse(text)
		k.must(fmt.Sprintf("admission.urls[%d]", i), err == nil && u.Scheme == "https" && u.Host != "" && u.Path == "" && u.RawQuery == "",
			"is %q, want https://host:port", text)
	}
	pair := c.TLS.Cert != "" && c.TLS.Key != ""
	k.must("admission.tls", pair || !c.TLS.Enabled(), "lacks one of cert and key, want both, and ca unless somebody else tells the API server of it")
}

func (k *checker) gossip(c Gossip) {
	if c.Address == "" {
		k.must("gossip.address", c.Advertise == "" && len(c.Peers) == 0 && c.KeyringFile == "",
			"is missing, and the rest of gossip is set")
		return
	}
	k.address("gossip.address", c.Address)
	if c.Advertise != "" {
		k.address("gossip.advertise", c.Advertise)
	}
	for i, peer := range c.Peers {
		k.address(fmt.Sprintf("gossip.peers[%d]", i), peer)
	}
}

func (k *checker) kubernetes(c Kubernetes) {
	k.must("kubernetes.qps", c.QPS >= 0, "is %g, want a positive number, or 0 for no limit", c.QPS)
	k.must("kubernetes.burst", c.Burst >= 1, "is %d, want at least 1", c.Burst)
	k.must("kubernetes.burst", float32(c.Burst) >= c.QPS || c.Burst < 1,
		"is %d, want at least kubernetes.qps (%g): a smaller burst can never use the rate", c.Burst, c.QPS)
}

// election keeps the margins on which safety rests: a lead has to notice that
// it could not renew, and stop, before anyone else may take the Lease.
func (k *checker) election(c Election) {
	k.all("election.leaseName", validation.IsDNS1123Subdomain(c.LeaseName))
	k.within("election.retryPeriod", c.RetryPeriod, 50*time.Millisecond, time.Minute)
	// The Lease keeps its duration in whole seconds.
	k.within("election.leaseDuration", c.LeaseDuration, time.Second, 10*time.Minute)
	k.must("election.leaseDuration", c.LeaseDuration%time.Second == 0,
		"is %s, want whole seconds: the Lease object has no fractions", c.LeaseDuration)
	k.within("election.maxLeaseDuration", c.MaxLeaseDuration, 0, 10*time.Minute)
	k.must("election.maxLeaseDuration", c.MaxLeaseDuration%time.Second == 0,
		"is %s, want whole seconds: the Lease object has no fractions", c.MaxLeaseDuration)
	k.must("election.renewDeadline", c.RenewDeadline >= 2*c.RetryPeriod,
		"is %s, want at least twice election.retryPeriod (%s), so that one lost renewal does not end a term",
		c.RenewDeadline, c.RetryPeriod)
	// The margin is what package election leaves for work to stop.
	latest := c.LeaseDuration - election.Default().Margin
	k.must("election.renewDeadline", c.RenewDeadline < latest,
		"is %s, want less than election.leaseDuration less %s (%s), so that a lead has stopped before it can be replaced",
		c.RenewDeadline, election.Default().Margin, latest)
}

func (k *checker) etcd(c Etcd) {
	k.must("etcd.endpoints", len(c.Endpoints) > 0, "is empty, want at least one endpoint")
	secure := 0
	for i, e := range c.Endpoints {
		field := fmt.Sprintf("etcd.endpoints[%d]", i)
		k.endpoint(field, e)
		k.must(field, slices.Index(c.Endpoints, e) == i, "%q is listed twice", redact(e))
		if strings.HasPrefix(e, "https://") {
			secure++
		}
	}
	k.must("etcd.endpoints", secure == 0 || secure == len(c.Endpoints),
		"mixes https with plain endpoints, want all of one kind")
	k.must("etcd.prefix", validPrefix(c.Prefix),
		"is %q, want a path such as /understudy: a leading slash, no empty part and none at the end", c.Prefix)
	k.must("etcd.tls", !c.TLS.Enabled() || secure > 0 || len(c.Endpoints) == 0,
		"is set, but etcd.endpoints are not https")
	k.must("etcd.tls.cert", (c.TLS.Cert == "") == (c.TLS.Key == ""), "and etcd.tls.key go together, only one is set")
	k.must("etcd.username", (c.Username == "") == (c.PasswordFile == ""),
		"and etcd.passwordFile go together, only one is set")
	k.within("etcd.dialTimeout", c.DialTimeout, 100*time.Millisecond, time.Minute)
	k.within("etcd.requestTimeout", c.RequestTimeout, 50*time.Millisecond, time.Minute)
}

func (k *checker) endpoint(field, value string) {
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" ||
		(u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		k.must(field, false, "is %q, want http://host:port or https://host:port", redact(value))
		return
	}
	k.must(field, u.User == nil, "holds a user name, want it in etcd.username and etcd.passwordFile")
	k.must(field, u.Port() != "", "is %q, want a port", redact(value))
}

// redact keeps credentials that someone wrote into an endpoint out of logs.
func redact(endpoint string) string {
	if at := strings.LastIndexByte(endpoint, '@'); at >= 0 {
		return "…" + endpoint[at:]
	}
	return endpoint
}

// validPrefix wants at least one part, and parts that cannot be confused with
// the separators of the keys below the prefix.
func validPrefix(p string) bool {
	parts := strings.Split(p, "/")
	if len(parts) < 2 || parts[0] != "" {
		return false
	}
	for _, part := range parts[1:] {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			return false
		}
	}
	return true
}

func (k *checker) managers(list []Manager) {
	seen := make(map[string]bool)
	for i, m := range list {
		field := fmt.Sprintf("managers[%d].name", i)
		k.all(field, validation.IsDNS1123Label(m.Name))
		k.must(field, !seen[m.Name], "is %q, as that of another manager", m.Name)
		seen[m.Name] = true
	}
	k.must("managers", len(list) > 0, "is empty, want at least one: without a manager nothing is scheduled")
}

func (k *checker) mirror(c Mirror) {
	k.oneOf("mirror.policy", c.Policy, Available, Strict)
	k.within("mirror.patience", c.Patience, 10*time.Millisecond, 10*time.Minute)
	// Compares, puts and deletes are counted apart by etcd, so one of each per
	// operation fits.
	k.between("mirror.maxOps", c.MaxOps, 1, maxTxnOps)
	k.between("mirror.maxBytes", c.MaxBytes, 64<<10, maxTxnBytes)
}
