package migrate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/understudy-ha/understudy/coordinator/settings"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// The service accounts of YuniKorn's chart.
var yunikornAccounts = []string{"yunikorn-admin", "yunikorn-admission-controller"}

// roles looks at what others may do: YuniKorn, once it is gone, and users with objects of YuniKorn's.
func (x *check) roles() {
	for _, b := range x.ClusterBindings {
		x.ofYuniKorn("clusterrolebinding "+b.Name, "kubectl delete clusterrolebinding "+b.Name, b.Subjects, b.RoleRef, "", "anywhere")
	}
	for _, b := range x.Bindings {
		x.ofYuniKorn("rolebinding "+b.Namespace+"/"+b.Name, fmt.Sprintf("kubectl -n %s delete rolebinding %s", b.Namespace, b.Name),
			b.Subjects, b.RoleRef, b.Namespace, "in the namespace "+b.Namespace)
	}
	bound := make(map[string]bool)
	for _, b := range x.ClusterBindings {
		bound[b.RoleRef.Kind+" "+b.RoleRef.Name] = true
	}
	for _, b := range x.Bindings {
		bound[b.RoleRef.Kind+" "+b.RoleRef.Name] = true
	}
	for _, r := range x.ClusterRoles {
		x.named("clusterrole "+r.Name, "", r.Rules)
		if strings.HasPrefix(r.Name, nameYuniKorn+"-") && !bound["ClusterRole "+r.Name] {
			x.add(Note, YuniKornRole, "clusterrole "+r.Name, "kubectl delete clusterrole "+r.Name, "is YuniKorn's by its name, and nobody has it")
		}
	}
	for _, r := range x.Roles {
		x.named("role "+r.Namespace+"/"+r.Name, r.Namespace, r.Rules)
	}
}

// ofYuniKorn looks at a binding that gives something to YuniKorn.
func (x *check) ofYuniKorn(object, remove string, subjects []rbacv1.Subject, role rbacv1.RoleRef, namespace, where string) {
	for _, s := range subjects {
		at := cmp.Or(s.Namespace, namespace)
		if s.Kind != rbacv1.ServiceAccountKind || !x.accountOfYuniKorn(at, s.Name) {
			continue
		}
		x.add(Note, YuniKornRole, object, "once nobody goes back: "+remove,
			"gives the service account %s/%s what the %s %s allows %s. YuniKorn needs it to go back; its chart makes it as a hook, which uninstalling leaves behind", at, s.Name, role.Kind, role.Name, where)
	}
}

func (x *check) accountOfYuniKorn(namespace, name string) bool {
	if slices.Contains(yunikornAccounts, name) {
		return true
	}
	for _, d := range x.Deployments {
		account := cmp.Or(d.Spec.Template.Spec.ServiceAccountName, d.Spec.Template.Spec.DeprecatedServiceAccount)
		if account != "" && d.Namespace == namespace && account == name {
			return true
		}
	}
	return false
}

// named looks at rules that name objects of YuniKorn's. Those of YuniKorn and of the replicas do as well, and are left out.
func (x *check) named(object, namespace string, rules []rbacv1.PolicyRule) {
	_, name, _ := strings.Cut(object, " ")
	if at := strings.LastIndex(name, "/"); at >= 0 {
		name = name[at+1:]
	}
	if strings.HasPrefix(name, nameYuniKorn+"-") || name == "understudy" || strings.HasPrefix(name, "understudy-") {
		return
	}
	for i := range rules {
		r := &rules[i]
		verbs := strings.Join(r.Verbs, ", ")
		if slices.Contains(r.APIGroups, v1alpha1.GroupName) {
			x.add(Note, UserRole, object, "", "allows to %s %s of %s, which are the same here", verbs, strings.Join(r.Resources, ", "), v1alpha1.GroupName)
		}
		for _, name := range r.ResourceNames {
			x.names(object, namespace, name, verbs, r)
		}
	}
}

// names looks at a name in a rule.
func (x *check) names(object, namespace, name, verbs string, r *rbacv1.PolicyRule) {
	has := func(resource string) bool {
		return slices.ContainsFunc(r.Resources, func(of string) bool {
			of, _, _ = strings.Cut(of, "/")
			return of == resource || of == rbacv1.ResourceAll
		})
	}
	own := namespaceOf(x.cfg)
	look := cmp.Or(x.cfg.Engine.ConfigMapNamespace, own)
	switch {
	case has("configmaps") && (name == settings.ConfigMap || name == settings.DefaultsConfigMap):
		if namespace != "" && namespace != look {
			x.add(Configure, UserRole, object, "give the same in "+look+", or set engine.configMapNamespace: "+namespace, "allows to %s the ConfigMap %s in %s; replicas read the one in %s", verbs, name, namespace, look)
			return
		}
		x.add(Note, UserRole, object, "", "allows to %s the ConfigMap %s, which replicas read", verbs, name)
	case has("services") && name == restService:
		if namespace != "" && namespace != own {
			x.add(Configure, UserRole, object, "give the same in "+own, "allows to %s the Service %s in %s; that of the replicas is in %s", verbs, name, namespace, own)
			return
		}
		x.add(Note, UserRole, object, "", "allows to %s the Service %s, as that of the replicas is called as well", verbs, name)
	case (has("deployments") || has("pods")) && (name == componentScheduler || name == componentAdmission):
		x.add(Configure, UserRole, object, "give the same with the Deployment understudy in "+own, "allows to %s the Deployment %s: whoever restarts or scales that means the replicas now", verbs, name)
	case has("serviceaccounts") && slices.Contains(yunikornAccounts, name):
		x.add(Configure, UserRole, object, "take it out, or name "+x.cfg.Admission.ServiceAccount, "allows to %s the service account %s, as which nobody schedules any more", verbs, name)
	}
}
