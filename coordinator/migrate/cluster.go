package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/pager"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// Cluster is what a check looks at.
type Cluster struct {
	// Now is when it was read.
	Now time.Time
	// Version is the API server's; nil if that is not known.
	Version *version.Info
	// Served has the kinds that the API server serves.
	Served map[schema.GroupVersionKind]bool
	// Deployments and SchedulerPods are YuniKorn's.
	Deployments   []*appsv1.Deployment
	SchedulerPods []*v1.Pod
	// ConfigMaps are those of YuniKorn's names, in all namespaces, and Services those of the name of its REST.
	ConfigMaps []*v1.ConfigMap
	Services   []*v1.Service
	Mutating   []*admissionregv1.MutatingWebhookConfiguration
	Validating []*admissionregv1.ValidatingWebhookConfiguration
	Namespaces []*v1.Namespace
	Classes    []*schedulingv1.PriorityClass
	Nodes      []*v1.Node
	// The roles of everybody, and who has them.
	ClusterRoles    []*rbacv1.ClusterRole
	Roles           []*rbacv1.Role
	ClusterBindings []*rbacv1.ClusterRoleBinding
	Bindings        []*rbacv1.RoleBinding
	// Rights are those of the replicas, once Ask has asked for them.
	Rights *Rights
	// Lease is that of the replicas of Understudy; nil if there is none.
	Lease *coordinationv1.Lease
	// Pods are those that name YuniKorn's scheduler.
	Pods []*v1.Pod
	// Applications and SparkApplications are the objects of these kinds, if they are served.
	Applications, SparkApplications []*unstructured.Unstructured
	// Unread says what could not be read, by what it is.
	Unread map[string]error
}

// Where YuniKorn's own objects are known by.
const (
	labelApp           = "app"
	labelComponent     = "component"
	nameYuniKorn       = "yunikorn"
	componentScheduler = "yunikorn-scheduler"
	componentAdmission = "yunikorn-admission-controller"
	restService        = "yunikorn-service"
)

// sparkResource is what the Spark operator serves.
var sparkResource = schema.GroupVersionResource{Group: "sparkoperator.k8s.io", Version: "v1beta2", Resource: "sparkapplications"}

const sparkKind = "SparkApplication"

// Read reads what there is in a cluster for replicas of a configuration. It writes nothing. Several thousand pods are
// read in parts.
func Read(ctx context.Context, client kubernetes.Interface, objects dynamic.Interface, cfg config.Config) *Cluster {
	c := &Cluster{Now: time.Now(), Served: make(map[schema.GroupVersionKind]bool), Unread: make(map[string]error)}
	r := reading{ctx: ctx, unread: c.Unread}
	named := func(name string) metav1.ListOptions {
		return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()}
	}
	c.served(client.Discovery())
	for _, d := range items[*appsv1.Deployment](r, "deployments", metav1.ListOptions{}, client.AppsV1().Deployments("").List) {
		if componentOf(&d.Spec.Template) != "" {
			c.Deployments = append(c.Deployments, d)
		}
	}
	ofYuniKorn := metav1.ListOptions{LabelSelector: labelApp + "=" + nameYuniKorn}
	for _, pod := range items[*v1.Pod](r, "pods", ofYuniKorn, client.CoreV1().Pods("").List) {
		if componentOf(&v1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}) == componentScheduler && !workload.Terminated(pod) {
			c.SchedulerPods = append(c.SchedulerPods, pod)
		}
	}
	for _, name := range []string{settings.DefaultsConfigMap, settings.ConfigMap} {
		c.ConfigMaps = append(c.ConfigMaps, called(name, items[*v1.ConfigMap](r, "configmaps", named(name), client.CoreV1().ConfigMaps("").List))...)
	}
	c.Services = called(restService, items[*v1.Service](r, "services", named(restService), client.CoreV1().Services("").List))
	hooks := client.AdmissionregistrationV1()
	c.Mutating = items[*admissionregv1.MutatingWebhookConfiguration](r, "mutatingwebhookconfigurations", ofYuniKorn, hooks.MutatingWebhookConfigurations().List)
	c.Validating = items[*admissionregv1.ValidatingWebhookConfiguration](r, "validatingwebhookconfigurations", ofYuniKorn, hooks.ValidatingWebhookConfigurations().List)
	c.Namespaces = items[*v1.Namespace](r, "namespaces", metav1.ListOptions{}, client.CoreV1().Namespaces().List)
	c.Classes = items[*schedulingv1.PriorityClass](r, "priorityclasses", metav1.ListOptions{}, client.SchedulingV1().PriorityClasses().List)
	c.Nodes = items[*v1.Node](r, "nodes", metav1.ListOptions{}, client.CoreV1().Nodes().List)
	roles := client.RbacV1()
	c.ClusterRoles = items[*rbacv1.ClusterRole](r, "clusterroles", metav1.ListOptions{}, roles.ClusterRoles().List)
	c.Roles = items[*rbacv1.Role](r, "roles", metav1.ListOptions{}, roles.Roles("").List)
	c.ClusterBindings = items[*rbacv1.ClusterRoleBinding](r, "clusterrolebindings", metav1.ListOptions{}, roles.ClusterRoleBindings().List)
	c.Bindings = items[*rbacv1.RoleBinding](r, "rolebindings", metav1.ListOptions{}, roles.RoleBindings("").List)
	toSchedule := metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.schedulerName", workload.DefaultSchedulerName).String()}
	for _, pod := range items[*v1.Pod](r, "pods", toSchedule, client.CoreV1().Pods("").List) {
		if pod.Spec.SchedulerName == workload.DefaultSchedulerName {
			c.Pods = append(c.Pods, pod)
		}
	}
	lease, err := client.CoordinationV1().Leases(namespaceOf(cfg)).Get(ctx, cfg.Election.LeaseName, metav1.GetOptions{})
	switch {
	case err == nil:
		c.Lease = lease
	case !apierrors.IsNotFound(err):
		r.failed("leases", err)
	}
	for _, kind := range []struct {
		gvr  schema.GroupVersionResource
		kind string
		into *[]*unstructured.Unstructured
	}{{v1alpha1.Resource(), "Application", &c.Applications}, {sparkResource, sparkKind, &c.SparkApplications}} {
		if c.Served[kind.gvr.GroupVersion().WithKind(kind.kind)] {
			*kind.into = items[*unstructured.Unstructured](r, kind.gvr.Resource, metav1.ListOptions{}, objects.Resource(kind.gvr).List)
		}
	}
	return c
}

// served asks which kinds there are. What an extension of the API does not answer for is not there.
func (c *Cluster) served(from discovery.DiscoveryInterface) {
	info, err := from.ServerVersion()
	if err != nil {
		c.Unread["the version of the API server"] = err
	}
	c.Version = info
	_, lists, err := from.ServerGroupsAndResources()
	if failed := (&discovery.ErrGroupDiscoveryFailed{}); err != nil && !errors.As(err, &failed) {
		c.Unread["the kinds that the API server serves"] = err
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			continue // no kind that is asked for has such a group
		}
		for _, resource := range list.APIResources {
			c.Served[gv.WithKind(resource.Kind)] = true
		}
	}
}

// componentOf returns which part of YuniKorn a pod is, empty if it is none.
func componentOf(t *v1.PodTemplateSpec) string {
	if component := t.Labels[labelComponent]; t.Labels[labelApp] == nameYuniKorn && (component == componentScheduler || component == componentAdmission) {
		return component
	}
	for i := range t.Spec.Containers {
		switch t.Spec.Containers[i].Name {
		case schedulerContainer:
			return componentScheduler
		case componentAdmission:
			return componentAdmission
		}
	}
	return ""
}

// reading is what reads lists.
type reading struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call of Read
	unread map[string]error
}

func (r reading) failed(what string, err error) {
	if r.unread[what] == nil {
		r.unread[what] = err
	}
}

// called are the objects of a name. The API server is asked for no others.
func called[T metav1.Object](name string, all []T) []T {
	return slices.DeleteFunc(all, func(o T) bool { return o.GetName() != name })
}

// items reads a list page by page. What cannot be read is noted.
func items[T, L runtime.Object](r reading, what string, opts metav1.ListOptions, list func(context.Context, metav1.ListOptions) (L, error)) (found []T) {
	pages := pager.New(func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) { return list(ctx, opts) })
	err := pages.EachListItemWithAlloc(r.ctx, opts, func(o runtime.Object) error {
		item, ok := o.(T)
		if !ok {
			return fmt.Errorf("%T is none of the %s", o, what)
		}
		if object, ok := o.(metav1.Object); ok {
			kube.DropWritten(object)
		}
		found = append(found, item)
		return nil
	})
	if err != nil {
		r.failed(what, err)
	}
	return found
}
