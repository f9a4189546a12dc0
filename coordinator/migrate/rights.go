package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/deploy"
)

// Need is a role that the replicas need.
type Need struct {
	// Role is how it is called, such as "ClusterRole understudy", and From what gives it.
	Role, From string
	// Namespace is where it has to count; empty means everywhere.
	Namespace string
	Rules     []rbacv1.PolicyRule
}

// Granted is what the replicas have of a need.
type Granted struct {
	Need
	// Lacks has the rules that would give what they have not.
	Lacks []rbacv1.PolicyRule
	// Any says that they have something of it.
	Any bool
}

// Rights are those of the replicas.
type Rights struct {
	// User is as whom they ask the API server.
	User string
	Has  []Granted
}

// Needs are what replicas of a configuration have to be allowed. managers are the rules that their app
// managers ask for.
func Needs(cfg config.Config, managers []rbacv1.PolicyRule) ([]Need, error) {
	type source struct{ file, from, namespace string }
	own := namespaceOf(cfg)
	elsewhere := cfg.Engine.ConfigMapNamespace != "" && cfg.Engine.ConfigMapNamespace != own
	sources := []source{{deploy.BaseClusterRole, "deploy/base", ""}, {deploy.BaseRole, "deploy/base", own}}
	if elsewhere {
		sources = append(sources, source{deploy.ConfigurationRole, "deploy/yunikorn-namespace", cfg.Engine.ConfigMapNamespace})
	}
	if cfg.Admission.Mode != "" {
		sources = append(sources, source{deploy.AdmissionClusterRole, "deploy/admission", ""})
		if !cfg.Admission.TLS.Enabled() && cfg.Admission.Mode == config.AdmissionWebhook {
			sources = append(sources, source{deploy.AdmissionRole, "deploy/admission", own})
		}
	}
	var needs []Need
	for _, f := range sources {
		role, err := deploy.RoleIn(f.file)
		if err != nil {
			return nil, err
		}
		if elsewhere && f.file == deploy.BaseRole {
			role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "configmaps") })
		}
		for i := range role.Rules {
			rename(&role.Rules[i], cfg)
		}
		needs = append(needs, Need{Role: role.Kind + " " + role.Name, From: f.from, Namespace: f.namespace, Rules: role.Rules})
	}
	if len(managers) > 0 {
		needs = append(needs, Need{Role: "ClusterRole understudy-managers", From: "understudy managers rbac", Rules: managers})
	}
	if cfg.REST.TokenReview {
		needs = append(needs, Need{Role: "ClusterRole system:auth-delegator", From: "deploy/tokenreview", Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
			{APIGroups: []string{authorizationv1.GroupName}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}},
		}})
	}
	return needs, nil
}

// rename has a rule name the objects that the configuration names.
func rename(rule *rbacv1.PolicyRule, cfg config.Config) {
	if len(rule.ResourceNames) == 0 || len(rule.Resources) != 1 {
		return
	}
	switch rule.Resources[0] {
	case "leases":
		rule.ResourceNames = []string{cfg.Election.LeaseName}
	case "configmaps":
		rule.ResourceNames = []string{cfg.Engine.DefaultsConfigMap, cfg.Engine.ConfigMap}
	case "secrets":
		rule.ResourceNames = []string{cfg.Admission.Secret}
	}
}

// Account is the user that a service account of the replicas is.
func Account(cfg config.Config) string {
	return serviceaccount.MakeUsername(namespaceOf(cfg), cfg.Admission.ServiceAccount)
}

// Ask asks the API server what a user may of what is needed. It writes nothing. It gives up with the
// first question that is not answered.
func (c *Cluster) Ask(ctx context.Context, client kubernetes.Interface, name string, needs []Need) {
	const what = "subjectaccessreviews"
	rights := &Rights{User: name}
	groups := []string{user.AllAuthenticated}
	if namespace, _, err := serviceaccount.SplitUsername(name); err == nil {
		groups = append(groups, serviceaccount.MakeGroupNames(namespace)...)
	}
	allowed := func(a authorizationv1.ResourceAttributes) (bool, error) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: name, Groups: groups, ResourceAttributes: &a}}
		answer, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return answer.Status.Allowed, nil
	}
	for _, need := range needs {
		granted := Granted{Need: need}
		for i := range need.Rules {
			if err := granted.ask(&need.Rules[i], allowed); err != nil {
				c.Unread[what] = err
				return
			}
		}
		rights.Has = append(rights.Has, granted)
	}
	c.Rights = rights
}

// ask asks for each right that a rule gives.
func (g *Granted) ask(rule *rbacv1.PolicyRule, allowed func(authorizationv1.ResourceAttributes) (bool, error)) error {
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			lacks := rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}}
			for _, verb := range rule.Verbs {
				for _, name := range names {
					kind, sub, _ := strings.Cut(resource, "/")
					ok, err := allowed(authorizationv1.ResourceAttributes{Namespace: g.Namespace, Verb: verb, Group: group, Version: "*", Resource: kind, Subresource: sub, Name: name})
					if err != nil {
						return err
					}
					if ok {
						g.Any = true
						continue
					}
					lacks.Verbs = addOnce(lacks.Verbs, verb)
					if name != "" {
						lacks.ResourceNames = addOnce(lacks.ResourceNames, name)
					}
				}
			}
			g.lack(lacks)
		}
	}
	return nil
}

// lack notes what is lacking. Resources that lack the same are one rule.
func (g *Granted) lack(rule rbacv1.PolicyRule) {
	if len(rule.Verbs) == 0 {
		return
	}
	if n := len(g.Lacks); n > 0 {
		last := &g.Lacks[n-1]
		if slices.Equal(last.APIGroups, rule.APIGroups) && slices.Equal(last.Verbs, rule.Verbs) && slices.Equal(last.ResourceNames, rule.ResourceNames) {
			last.Resources = append(last.Resources, rule.Resources...)
			return
		}
	}
	g.Lacks = append(g.Lacks, rule)
}

func addOnce(list []string, value string) []string {
	if slices.Contains(list, value) {
		return list
	}
	return append(list, value)
}

// rights looks at whether the replicas may do their work. One that may not is worse than none: YuniKorn has been
// stopped for it.
func (x *check) rights() {
	if x.Rights == nil {
		if x.Unread["subjectaccessreviews"] == nil {
			x.add(Note, PermissionUnknown, "kubernetes.kubeconfig", "say --user NAME", "names as whom replicas ask the API server, and what that user may is not known here")
		}
		return
	}
	for _, g := range x.Rights.Has {
		where := "anywhere"
		if g.Namespace != "" {
			where = "in the namespace " + g.Namespace
		}
		if !g.Any && len(g.Lacks) > 0 {
			x.add(Blocks, PermissionMissing, "user "+x.Rights.User, "apply "+g.From+giving(g), "may do nothing of what the %s allows %s: %s", g.Role, where, counted(len(g.Rules), "rule"))
			continue
		}
		for i := range g.Lacks {
			rule := &g.Lacks[i]
			of := ""
			if len(rule.ResourceNames) > 0 {
				of = " called " + some(rule.ResourceNames)
			}
			x.add(Blocks, PermissionMissing, "user "+x.Rights.User, fmt.Sprintf("add to the %s, or apply %s: %s", g.Role, g.From, inYAML(rule)),
				"may not %s %s%s %s", strings.Join(rule.Verbs, ", "), strings.Join(rule.Resources, ", "), of, where)
		}
	}
}

// giving says of what is printed that it has to be bound as well.
func giving(g Granted) string {
	if strings.HasPrefix(g.From, "deploy/") {
		return ""
	}
	return ", bound to the user"
}

// inYAML is a rule in one line of YAML.
func inYAML(rule *rbacv1.PolicyRule) string {
	list := func(values []string) string {
		quoted := make([]string, len(values))
		for i, value := range values {
			quoted[i] = value
			if value == "" || strings.ContainsAny(value, "*/:{}[],&#?|<>=!%@\"' ") {
				text, _ := json.Marshal(value) // a string always is
				quoted[i] = string(text)
			}
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	text := "{apiGroups: " + list(rule.APIGroups) + ", resources: " + list(rule.Resources)
	if len(rule.ResourceNames) > 0 {
		text += ", resourceNames: " + list(rule.ResourceNames)
	}
	return text + ", verbs: " + list(rule.Verbs) + "}"
}
