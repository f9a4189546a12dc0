package deploy

import (
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/understudy-ha/understudy/coordinator"
	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/managers"
)

// permitted answers as the API server's RBAC authorizer does, for the roles in
// the manifests. An empty name is that of a creation.
func permitted(rules []rbacv1.PolicyRule, verb, group, resource, name string) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.Verbs, verb) && slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) &&
			(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, name))
	})
}

func TestServiceAccountMayDoItsWorkAndNoMore(t *testing.T) {
	anywhere := only[*rbacv1.ClusterRole](t, "understudy").Rules
	own := append(slices.Clone(anywhere), only[*rbacv1.Role](t, "understudy").Rules...)
	cfg := deployedConfig(t)

	for _, c := range []struct {
		rules                       []rbacv1.PolicyRule
		verb, group, resource, name string
		want                        bool
	}{
		{anywhere, "watch", "", "pods", "", true},
		{anywhere, "watch", "", "nodes", "", true},
		{anywhere, "watch", "", "namespaces", "", true},
		{anywhere, "watch", "scheduling.k8s.io", "priorityclasses", "", true},
		{anywhere, "create", "", "pods", "", true},
		{anywhere, "delete", "", "pods", "worker", true},
		{anywhere, "create", "", "pods/binding", "worker", true},
		{anywhere, "patch", "", "pods/status", "worker", true},
		{anywhere, "create", "", "events", "", true},
		{own, "create", "coordination.k8s.io", "leases", "", true},
		{own, "update", "coordination.k8s.io", "leases", cfg.Election.LeaseName, true},
		{own, "watch", "coordination.k8s.io", "leases", cfg.Election.LeaseName, true},
		{own, "delete", "coordination.k8s.io", "leases", cfg.Election.LeaseName, true},
		{own, "watch", "", "configmaps", cfg.Engine.DefaultsConfigMap, true},
		{own, "watch", "", "configmaps", cfg.Engine.ConfigMap, true},
		{own, "patch", "", "pods", "understudy-0", true},

		{anywhere, "patch", "", "pods", "worker", false},
		{anywhere, "update", "", "pods", "worker", false},
		{anywhere, "update", "", "nodes", "node", false},
		{anywhere, "get", "", "secrets", "token", false},
		{anywhere, "get", "", "configmaps", "any", false},
		{anywhere, "update", "coordination.k8s.io", "leases", cfg.Election.LeaseName, false},
		{anywhere, "get", "yunikorn.apache.org", "applications", "app", false},
		{own, "get", "", "secrets", "token", false},
		{own, "update", "coordination.k8s.io", "leases", "another", false},
		{own, "delete", "coordination.k8s.io", "leases", "another", false},
		{own, "update", "", "configmaps", cfg.Engine.ConfigMap, false},
		{own, "get", "", "configmaps", "another", false},
	} {
		if got := permitted(c.rules, c.verb, c.group, c.resource, c.name); got != c.want {
			t.Errorf("%s %s/%s %q: permitted = %t, want %t", c.verb, c.group, c.resource, c.name, got, c.want)
		}
	}
	for _, r := range own {
		for _, list := range [][]string{r.Verbs, r.APIGroups, r.Resources} {
			if slices.Contains(list, "*") {
				t.Errorf("wildcard in %v", r)
			}
		}
	}
}

func TestBindingsTieRolesToTheServiceAccount(t *testing.T) {
	account := only[*corev1.ServiceAccount](t, "understudy")
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: account.Namespace}}
	cluster := only[*rbacv1.ClusterRoleBinding](t, "understudy")
	role := only[*rbacv1.RoleBinding](t, "understudy")
	if !slices.Equal(cluster.Subjects, want) || cluster.RoleRef.Name != only[*rbacv1.ClusterRole](t, "understudy").Name {
		t.Errorf("cluster role binding: %+v", cluster)
	}
	if !slices.Equal(role.Subjects, want) || role.RoleRef.Name != only[*rbacv1.Role](t, "understudy").Name {
		t.Errorf("role binding: %+v", role)
	}
	if got := only[*appsv1.Deployment](t, "understudy").Spec.Template.Spec.ServiceAccountName; got != account.Name {
		t.Errorf("the replicas run as %q", got)
	}
	if account.Namespace != config.DefaultNamespace {
		t.Errorf("service account in %s", account.Namespace)
	}
}

// TestTheQueueConfigurationMayBeInTheNamespaceYunikorn: the rights to it there are those that
// the base gives in the replicas' own namespace.
func TestTheQueueConfigurationMayBeInTheNamespaceYunikorn(t *testing.T) {
	const file = "yunikorn-namespace/role.yaml"
	cfg := deployedConfig(t)
	var rules []rbacv1.PolicyRule
	for _, doc := range documents(t, file) {
		object, _, err := strict(t).Decode(doc, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch o := object.(type) {
		case *rbacv1.Role:
			rules = append(rules, o.Rules...)
			if o.Namespace != "yunikorn" {
				t.Errorf("role in %s", o.Namespace)
			}
		case *rbacv1.RoleBinding:
			if want := only[*rbacv1.RoleBinding](t, "understudy").Subjects; !slices.Equal(o.Subjects, want) || o.Namespace != "yunikorn" {
				t.Errorf("role binding: %+v", o)
			}
		}
	}
	for _, verb := range []string{"get", "list", "watch"} {
		for _, name := range []string{cfg.Engine.DefaultsConfigMap, cfg.Engine.ConfigMap} {
			if !permitted(rules, verb, "", "configmaps", name) {
				t.Errorf("%s %s is not permitted", verb, name)
			}
		}
	}
	if len(rules) != 1 || len(rules[0].Verbs) != 3 || len(rules[0].ResourceNames) != 2 {
		t.Errorf("more than that: %+v", rules)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	explained(t, file, string(data))
}

// TestEveryRuleSaysWhy keeps rules from creeping in.
func TestEveryRuleSaysWhy(t *testing.T) {
	for _, file := range []string{"base/clusterrole.yaml", "base/role.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		explained(t, file, string(data))
	}
}

// explained wants a comment before every rule.
func explained(t *testing.T, file, data string) {
	t.Helper()
	before := ""
	for line := range strings.Lines(data) {
		if strings.HasPrefix(line, "  - apiGroups:") && !strings.HasPrefix(strings.TrimSpace(before), "#") {
			t.Errorf("%s: no comment before %q", file, strings.TrimSpace(line))
		}
		before = line
	}
}

// The deployment enables what it has the rights for: a manager that needs more would wait
// for ever.
func TestEnabledManagersMayDoTheirWork(t *testing.T) {
	rules := only[*rbacv1.ClusterRole](t, "understudy").Rules
	registry := coordinator.Managers()
	for _, m := range deployedConfig(t).Managers {
		made, err := registry.Make(managers.Entry{Name: m.Name, Type: m.Type, Settings: m.Decode}, managers.Deps{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		needs, ok := made.(interface{ Rules() []rbacv1.PolicyRule })
		if !ok {
			continue
		}
		for _, rule := range needs.Rules() {
			for _, verb := range rule.Verbs {
				if !permitted(rules, verb, rule.APIGroups[0], rule.Resources[0], "any") {
					t.Errorf("manager %s may not %s %s", m.Name, verb, rule.Resources[0])
				}
			}
		}
	}
}

// TestRolesAreThoseOfTheManifests: what is part of the program is what is applied.
func TestRolesAreThoseOfTheManifests(t *testing.T) {
	for file, want := range map[string]Role{
		BaseClusterRole:      {Kind: "ClusterRole", Name: "understudy"},
		BaseRole:             {Kind: "Role", Name: "understudy"},
		AdmissionClusterRole: {Kind: "ClusterRole", Name: "understudy-admission"},
		AdmissionRole:        {Kind: "Role", Name: "understudy-admission"},
		ConfigurationRole:    {Kind: "Role", Name: "understudy-configuration"},
	} {
		got, err := RoleIn(file)
		if err != nil || got.Kind != want.Kind || got.Name != want.Name || len(got.Rules) == 0 {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	if base, _ := RoleIn(BaseClusterRole); !reflect.DeepEqual(base.Rules, only[*rbacv1.ClusterRole](t, "understudy").Rules) {
		t.Errorf("other rules: %+v", base.Rules)
	}
}
