package migrate

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/workload"
)

// situation is what a row changes.
type situation struct {
	t   *testing.T
	c   *Cluster
	cfg *config.Config
}

func (s situation) container() *v1.Container {
	return &s.c.Deployments[s.at("scheduler")].Spec.Template.Spec.Containers[0]
}

func (s situation) at(part string) int {
	s.t.Helper()
	for i, d := range s.c.Deployments {
		if strings.Contains(d.Name, part) {
			return i
		}
	}
	s.t.Fatalf("there is no Deployment of the %s", part)
	return -1
}

// stop stops a part of YuniKorn.
func (s situation) stop(part string) { s.c.Deployments[s.at(part)].Spec.Replicas = ptr.To[int32](0) }

func (s situation) queues(replace ...string) {
	for _, cm := range s.c.ConfigMaps {
		if text := cm.Data["queues.yaml"]; text != "" {
			cm.Data["queues.yaml"] = strings.NewReplacer(replace...).Replace(text)
		}
	}
}

// namespace returns a recorded namespace.
func (s situation) namespace(name string) *v1.Namespace {
	s.t.Helper()
	for _, ns := range s.c.Namespaces {
		if ns.Name == name {
			if ns.Annotations == nil {
				ns.Annotations = map[string]string{}
			}
			return ns
		}
	}
	s.t.Fatalf("there is no namespace %s", name)
	return nil
}

// ask has the API server answer what replicas of the configuration may do.
func (s situation) ask(allow func(*authorizationv1.ResourceAttributes) bool, managers ...rbacv1.PolicyRule) {
	s.t.Helper()
	s.c.Rights = nil
	needs, err := Needs(*s.cfg, managers)
	if err != nil {
		s.t.Fatal(err)
	}
	s.c.Ask(s.t.Context(), reviewing(allow), Account(*s.cfg), needs)
}

func everything(*authorizationv1.ResourceAttributes) bool { return true }

// reviewing answers reviews of access.
func reviewing(allow func(*authorizationv1.ResourceAttributes) bool) *kubefake.Clientset {
	client := kubefake.NewClientset()
	review(client, allow)
	return client
}

func review(client *kubefake.Clientset, allow func(*authorizationv1.ResourceAttributes) bool) {
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		asked := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		asked.Status.Allowed = allow(asked.Spec.ResourceAttributes)
		return true, asked, nil
	})
}

// role is a recorded one of users.
func (s situation) role(name string) *rbacv1.Role {
	s.t.Helper()
	for _, r := range s.c.Roles {
		if r.Name == name {
			return r
		}
	}
	s.t.Fatalf("there is no Role %s", name)
	return nil
}

// onlyRule has a role of users allow something with some objects, and nothing else.
func (s situation) onlyRule(resources []string, names ...string) {
	s.role("queue-admins").Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: resources, ResourceNames: names, Verbs: []string{"get", "update"}}}
}

// node adds one.
func (s situation) node(name string) *v1.Node {
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}, Annotations: map[string]string{}}}
	s.c.Nodes = append(s.c.Nodes, n)
	return n
}

func nothing(situation) {}

func noAdmission(s situation) { s.stop("admission") }

func byWebhook(s situation) { s.cfg.Admission.Mode = config.AdmissionWebhook }

// rows are kinds of findings, what makes them, and what makes them go away again.
var rows = []struct {
	name     string
	is       func(situation)
	kind     Kind
	severity Severity
	object   string
	says     string
	// unless is done as well, and nothing is found.
	unless func(situation)
}{
	{"not allowed", func(s situation) { s.c.Unread["deployments"] = errors.New("forbidden") }, NotRead, Blocks, "deployments", "forbidden",
		func(s situation) { delete(s.c.Unread, "deployments") }},
	{"odd version", func(s situation) { s.c.Version.GitVersion = "odd" }, NotRead, Blocks, "the version of the API server", "odd", nil},
	{"scheduler runs", nothing, SchedulerRuns, Blocks, "deployment yunikorn/yunikorn-scheduler", "scheduler-1.9.0", func(s situation) { s.stop("scheduler") }},
	{"its pod is left", func(s situation) {
		s.stop("scheduler")
		s.c.SchedulerPods = append(s.c.SchedulerPods, &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "yunikorn", Name: "yunikorn-scheduler-1"}})
	}, SchedulerRuns, Blocks, "pod yunikorn/yunikorn-scheduler-1", "may still bind", func(s situation) { s.c.SchedulerPods = nil }},
	{"scheduler is stopped", func(s situation) { s.stop("scheduler") }, SchedulerStopped, Note, "deployment yunikorn/yunikorn-scheduler", "is stopped",
		func(s situation) { s.c.Deployments = nil }},
	{"plug-in by image", func(s situation) { s.container().Image = "apache/yunikorn:scheduler-plugin-1.5.0" }, SchedulerPlugin, Differs, "deployment yunikorn/yunikorn-scheduler", "plug-in",
		func(s situation) { s.container().Image = "apache/yunikorn:scheduler-1.5.0" }},
	{"plug-in by configuration", func(s situation) {
		s.container().Env = append(s.container().Env, v1.EnvVar{Name: "SCHEDULER_CONFIG", Value: "/etc/config.yaml"})
	}, SchedulerPlugin, Differs, "deployment yunikorn/yunikorn-scheduler", "plug-in", func(s situation) { s.container().Env = nil }},
	{"another name", func(s situation) { s.cfg.SchedulerName = "understudy" }, SchedulerName, Configure, "schedulerName", `"yunikorn"`,
		func(s situation) {
			s.container().Env = append(s.container().Env, v1.EnvVar{Name: "SCHEDULER_NAME", Value: "understudy"})
		}},
	{"old environment", func(s situation) {
		s.container().Env = append(s.container().Env, v1.EnvVar{Name: "POLICY_GROUP", Value: "teams"})
	}, DeploymentSettings, Configure, "deployment yunikorn/yunikorn-scheduler", "POLICY_GROUP=teams", func(s situation) { s.container().Env = nil }},
	{"arguments", func(s situation) { s.container().Args = []string{"--interval=1s"} }, DeploymentSettings, Configure, "deployment yunikorn/yunikorn-scheduler", "--interval=1s", func(s situation) { s.container().Args = nil }},
	{"both lead", func(s situation) { leased(s.c) }, TwoSchedulers, Blocks, "lease understudy-system/understudy", "understudy-0_X", func(s situation) { s.stop("scheduler") }},
	{"it leads", func(s situation) { leased(s.c); s.stop("scheduler") }, UnderstudyLeads, Note, "lease understudy-system/understudy", "leads already",
		func(s situation) { s.c.Lease.Spec.RenewTime.Time = s.c.Now.Add(-s.cfg.Election.MaxLeaseDuration * 2) }},
	{"no fence", func(s situation) { s.c.Version.GitVersion = "v1.29.4" }, APIVersion, Configure, "API server v1.29.4", "ValidatingAdmissionPolicies", func(s situation) { s.c.Version.GitVersion = "v1.30.0" }},
	{"no webhook", func(s situation) { s.c.Version.GitVersion = "v1.29.4"; byWebhook(s) }, APIVersion, Blocks, "API server v1.29.4", "admission.mode webhook", func(s situation) { s.c.Version.GitVersion = "v1.30.0" }},
	{"no policies", func(s situation) { s.c.Version.GitVersion = "v1.35.1"; s.cfg.Admission.Mode = config.AdmissionPolicy }, APIVersion, Blocks, "API server v1.35.1", "MutatingAdmissionPolicies",
		func(s situation) { s.c.Version.GitVersion = "v1.36.0+k3s1" }},
	{"admission goes on", nothing, AdmissionStays, Configure, "deployment yunikorn/yunikorn-admission-controller", "beside", noAdmission},
	{"admission twice", byWebhook, AdmissionTwice, Blocks, "deployment yunikorn/yunikorn-admission-controller", "both write", noAdmission},
	{"webhook is left", noAdmission, WebhookLeft, Configure, "mutatingwebhookconfiguration yunikorn-admission-controller-mutations", "yunikorn/yunikorn-admission-controller-service", byWebhook},
	{"webhook for ConfigMaps is left", noAdmission, WebhookLeft, Configure, "validatingwebhookconfiguration yunikorn-admission-controller-validations", "yunikorn-admission-controller-service",
		func(s situation) {
			for _, hook := range s.c.Mutating {
				hook.Labels["app.kubernetes.io/name"] = "understudy"
			}
			for _, hook := range s.c.Validating {
				hook.Labels["app.kubernetes.io/name"] = "understudy"
			}
		}},
	{"annotation for admission", func(s situation) {
		noAdmission(s)
		s.namespace("batch").Annotations["yunikorn.apache.org/namespace.enableYuniKorn"] = "true"
	}, NamespaceAdmission, Configure, "namespace batch", "enableYuniKorn", byWebhook},
	{"REST", nothing, RESTService, Configure, "service yunikorn/yunikorn-service", "app=yunikorn", func(s situation) { s.cfg.Namespace = "yunikorn" }},
	{"ConfigMaps elsewhere", nothing, ConfigurationNamespace, Configure, "namespace yunikorn", "understudy-system", func(s situation) { s.cfg.Engine.ConfigMapNamespace = "yunikorn" }},
	{"ConfigMaps where it is told", func(s situation) {
		s.container().Env = []v1.EnvVar{{Name: "NAMESPACE", Value: "yunikorn"}}
		s.c.Deployments[s.at("scheduler")].Namespace = "other"
	}, ConfigurationNamespace, Configure, "namespace yunikorn", "understudy-system", func(s situation) { s.container().Env[0].Value = "elsewhere" }},
	{"no ConfigMaps", func(s situation) { s.c.ConfigMaps = nil }, ConfigurationMissing, Note, "namespace yunikorn", "default",
		func(s situation) {
			s.c.ConfigMaps = []*v1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Namespace: "yunikorn", Name: "yunikorn-configs"}}}
		}},
	{"configuration is refused", func(s situation) { s.queues("submitacl", "submitACL") }, ConfigurationRefused, Blocks, "configmap yunikorn/yunikorn-configs", "submitACL", func(s situation) { s.queues("submitACL", "submitacl") }},
	{"unknown key", func(s situation) { s.c.ConfigMaps[0].Data["service.clusterID"] = "x" }, ConfigurationDiffers, Differs, "configmap yunikorn/yunikorn-defaults", "service.clusterId",
		func(s situation) { s.c.ConfigMaps[0].Data = nil }},
	{"key that is read once", nothing, ConfigurationHandOver, Note, "namespace yunikorn", "service.clusterId", func(s situation) { delete(s.c.ConfigMaps[0].Data, "service.clusterId") }},
	{"Applications", nothing, Manager, Configure, "applications.yunikorn.apache.org", "1 object", func(s situation) { s.cfg.Managers = append(s.cfg.Managers, config.Manager{Name: "application"}) }},
	{"SparkApplications", func(s situation) { s.c.SparkApplications = []*unstructured.Unstructured{sparkApp("yunikorn")} }, Manager, Configure, "sparkapplications.sparkoperator.k8s.io", "1 object",
		func(s situation) {
			s.c.SparkApplications = []*unstructured.Unstructured{sparkApp("volcano")}
			s.c.Applications = nil
		}},
	{"Jobs", nothing, ManagerOffered, Note, "managers", "job", func(s situation) {
		delete(s.c.Served, schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"})
	}},
	{"gang of an Application", func(s situation) {
		_ = unstructured.SetNestedSlice(s.c.Applications[0].Object, []any{map[string]any{"name": "all"}}, "spec", "taskGroups")
	}, ApplicationGang, Differs, "application batch/report", "1 task group", func(s situation) { s.c.Applications = nil }},
	{"pods", nothing, Pods, Note, "schedulerName yunikorn", "16 pods", func(s situation) { s.c.Pods = nil }},
	{"long namespace", func(s situation) {
		p := podOf(s.t, s.c, "etl-0")
		p.Namespace, p.Labels = strings.Repeat("n", 60), nil
	}, GeneratedID, Differs, "namespace " + strings.Repeat("n", 60), "63", func(s situation) { podOf(s.t, s.c, "etl-0").Namespace = "short" }},
	{"two applications", func(s situation) { podOf(s.t, s.c, "etl-0").Labels["applicationId"] = "other" }, SeveralIDs, Differs, "pod batch/etl-0", "etl, other", func(s situation) { podOf(s.t, s.c, "etl-0").Labels["applicationId"] = "etl" }},
	{"two queues", func(s situation) { podOf(s.t, s.c, "etl-0").Labels["queue"] = "root.other" }, SeveralIDs, Differs, "pod batch/etl-0", "root.batch.etl, root.other", func(s situation) { podOf(s.t, s.c, "etl-0").Status.Phase = v1.PodSucceeded }},
	{"bad annotation", func(s situation) { podOf(s.t, s.c, "etl-0").Annotations[workload.AnnotationTaskGroups] = "no JSON" }, AnnotationUnread, Differs, "pod batch/etl-0", workload.AnnotationTaskGroups,
		func(s situation) { podOf(s.t, s.c, "etl-0").Annotations[workload.AnnotationIgnore] = "true" }},
	{"bad annotation of a task", func(s situation) { podOf(s.t, s.c, "etl-0").Annotations[workload.AnnotationPlaceholder] = "perhaps" }, AnnotationUnread, Differs, "pod batch/etl-0", workload.AnnotationPlaceholder,
		func(s situation) { delete(podOf(s.t, s.c, "etl-0").Annotations, workload.AnnotationPlaceholder) }},
	{"bad quota of a namespace", func(s situation) { s.namespace("batch").Annotations["yunikorn.apache.org/namespace.quota"] = "2" }, AnnotationUnread, Differs, "namespace batch", "namespace.quota",
		func(s situation) {
			s.namespace("batch").Annotations["yunikorn.apache.org/namespace.quota"] = `{"cpu":"2"}`
		}},
	{"bad annotation of a class", func(s situation) {
		s.c.Classes = []*schedulingv1.PriorityClass{{ObjectMeta: metav1.ObjectMeta{Name: "high", Annotations: map[string]string{workload.AnnotationAllowPreemption: "no"}}}}
	}, AnnotationUnread, Differs, "priorityclass high", `"no"`, func(s situation) { s.c.Classes[0].Annotations[workload.AnnotationAllowPreemption] = "false" }},
	{"queue is unknown", func(s situation) { podOf(s.t, s.c, "etl-0").Labels[workload.KeyQueue] = "root.gone" }, QueueUnknown, Configure, "queue root.gone", "1 pod",
		func(s situation) { s.queues("- name: provided", "- {name: provided, create: true}") }},
	{"queue is over", func(s situation) { s.queues("{vcore: 4, memory: 8Gi}", "{vcore: 2, memory: 8Gi}") }, QueueOver, Differs, "queue root.batch.etl", "vcore 3000 of 2000", func(s situation) { s.queues("{vcore: 2, ", "{vcore: 3, ") }},
	{"parent is over", func(s situation) {
		s.queues("parent: true", "parent: true\n            resources: {max: {vcore: 8}}", "vcore: 12", "vcore: 8")
	}, QueueOver, Differs, "queue root.batch", "vcore 9000 of 8000",
		func(s situation) { s.queues("max: {vcore: 8}}", "max: {vcore: 9}}") }},
	{"a right is missing", func(s situation) {
		s.ask(func(a *authorizationv1.ResourceAttributes) bool {
			return a.Resource != "pods" || a.Subresource != "status"
		})
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may not patch pods/status anywhere",
		func(s situation) { s.ask(everything) }},
	{"a right over some objects", func(s situation) {
		s.ask(func(a *authorizationv1.ResourceAttributes) bool {
			return a.Name != "yunikorn-configs" || a.Namespace != "understudy-system"
		})
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may not get, list, watch configmaps called yunikorn-configs in the namespace understudy-system",
		func(s situation) {
			s.cfg.Engine.ConfigMapNamespace = "yunikorn"
			s.ask(func(a *authorizationv1.ResourceAttributes) bool {
				return a.Name != "yunikorn-configs" || a.Namespace == "yunikorn"
			})
		}},
	{"rights where the ConfigMaps are", func(s situation) {
		s.cfg.Engine.ConfigMapNamespace = "yunikorn"
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Namespace != "yunikorn" })
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may do nothing of what the Role understudy-configuration allows in the namespace yunikorn",
		func(s situation) { s.cfg.Engine.ConfigMapNamespace = ""; s.ask(everything) }},
	{"the right to a Lease of another name", func(s situation) {
		s.cfg.Election.LeaseName = "other"
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "leases" || a.Name != "other" })
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "leases called other",
		func(s situation) { s.cfg.Election.LeaseName = "understudy"; s.ask(everything) }},
	{"rights for admission", func(s situation) {
		byWebhook(s)
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Group != "admissionregistration.k8s.io" })
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may do nothing of what the ClusterRole understudy-admission allows anywhere",
		func(s situation) {
			s.cfg.Admission.Mode = ""
			s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Group != "admissionregistration.k8s.io" })
		}},
	{"rights for certificates", func(s situation) {
		byWebhook(s)
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "secrets" })
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "Role understudy-admission",
		func(s situation) {
			s.cfg.Admission.TLS = config.TLS{Cert: "c", Key: "k", CA: "a"}
			s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "secrets" })
		}},
	{"rights for tokens", func(s situation) {
		s.cfg.REST.TokenReview = true
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "tokenreviews" })
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may not create tokenreviews",
		func(s situation) {
			s.cfg.REST.TokenReview = false
			s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Resource != "tokenreviews" })
		}},
	{"rights of a manager", func(s situation) {
		s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Group != "batch" }, rbacv1.PolicyRule{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: []string{"list"}})
	}, PermissionMissing, Blocks, "user system:serviceaccount:understudy-system:understudy", "may do nothing of what the ClusterRole understudy-managers allows anywhere",
		func(s situation) {
			s.ask(func(a *authorizationv1.ResourceAttributes) bool { return a.Group != "batch" })
		}},
	{"somebody else's rights", func(s situation) { s.c.Rights = nil }, PermissionUnknown, Note, "kubernetes.kubeconfig", "not known", func(s situation) { s.ask(everything) }},
	{"YuniKorn's role in the cluster", nothing, YuniKornRole, Note, "clusterrolebinding yunikorn-rbac-kube-scheduler", "yunikorn/yunikorn-admin what the ClusterRole system:kube-scheduler allows anywhere",
		func(s situation) { s.c.ClusterBindings = s.c.ClusterBindings[:1] }},
	{"YuniKorn's role in its namespace", nothing, YuniKornRole, Note, "rolebinding yunikorn/yunikorn-rbac", "yunikorn/yunikorn-admin what the Role yunikorn-scheduler allows in the namespace yunikorn",
		func(s situation) { s.c.Bindings[0].Subjects[0].Kind = "User" }},
	{"YuniKorn's own service account", func(s situation) {
		s.c.Deployments[s.at("scheduler")].Spec.Template.Spec.ServiceAccountName = "mine"
		s.c.ClusterBindings[0].Subjects[0].Name = "mine"
	}, YuniKornRole, Note, "clusterrolebinding yunikorn-rbac", "yunikorn/mine",
		func(s situation) { s.c.Deployments[s.at("scheduler")].Namespace = "other" }},
	{"YuniKorn's role that nobody has", func(s situation) { s.c.ClusterBindings = nil }, YuniKornRole, Note, "clusterrole yunikorn-scheduler", "nobody has it",
		func(s situation) { s.c.ClusterRoles = nil }},
	{"users with a ConfigMap elsewhere", nothing, UserRole, Configure, "role yunikorn/queue-admins", "get, update the ConfigMap yunikorn-configs in yunikorn; replicas read the one in understudy-system",
		func(s situation) { s.cfg.Engine.ConfigMapNamespace = "yunikorn" }},
	{"users with the ConfigMap", func(s situation) { s.cfg.Engine.ConfigMapNamespace = "yunikorn" }, UserRole, Note, "role yunikorn/queue-admins", "get, update the ConfigMap yunikorn-configs, which",
		func(s situation) { s.onlyRule([]string{"configmaps"}, "other") }},
	{"users with the Service", func(s situation) { s.onlyRule([]string{"services/proxy"}, "yunikorn-service") }, UserRole, Configure, "role yunikorn/queue-admins", "Service yunikorn-service in yunikorn",
		func(s situation) { s.onlyRule([]string{"services/proxy"}, "another-service") }},
	{"users with the Service here", func(s situation) {
		s.onlyRule([]string{"services"}, "yunikorn-service")
		s.cfg.Namespace = "yunikorn"
	}, UserRole, Note, "role yunikorn/queue-admins", "is called as well",
		func(s situation) { s.onlyRule([]string{"endpoints"}, "yunikorn-service") }},
	{"users who restart it", func(s situation) { s.onlyRule([]string{"deployments/scale"}, "yunikorn-scheduler") }, UserRole, Configure, "role yunikorn/queue-admins", "means the replicas now",
		func(s situation) { s.onlyRule([]string{"deployments/scale"}, "understudy") }},
	{"users who pass for it", func(s situation) { s.onlyRule([]string{"serviceaccounts"}, "yunikorn-admin") }, UserRole, Configure, "role yunikorn/queue-admins", "nobody schedules any more",
		func(s situation) { s.onlyRule([]string{"serviceaccounts"}, "default") }},
	{"users with Applications", func(s situation) {
		s.onlyRule([]string{"applications"})
		s.role("queue-admins").Rules[0].APIGroups = []string{"yunikorn.apache.org"}
	}, UserRole, Note, "role yunikorn/queue-admins", "applications of yunikorn.apache.org",
		func(s situation) { s.role("queue-admins").Name = "yunikorn-own" }},
	{"a partition of an old version", func(s situation) { s.node("n1").Labels["si/node-partition"] = "gpu" }, NodePartition, Differs, "node n1", "gpu", func(s situation) { s.c.Nodes = nil }},
	{"a label that nobody reads", func(s situation) { s.node("n1").Labels["yunikorn.apache.org/queue"] = "root.a" }, NodeMark, Note, "node n1", "the label yunikorn.apache.org/queue",
		func(s situation) { delete(s.c.Nodes[0].Labels, "yunikorn.apache.org/queue") }},
	{"an annotation that nobody reads", func(s situation) { s.node("n1").Annotations["internal.yunikorn.apache.org/x"] = "" }, NodeMark, Note, "node n1", "the annotation internal.yunikorn.apache.org/x",
		func(s situation) { s.c.Nodes[0].Annotations = nil }},
	{"types of nodes", func(s situation) { s.node("n1").Labels["node.kubernetes.io/instance-type"] = "large" }, NodeType, Differs, "label node.kubernetes.io/instance-type", "names the types",
		func(s situation) { s.c.Nodes[0].Labels = nil }},
	{"some nodes without a type", func(s situation) {
		s.node("n1").Labels["node.kubernetes.io/instance-type"] = "large"
		s.node("n2")
	}, NodeType, Differs, "label node.kubernetes.io/instance-type", "1 node without it", func(s situation) { s.c.Nodes = nil }},
	{"a label for types that nodes lack", func(s situation) {
		s.node("n1")
		s.c.ConfigMaps[0].Data["service.nodeInstanceTypeNodeLabelKey"] = "example.com/type"
	}, NodeType, Configure, "label example.com/type", "is missing on 1 of 1 node",
		func(s situation) { s.c.Nodes[0].Labels["example.com/type"] = "large" }},
	{"gang waits", nothing, GangPending, Note, "application train-wait", "gang of 2", func(s situation) { podOf(s.t, s.c, "train-wait-0").Spec.NodeName = "node-0000" }},
	{"gang reserves", nothing, GangReserving, Note, "application train-reserve", "2 of 3", func(s situation) { podOf(s.t, s.c, "train-reserve-0").Spec.NodeName = "node-0000" }},
	{"gang runs", nothing, GangRunning, Note, "application train-run", "1 placeholder", func(s situation) { podOf(s.t, s.c, "tg-train-run-workers-5m2kq0x7fa").Status.Phase = v1.PodFailed }},
	{"originator is gone", nothing, GangOriginatorGone, Differs, "application train-gone", "train-gone-0", func(s situation) {
		p := podOf(s.t, s.c, "etl-0")
		p.UID = podOf(s.t, s.c, "tg-train-gone-workers-p5q6r7s8t9").OwnerReferences[0].UID
	}},
	{"orphans", nothing, GangOrphans, Differs, "application train-gone", "1 placeholder", func(s situation) { podOf(s.t, s.c, "etl-2").Labels[workload.KeyAppID] = "train-gone" }},
	{"groups differ", func(s situation) {
		podOf(s.t, s.c, "train-run-1").Annotations[workload.AnnotationTaskGroups] = `[{"name":"workers","minMember":2}]`
	}, TaskGroupsDiffer, Differs, "application train-run", "2 different", func(s situation) { delete(podOf(s.t, s.c, "train-run-1").Annotations, workload.AnnotationTaskGroups) }},
}

func sparkApp(scheduler string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"batchScheduler": scheduler}}}
}

func TestFindings(t *testing.T) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			found := func(changes ...func(situation)) (found *Finding) {
				client, objects := clientsOf(t, "system.yaml", "webhooks.yaml", "rbac.yaml", "workloads.yaml")
				cfg := shipped()
				s := situation{t, Read(t.Context(), client, objects, cfg), &cfg}
				for _, change := range changes {
					change(s)
				}
				for _, f := range Check(s.c, cfg, "") {
					if f.Kind == row.kind && f.Object == row.object && (found == nil || strings.Contains(f.Message, row.says)) {
						found = &f
					}
				}
				return found
			}
			f := found(row.is)
			if f == nil || f.Severity != row.severity || !strings.Contains(f.Message, row.says) {
				t.Errorf("found %+v, want %s %s of %s that says %q", f, row.severity, row.kind, row.object, row.says)
			}
			if row.unless == nil {
				return
			}
			if f := found(row.is, row.unless); f != nil && strings.Contains(f.Message, row.says) {
				t.Errorf("found %+v where there is nothing to find", f)
			}
		})
	}
}

// TestEveryKindHasARow reads the kinds from the source, so that none is forgotten.
func TestEveryKindHasARow(t *testing.T) {
	source, err := os.ReadFile("finding.go")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`\bKind += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(kinds) < 20 {
		t.Fatalf("only %d kinds are found", len(kinds))
	}
	for _, kind := range kinds {
		has := false
		for _, row := range rows {
			has = has || string(row.kind) == kind[1]
		}
		if !has {
			t.Errorf("no row finds %s", kind[1])
		}
	}
}

// TestWhatMayNotBeReadBlocks: who may not look knows nothing, and does not say that all is well.
func TestWhatMayNotBeReadBlocks(t *testing.T) {
	client, objects := clientsOf(t, "workloads.yaml")
	client.PrependReactor("list", "deployments", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "deployments"}, "", errors.New("not you"))
	})
	cfg := shipped()
	var blocking []string
	for _, f := range Check(Read(t.Context(), client, objects, cfg), cfg, "") {
		if f.Severity == Blocks {
			blocking = append(blocking, string(f.Kind)+" "+f.Object)
		}
	}
	if len(blocking) != 1 || blocking[0] != "not-read deployments" {
		t.Errorf("what blocks is %q", blocking)
	}
}

func TestManyOfOneKindAreCounted(t *testing.T) {
	var all []Finding
	for _, object := range []string{"c", "a", "b", "d"} {
		all = append(all, Finding{Severity: Note, Kind: GangPending, Object: object}, Finding{Severity: Blocks, Kind: SchedulerRuns, Object: object})
	}
	var got []string
	for _, f := range Bounded(all, 3) {
		got = append(got, string(f.Severity)+" "+f.Object+" "+f.Message)
	}
	if want := "blocks a ,blocks b ,blocks c ,blocks others and 1 more of this kind,note a ,note b ,note c ,note others and 1 more of this kind"; strings.Join(got, ",") != want {
		t.Errorf("got %q", got)
	}
	if n := len(Bounded(all, 0)); n != 8 {
		t.Errorf("%d are left without a limit", n)
	}
}

// TestMissingRightsAreNamedByTheRuleThatGivesThem: what is printed can be put into a manifest.
func TestMissingRightsAreNamedByTheRuleThatGivesThem(t *testing.T) {
	cfg := shipped()
	c := &Cluster{Unread: map[string]error{}}
	s := situation{t, c, &cfg}
	s.ask(func(a *authorizationv1.ResourceAttributes) bool {
		return a.Group != "storage.k8s.io" && (a.Resource != "leases" || a.Verb == "create" || a.Verb == "get") && (a.Subresource != "binding")
	})
	var do []string
	for _, f := range Check(c, cfg, "") {
		if f.Kind == PermissionMissing {
			do = append(do, f.Do)
		}
	}
	want := []string{
		`add to the ClusterRole understudy, or apply deploy/base: {apiGroups: [""], resources: ["pods/binding"], verbs: [create]}`,
		`add to the ClusterRole understudy, or apply deploy/base: {apiGroups: [storage.k8s.io], resources: [storageclasses, csinodes, csidrivers, csistoragecapacities, volumeattachments], verbs: [get, list, watch]}`,
		`add to the Role understudy, or apply deploy/base: {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [understudy], verbs: [list, watch, update, delete]}`,
	}
	if !slices.Equal(do, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(do, "\n"), strings.Join(want, "\n"))
	}
	for i, text := range do {
		var rule rbacv1.PolicyRule
		_, text, _ = strings.Cut(text, ": ")
		if err := yaml.UnmarshalStrict([]byte(text), &rule); err != nil || len(rule.Verbs) == 0 {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestRightsAreAskedForAsTheServiceAccount: roles may be given to its groups.
func TestRightsAreAskedForAsTheServiceAccount(t *testing.T) {
	client := kubefake.NewClientset()
	var asked *authorizationv1.SubjectAccessReview
	client.PrependReactor("create", "subjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
		asked = a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		return true, asked, nil
	})
	need := []Need{{Namespace: "n", Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods/status"}, ResourceNames: []string{"p"}, Verbs: []string{"patch"}}}}}
	for user, groups := range map[string][]string{
		"system:serviceaccount:a:b": {"system:authenticated", "system:serviceaccounts", "system:serviceaccounts:a"},
		"ann":                       {"system:authenticated"},
	} {
		(&Cluster{Unread: map[string]error{}}).Ask(t.Context(), client, user, need)
		want := authorizationv1.ResourceAttributes{Namespace: "n", Verb: "patch", Version: "*", Resource: "pods", Subresource: "status", Name: "p"}
		if asked == nil || asked.Spec.User != user || !slices.Equal(asked.Spec.Groups, groups) || *asked.Spec.ResourceAttributes != want {
			t.Errorf("%s: asked %+v", user, asked)
		}
	}
}

// TestRightsThatMayNotBeAskedForBlock: nobody knows then whether replicas could do their work.
func TestRightsThatMayNotBeAskedForBlock(t *testing.T) {
	client := kubefake.NewClientset()
	client.PrependReactor("create", "subjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "subjectaccessreviews"}, "", errors.New("not you"))
	})
	cfg := shipped()
	needs, err := Needs(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Unread: map[string]error{}}
	c.Ask(t.Context(), client, Account(cfg), needs)
	var blocking []string
	for _, f := range Check(c, cfg, "") {
		if f.Severity == Blocks || f.Kind == PermissionUnknown {
			blocking = append(blocking, string(f.Kind)+" "+f.Object)
		}
	}
	if len(blocking) != 1 || blocking[0] != "not-read subjectaccessreviews" {
		t.Errorf("what blocks is %q", blocking)
	}
	if n := len(client.Actions()); n != 1 {
		t.Errorf("asked %d times, and the first was refused", n)
	}
}
