package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/e2e/lab"
)

const checks = "understudy-migration" // the role in docs/migration.md, and who has it

// checking checks a cluster as somebody who may do what docs/migration.md says and no more.
type checking struct {
	*lab.Lab
	t   *testing.T
	ctx context.Context
	// binary is the product, and args what it is called with.
	binary string
	args   []string
}

// finding is what the product prints of one.
type finding struct{ Severity, Kind, Object, Message, Do string }

// The kinds of findings that are about permissions.
const (
	notRead           = "not-read"
	permissionMissing = "permission-missing"
	failed            = "failed" // none: nothing was found out
)

// TestMigrateCheckAsksARealAPIServer: RBAC as it is, of the manifests and of YuniKorn's chart, is what is found.
func TestMigrateCheckAsksARealAPIServer(t *testing.T) {
	c := beginChecking(t)
	rules := documentedRules(t)
	c.grant(checks, rules)

	c.await("what is there", "", "configure user-role role yunikorn/queue-admins", "note yunikorn-role clusterrolebinding yunikorn-rbac-kube-scheduler",
		"note yunikorn-role rolebinding yunikorn/yunikorn-rbac", "differs node-partition node")
	if found := c.find(); slices.ContainsFunc(found, func(f finding) bool {
		return f.Kind == permissionMissing || f.Kind == notRead
	}) {
		t.Errorf("all is allowed, and it says %s", texts(found))
	}

	// A right that is taken away is missed, and the rule that is printed gives it back.
	for _, name := range []string{"pods/binding", "storageclasses"} {
		c.update("understudy", func(r *rbacv1.ClusterRole) {
			r.Rules = slices.DeleteFunc(r.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, name) })
		})
		missing := c.await("missing "+name, name, "blocks permission-missing user system:serviceaccount:understudy-system:understudy")
		var rule rbacv1.PolicyRule
		_, text, _ := strings.Cut(missing.Do, ": ")
		c.do(yaml.UnmarshalStrict([]byte(text), &rule))
		c.update("understudy", func(r *rbacv1.ClusterRole) { r.Rules = append(r.Rules, rule) })
		c.awaitNone("the rule that was printed", permissionMissing)
	}
	// Without its binding the account has nothing of the role. The base's own Role is still there.
	c.do(c.Client().RbacV1().ClusterRoleBindings().Delete(c.ctx, "understudy", metav1.DeleteOptions{}))
	c.await("a role that is not bound", "may do nothing of what the ClusterRole understudy allows anywhere", "blocks permission-missing user system:serviceaccount:understudy-system:understudy")
	if found := c.find(); len(slices.DeleteFunc(found, func(f finding) bool { return f.Kind != permissionMissing })) != 1 {
		t.Errorf("more than that role lacks: %s", texts(found))
	}
	// Its right is one of its group as well.
	_, err := c.Client().RbacV1().ClusterRoleBindings().Create(c.ctx, binding("everybody-in-it", "understudy", rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:understudy-system"}), metav1.CreateOptions{})
	c.do(err)
	c.awaitNone("a right of the account's group", permissionMissing)

	// Who checks needs each rule that is documented, and one for the configuration of the replicas unless it is in a file.
	c.update(checks, func(r *rbacv1.ClusterRole) { r.Rules = nil })
	c.until("not even the configuration", func(found []finding) error {
		if len(found) != 1 || !strings.Contains(found[0].Object, "understudy-config (--config names a file instead)") {
			return fmt.Errorf("found %s", texts(found))
		}
		return nil
	})
	file := filepath.Join(t.TempDir(), "config.yaml")
	c.do(os.WriteFile(file, []byte("apiVersion: understudy.dev/v1alpha1\nkind: Config\nnamespace: understudy-system\netcd: {endpoints: [\"http://etcd:2379\"]}\n"), 0o600))
	c.args = append(c.args, "--config", file)
	for i, rule := range rules {
		c.update(checks, func(r *rbacv1.ClusterRole) { r.Rules = slices.Delete(slices.Clone(rules), i, i+1) })
		for _, resource := range rule.Resources {
			c.await("checking without "+resource, "forbidden", "blocks not-read "+resource)
		}
		c.update(checks, func(r *rbacv1.ClusterRole) { r.Rules = rules })
		c.awaitNone("checking with "+rule.Resources[0], notRead)
	}
}

func beginChecking(t *testing.T) *checking {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	c := &checking{t: t, ctx: ctx}
	c.Lab = up(t, func(o *lab.Options) {
		o.Replicas, o.Nodes, o.CRDs = 0, 1, []string{"../crds/sparkapplications.yaml"}
	})
	objects, err := c.Objects()
	c.do(err)
	for _, file := range []string{"system.yaml", "rbac.yaml"} {
		list, err := lab.ReadManifests(yunikornLeaves + file)
		c.do(err)
		c.do(objects.Apply(ctx, list...))
	}
	nodes, err := c.Client().CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	c.do(err)
	_, err = c.Client().CoreV1().Nodes().Patch(ctx, nodes.Items[0].Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"si/node-partition":"gpu"}}}`), metav1.PatchOptions{})
	c.do(err)
	c.build()
	return c
}

// build builds the product, and says as whom it is to ask.
func (c *checking) build() {
	c.t.Helper()
	dir := c.t.TempDir()
	c.binary = filepath.Join(dir, "understudy")
	build := exec.CommandContext(c.ctx, "go", "build", "-ldflags", "-s -w", "-o", c.binary, "./cmd/understudy")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %v\n%s", build, err, out)
	}
	state, err := c.State()
	c.do(err)
	admin, err := clientcmd.LoadFromFile(state.Kubeconfig)
	c.do(err)
	for _, user := range admin.AuthInfos {
		user.Impersonate = checks
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	c.do(clientcmd.WriteToFile(*admin, kubeconfig))
	c.args = []string{"migrate", "check", "--kubeconfig", kubeconfig, "--limit", "0", "-o", "json"}
}

func (c *checking) do(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// documentedRules are those of the role in docs/migration.md.
func documentedRules(t *testing.T) []rbacv1.PolicyRule {
	t.Helper()
	page, err := os.ReadFile("../../docs/migration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	var role rbacv1.ClusterRole
	if err := yaml.UnmarshalStrict([]byte(text), &role); err != nil || role.Name != checks || len(role.Rules) == 0 {
		t.Fatalf("docs/migration.md has %+v, %v", role, err)
	}
	return role.Rules
}

func (c *checking) grant(name string, rules []rbacv1.PolicyRule) {
	c.t.Helper()
	roles := c.Client().RbacV1()
	_, err := roles.ClusterRoles().Create(c.ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}, metav1.CreateOptions{})
	c.do(err)
	_, err = roles.ClusterRoleBindings().Create(c.ctx, binding(name, name, rbacv1.Subject{Kind: rbacv1.UserKind, Name: name}), metav1.CreateOptions{})
	c.do(err)
}

func binding(name, role string, to rbacv1.Subject) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{to},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
	}
}

// update changes a ClusterRole.
func (c *checking) update(name string, change func(*rbacv1.ClusterRole)) {
	c.t.Helper()
	roles := c.Client().RbacV1().ClusterRoles()
	role, err := roles.Get(c.ctx, name, metav1.GetOptions{})
	c.do(err)
	change(role)
	_, err = roles.Update(c.ctx, role, metav1.UpdateOptions{})
	c.do(err)
}

// find has the product check. It fails because YuniKorn's scheduler is not stopped, if for nothing else.
func (c *checking) find() (found []finding) {
	c.t.Helper()
	var complaint strings.Builder
	cmd := exec.CommandContext(c.ctx, c.binary, c.args...)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if ended := (*exec.ExitError)(nil); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		c.t.Fatalf("%v: %v, and something blocks\n%s%s", cmd, err, out, &complaint)
	}
	if err := json.Unmarshal(out, &found); err != nil {
		return []finding{{Kind: failed, Object: complaint.String()}}
	}
	return found
}

// await checks until all is found that begins like this, and returns the last of it. One of them says a text, or asks
// to do it. The API server takes a moment until roles count.
func (c *checking) await(what, says string, all ...string) (last finding) {
	c.t.Helper()
	c.until(what, func(found []finding) error {
		for _, want := range all {
			at := slices.IndexFunc(found, func(f finding) bool {
				return strings.HasPrefix(fmt.Sprintf("%s %s %s", f.Severity, f.Kind, f.Object), want) && strings.Contains(f.Message+f.Do, says)
			})
			if at < 0 {
				return fmt.Errorf("there is no %s %s in %s", want, says, texts(found))
			}
			last = found[at]
		}
		return nil
	})
	return last
}

func (c *checking) awaitNone(what string, kind string) {
	c.t.Helper()
	c.until(what, func(found []finding) error {
		if at := slices.IndexFunc(found, func(f finding) bool { return f.Kind == kind || f.Kind == failed }); at >= 0 {
			return fmt.Errorf("still %+v", found[at])
		}
		return nil
	})
}

func (c *checking) until(what string, wrong func([]finding) error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, time.Minute)
	defer cancel()
	for {
		err := wrong(c.find())
		if err == nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

func texts(found []finding) string {
	var all []string
	for _, f := range found {
		all = append(all, fmt.Sprintf("%s %s %s: %s", f.Severity, f.Kind, f.Object, f.Message))
	}
	return strings.Join(all, "\n")
}
