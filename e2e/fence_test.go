package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/cel/openapi/resolver"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/e2e/lab"
)

const (
	leaseNamespace = "understudy-system"
	leaseName      = "understudy"
	account        = "system:serviceaccount:understudy-system:understudy"
)

// TestFence asks the real API server, as the service account of the replicas and
// as others, with the Lease in every state that a replica may meet.
func TestFence(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	o := lab.Default()
	o.Dir, o.Replicas, o.Nodes = filepath.Join(t.TempDir(), "lab"), 0, 1
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(false); err != nil {
			t.Error(err)
		}
	})
	f := newFencing(t, l)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *fencing)
	}{
		{"type_checks", typeChecks},
		{"what_names_no_term", namesNoTerm},
		{"epochs", epochs},
		{"takes_effect", takesEffect},
		{"two_takeovers", twoTakeovers},
		{"released", released},
		{"retaken_with_the_same_epoch", retaken},
		{"deleted", deleted},
		{"created_anew", createdAnew},
		{"lease_without_epoch", leaseWithoutEpoch},
		{"epoch_never_falls", epochNeverFalls},
		{"others", others},
		{"self_test", selfTest},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, f) })
	}
}

// fencing is an API server with its fence, an administrator, and the service
// account of the replicas.
type fencing struct {
	lab            *lab.Lab
	admin, account kubernetes.Interface
	pods           int
}

// waiting is a pod without a node.
const waiting = "waiting"

func newFencing(t *testing.T, l *lab.Lab) *fencing {
	t.Helper()
	f := &fencing{lab: l, admin: l.Client()}
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(l.Dir(), "pki", "understudy.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	f.account = client(t, cfg)
	// Its own roles do not allow the old path, and would hide the fence.
	grant(t, f.admin, "old-path", []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"bindings"}, Verbs: []string{"create"}},
	}, rbacv1.Subject{Kind: rbacv1.UserKind, Name: account})
	if _, err := f.admin.CoreV1().Pods("default").Create(t.Context(), bare(waiting), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return f
}

func client(t *testing.T, cfg *rest.Config) kubernetes.Interface {
	t.Helper()
	cfg.QPS = -1
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { utilnet.CloseIdleConnectionsFor(c.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport) })
	return c
}

// as returns a client of somebody else.
func (f *fencing) as(t *testing.T, user string, groups ...string) kubernetes.Interface {
	t.Helper()
	cfg := f.lab.RESTConfig()
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return client(t, cfg)
}

func grant(t *testing.T, admin kubernetes.Interface, name string, rules []rbacv1.PolicyRule, to rbacv1.Subject) {
	t.Helper()
	roles := admin.RbacV1()
	_, err := roles.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{})
	if err == nil {
		_, err = roles.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{to},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func bare(name string) *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       v1.PodSpec{SchedulerName: "nobody", Containers: []v1.Container{{Name: "main", Image: "none"}}},
	}
}

// pod creates one as the administrator.
func (f *fencing) pod(t *testing.T) string {
	t.Helper()
	f.pods++
	name := fmt.Sprintf("pod-%d", f.pods)
	if _, err := f.admin.CoreV1().Pods("default").Create(t.Context(), bare(name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return name
}

// term is what a replica puts on what it binds or creates.
type term struct {
	epoch, holder string
	lease         types.UID
}

func (s term) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Labels:      map[string]string{kube.LeaseLabel: string(s.lease)},
		Annotations: map[string]string{kube.EpochAnnotation: s.epoch, kube.HolderAnnotation: s.holder},
	}
}

// ways are the requests that the fence is about. Each acts upon the pod that meta
// names.
var ways = map[string]func(context.Context, kubernetes.Interface, metav1.ObjectMeta, metav1.CreateOptions) error{
	"pods/binding": func(ctx context.Context, c kubernetes.Interface, meta metav1.ObjectMeta, opts metav1.CreateOptions) error {
		return c.CoreV1().Pods("default").Bind(ctx, binding(meta), opts)
	},
	"bindings": func(ctx context.Context, c kubernetes.Interface, meta metav1.ObjectMeta, opts metav1.CreateOptions) error {
		return c.CoreV1().RESTClient().Post().Namespace("default").Resource("bindings").
			VersionedParams(&opts, scheme.ParameterCodec).Body(binding(meta)).Do(ctx).Error()
	},
	"pods": func(ctx context.Context, c kubernetes.Interface, meta metav1.ObjectMeta, opts metav1.CreateOptions) error {
		pod := bare("")
		pod.ObjectMeta, pod.Namespace, pod.Name, pod.GenerateName = meta, "default", "", "made-"
		_, err := c.CoreV1().Pods("default").Create(ctx, pod, opts)
		return err
	},
}

func binding(meta metav1.ObjectMeta) *v1.Binding {
	meta.Namespace = "default"
	return &v1.Binding{ObjectMeta: meta, Target: v1.ObjectReference{Kind: "Node", Name: "node-0000"}}
}

var dry = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// ask asks for something on behalf of the account, without having it done.
func (f *fencing) ask(t *testing.T, way string, meta metav1.ObjectMeta) error {
	t.Helper()
	meta.Name = waiting
	return ways[way](t.Context(), f.account, meta, dry)
}

// passes wants every way to be open, at once.
func (f *fencing) passes(t *testing.T, s term) {
	t.Helper()
	for way := range ways {
		if err := f.ask(t, way, s.meta()); err != nil {
			t.Errorf("%s in %+v: %v", way, s, err)
		}
	}
}

// refused wants every way to be closed with a message, as soon as the API server
// has heard of the Lease.
func (f *fencing) refused(t *testing.T, s term, message string) {
	t.Helper()
	f.refusedMeta(t, s.meta(), message)
}

func (f *fencing) refusedMeta(t *testing.T, meta metav1.ObjectMeta, message string) {
	t.Helper()
	for way := range ways {
		var last error
		settle(t, fmt.Sprintf("%s with %v and %v to be refused", way, meta.Labels, meta.Annotations), func() error {
			last = f.ask(t, way, meta)
			switch {
			case last == nil:
				return errors.New("it passes")
			case !kube.TermRefused(last) || !strings.Contains(last.Error(), message):
				return fmt.Errorf("the answer is not %q, but %w", message, last)
			}
			return nil
		})
		if last != nil && !apierrors.IsForbidden(last) && !apierrors.IsInvalid(last) {
			t.Errorf("%s: the reason is %s", way, apierrors.ReasonForError(last))
		}
	}
}

// settle tries until ok says so: the API server follows policies and the Lease
// with a lag.
func settle(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// hold writes the Lease in place, as whoever takes it does, and returns the term
// of its holder. It does not wait for the fence to hear of it.
func (f *fencing) hold(t *testing.T, epoch int32, holder string) term {
	t.Helper()
	leases := f.admin.CoordinationV1().Leases(leaseNamespace)
	lease, err := leases.Get(t.Context(), leaseName, metav1.GetOptions{})
	if err == nil {
		lease.Spec.LeaseTransitions, lease.Spec.HolderIdentity = &epoch, &holder
		lease, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return term{fmt.Sprint(epoch), holder, lease.UID}
}

// anew deletes the Lease, if there is one, and creates another.
func (f *fencing) anew(t *testing.T, spec coordinationv1.LeaseSpec) *coordinationv1.Lease {
	t.Helper()
	f.drop(t)
	lease, err := f.admin.CoordinationV1().Leases(leaseNamespace).Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: leaseNamespace, Name: leaseName}, Spec: spec,
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

func (f *fencing) drop(t *testing.T) {
	t.Helper()
	err := f.admin.CoordinationV1().Leases(leaseNamespace).Delete(t.Context(), leaseName, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}

// begin makes a new Lease that is held, and waits until the fence has heard of it.
func (f *fencing) begin(t *testing.T, epoch int32, holder string) term {
	t.Helper()
	lease := f.anew(t, coordinationv1.LeaseSpec{LeaseTransitions: &epoch, HolderIdentity: &holder})
	s := term{fmt.Sprint(epoch), holder, lease.UID}
	settle(t, "the fence to hear of the Lease", func() error { return f.ask(t, "pods/binding", s.meta()) })
	return s
}

// typeChecks does what kube-controller-manager does with a policy, with the API
// server's own account of its types. The lab has no controller manager.
func typeChecks(t *testing.T, f *fencing) {
	groups, err := restmapper.GetAPIGroupResources(f.admin.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	checker := validating.TypeChecker{
		SchemaResolver: &resolver.ClientDiscoveryResolver{Discovery: f.admin.Discovery()},
		RestMapper:     restmapper.NewDiscoveryRESTMapper(groups),
	}
	policies, err := f.admin.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(policies.Items) != 3 {
		t.Fatalf("%d policies, %v", len(policies.Items), err)
	}
	for _, p := range policies.Items {
		for _, w := range checker.Check(&p) {
			t.Errorf("%s: %s: %s", p.Name, w.FieldRef, w.Warning)
		}
		// A mistake that must be found, or the check proves nothing.
		p.Spec.Validations[0].Expression = "object.metadata.name + 1 == object.nothing"
		if len(checker.Check(&p)) == 0 {
			t.Errorf("%s: a mistake went unnoticed", p.Name)
		}
	}
}

func namesNoTerm(t *testing.T, f *fencing) {
	good := f.begin(t, 5, "x")
	f.refusedMeta(t, metav1.ObjectMeta{}, "the label understudy.dev/lease is missing")
	unlabelled := good.meta()
	unlabelled.Labels = nil
	f.refusedMeta(t, unlabelled, "the label understudy.dev/lease is missing")
	unsigned := good.meta()
	unsigned.Annotations = nil
	f.refusedMeta(t, unsigned, "the annotation understudy.dev/epoch does not name an epoch")
	for _, garbage := range []string{"", "x", "-1", "0", "05", "5 ", "5.0", "5e3", "0x5", "five", "9223372036854775808", strings.Repeat("9", 400)} {
		bad := good
		bad.epoch = garbage
		f.refused(t, bad, "the annotation understudy.dev/epoch does not name an epoch")
	}
	nobody := good
	nobody.holder = ""
	f.refused(t, nobody, `epoch 5 of "" is over`)
	elsewhere := good
	elsewhere.lease = ""
	f.refused(t, elsewhere, `decided under the Lease with UID ""`)
}

func epochs(t *testing.T, f *fencing) {
	now := f.begin(t, 7, "y")
	f.passes(t, now)
	for _, epoch := range []string{"1", "6"} {
		f.refused(t, term{epoch, "x", now.lease}, "epoch "+epoch+` of "x" is over: the Lease is in epoch 7, held by "y"`)
		f.refused(t, term{epoch, "y", now.lease}, "is over")
	}
	f.refused(t, term{"7", "x", now.lease}, "is over")
	// The API server may not have heard of the lead yet.
	for _, epoch := range []string{"8", "9", "10", "2147483647"} {
		f.passes(t, term{epoch, "z", now.lease})
	}
}

// takesEffect has everything done in earnest.
func takesEffect(t *testing.T, f *fencing) {
	now := f.begin(t, 7, "y")
	old := term{"6", "x", now.lease}
	pods := f.admin.CoreV1().Pods("default")
	var took time.Duration
	for _, way := range []string{"pods/binding", "bindings"} {
		meta := old.meta()
		meta.Name = f.pod(t)
		began := time.Now()
		if err := ways[way](t.Context(), f.account, meta, metav1.CreateOptions{}); !kube.TermRefused(err) {
			t.Errorf("%s: %v", way, err)
		}
		took = time.Since(began)
		pod, err := pods.Get(t.Context(), meta.Name, metav1.GetOptions{})
		if err != nil || pod.Spec.NodeName != "" {
			t.Errorf("%s: %v; bound to %q by a term that is over", way, err, pod.Spec.NodeName)
		}
		meta = now.meta()
		meta.Name = pod.Name
		if err := ways[way](t.Context(), f.account, meta, metav1.CreateOptions{}); err != nil {
			t.Errorf("%s: %v", way, err)
		}
		pod, err = pods.Get(t.Context(), meta.Name, metav1.GetOptions{})
		if err != nil || pod.Spec.NodeName == "" || pod.Annotations[kube.EpochAnnotation] != "7" ||
			pod.Annotations[kube.HolderAnnotation] != "y" || pod.Labels[kube.LeaseLabel] != string(now.lease) {
			t.Errorf("%s: %v; node %q, %v, %v", way, err, pod.Spec.NodeName, pod.Labels, pod.Annotations)
		}
	}
	t.Logf("refused within %v", took)
	made := func() int {
		list, err := pods.List(t.Context(), metav1.ListOptions{LabelSelector: kube.LeaseLabel + "=" + string(now.lease)})
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Items)
	}
	before := made()
	if err := ways["pods"](t.Context(), f.account, old.meta(), metav1.CreateOptions{}); !kube.TermRefused(err) {
		t.Errorf("pods: %v", err)
	}
	if err := ways["pods"](t.Context(), f.account, now.meta(), metav1.CreateOptions{}); err != nil {
		t.Errorf("pods: %v", err)
	}
	if got := made() - before; got != 1 {
		t.Errorf("%d pods created, want the one of the present term", got)
	}
}

// twoTakeovers has every new lead act before the fence can have heard of it.
func twoTakeovers(t *testing.T, f *fencing) {
	x := f.begin(t, 5, "x")
	y := f.hold(t, 6, "y")
	f.passes(t, y)
	z := f.hold(t, 7, "z")
	f.passes(t, z)
	f.refused(t, x, `epoch 5 of "x" is over: the Lease is in epoch 7, held by "z"`)
	f.refused(t, y, `epoch 6 of "y" is over: the Lease is in epoch 7, held by "z"`)
	f.passes(t, z)
}

// released is the state after a hand-over or a proof of death.
func released(t *testing.T, f *fencing) {
	x := f.begin(t, 5, "x")
	f.hold(t, 5, "")
	f.refused(t, x, `epoch 5 of "x" is over: the Lease is in epoch 5, held by ""`)
	nobody := x
	nobody.holder = ""
	f.refused(t, nobody, "is over")
	y := f.hold(t, 6, "y")
	f.passes(t, y)
	f.refused(t, x, `held by "y"`)
}

// retaken is what no elector here does: the holder changes and the epoch does not.
func retaken(t *testing.T, f *fencing) {
	x := f.begin(t, 5, "x")
	f.hold(t, 5, "")
	y := f.hold(t, 5, "y")
	f.refused(t, x, `epoch 5 of "x" is over: the Lease is in epoch 5, held by "y"`)
	f.passes(t, y)
}

// deleted: nobody leads, and nobody else is kept from anything.
func deleted(t *testing.T, f *fencing) {
	x := f.begin(t, 5, "x")
	f.drop(t)
	f.refused(t, x, "no params found")
	next := x
	next.epoch = "6"
	f.refused(t, next, "no params found")
	f.nobodyElseIsAffected(t, metav1.ObjectMeta{})
}

// createdAnew: the count begins again, and whoever led under the old Lease must
// not pass for a lead of a newer epoch.
func createdAnew(t *testing.T, f *fencing) {
	x := f.begin(t, 5, "x")
	zero, none, other := int32(0), "", "other"
	for _, spec := range []coordinationv1.LeaseSpec{
		{},
		{LeaseTransitions: &zero, HolderIdentity: &none},
		{LeaseTransitions: &zero, HolderIdentity: &other},
		{LeaseTransitions: new(int32(5)), HolderIdentity: new("x")}, // restored from a backup
	} {
		lease := f.anew(t, spec)
		f.refused(t, x, "there is another now, "+string(lease.UID))
	}
	y := f.hold(t, 6, "y")
	f.passes(t, y)
	f.refused(t, x, "there is another now, "+string(y.lease))
}

func leaseWithoutEpoch(t *testing.T, f *fencing) {
	lease := f.anew(t, coordinationv1.LeaseSpec{})
	f.refused(t, term{"5", "x", lease.UID}, "the Lease has no leaseTransitions")
	lease = f.anew(t, coordinationv1.LeaseSpec{HolderIdentity: new("x")})
	f.refused(t, term{"5", "x", lease.UID}, "the Lease has no leaseTransitions")
	// Whoever takes it has to try again for as long as the fence has not heard of
	// that: a Lease that says nothing closes every way. No elector leaves it so.
	y := f.hold(t, 6, "y")
	settle(t, "the fence to hear of the new lead", func() error { return f.ask(t, "pods/binding", y.meta()) })
	f.passes(t, y)
}

func epochNeverFalls(t *testing.T, f *fencing) {
	f.begin(t, 5, "x")
	leases := f.admin.CoordinationV1().Leases(leaseNamespace)
	write := func(epoch *int32) error {
		lease, err := leases.Get(t.Context(), leaseName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lease.Spec.LeaseTransitions = epoch
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
		return err
	}
	for _, epoch := range []*int32{new(int32(4)), new(int32(0)), nil} {
		if err := write(epoch); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "must not fall") {
			t.Errorf("%v", err)
		}
	}
	for _, epoch := range []int32{5, 6, 8} {
		if err := write(&epoch); err != nil {
			t.Error(err)
		}
	}
	// No other Lease is meant.
	for namespace, name := range map[string]string{leaseNamespace: "another", "default": leaseName} {
		others := f.admin.CoordinationV1().Leases(namespace)
		lease, err := others.Create(t.Context(), &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: coordinationv1.LeaseSpec{LeaseTransitions: new(int32(9))},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		lease.Spec.LeaseTransitions = new(int32(1))
		if _, err := others.Update(t.Context(), lease, metav1.UpdateOptions{}); err != nil {
			t.Errorf("%s/%s: %v", namespace, name, err)
		}
	}
}

func others(t *testing.T, f *fencing) {
	now := f.begin(t, 7, "y")
	f.nobodyElseIsAffected(t, metav1.ObjectMeta{})
	// Nor by what was copied from a pod that an old lead bound.
	f.nobodyElseIsAffected(t, term{"1", "x", now.lease}.meta())
}

func (f *fencing) nobodyElseIsAffected(t *testing.T, meta metav1.ObjectMeta) {
	t.Helper()
	for who, c := range map[string]struct {
		client kubernetes.Interface
		ways   []string
	}{
		"administrator": {f.admin, []string{"pods/binding", "bindings", "pods"}},
		"scheduler":     {f.as(t, "system:kube-scheduler"), []string{"pods/binding", "bindings"}},
		"DaemonSets": {f.as(t, "system:serviceaccount:kube-system:daemon-set-controller",
			"system:serviceaccounts", "system:serviceaccounts:kube-system"), []string{"pods/binding", "pods"}},
		"ReplicaSets": {f.as(t, "system:serviceaccount:kube-system:replicaset-controller",
			"system:serviceaccounts", "system:serviceaccounts:kube-system"), []string{"pods"}},
	} {
		for _, way := range c.ways {
			meta := *meta.DeepCopy()
			meta.Name = f.pod(t)
			if err := ways[way](t.Context(), c.client, meta, metav1.CreateOptions{}); err != nil {
				t.Errorf("%s, %s: %v", who, way, err)
			}
		}
	}
}

// selfTest is how replicas find out.
func selfTest(t *testing.T, f *fencing) {
	f.begin(t, 5, "x")
	clients, err := kube.NewClients(kube.ClientConfig{Kubeconfig: filepath.Join(f.lab.Dir(), "pki", "understudy.kubeconfig")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		utilnet.CloseIdleConnectionsFor(clients.DryRuns.CoreV1().RESTClient().(*rest.RESTClient).Client.Transport)
	})
	says := func(want bool) {
		t.Helper()
		settle(t, fmt.Sprintf("the self-test to say %t", want), func() error {
			got, err := kube.ProbeFence(t.Context(), clients.DryRuns, leaseNamespace)
			if err == nil && got != want {
				err = fmt.Errorf("it says %t", got)
			}
			return err
		})
	}
	says(true)
	f.drop(t)
	says(true) // with nobody to compare with, all are refused
	if enforced, err := kube.ProbeFence(t.Context(), clients.DryRuns, "nowhere"); err == nil {
		t.Errorf("in a namespace that is not there: %t", enforced)
	}

	bindings := f.admin.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	fence, err := bindings.Get(t.Context(), kube.FencePolicy, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := bindings.Delete(t.Context(), fence.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	says(false)
	fence.ResourceVersion = ""
	if _, err := bindings.Create(t.Context(), fence, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	says(true)
	t.Logf("in force %v after its creation", time.Since(began))

	// Not to be allowed is no proof of a fence.
	err = f.admin.RbacV1().ClusterRoleBindings().Delete(t.Context(), "understudy", metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	settle(t, "the account to lose its rights", func() error {
		enforced, err := kube.ProbeFence(t.Context(), clients.DryRuns, leaseNamespace)
		var status apierrors.APIStatus
		if err == nil || !errors.As(err, &status) || status.Status().Code != http.StatusForbidden {
			return fmt.Errorf("it says %t, %w", enforced, err)
		}
		return nil
	})
}
