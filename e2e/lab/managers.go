package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// ParseManagers reads what Options.Managers takes: a list, or the field `managers` of a
// document such as a configuration file.
func ParseManagers(data []byte) ([]any, error) {
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if file, ok := doc.(map[string]any); ok {
		doc = file["managers"]
	}
	list, ok := doc.([]any)
	if !ok || len(list) == 0 {
		return nil, errors.New("want a list of app managers, or a document with one in its field managers")
	}
	return list, nil
}

// allowManagers gives the replicas what their own binary says that the app managers in
// their configuration need.
func (l *Lab) allowManagers(ctx context.Context, a *Objects, who identity) error {
	cmd := exec.CommandContext(ctx, l.plan.opts.Binary, "managers", "rbac", "--config", l.replicaConfig(0))
	out, err := cmd.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return fmt.Errorf("%v: %w: %s", cmd, err, failed.Stderr)
	} else if err != nil {
		return err
	}
	role := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(out, &role.Object); err != nil {
		return fmt.Errorf("%v: %w", cmd, err)
	}
	_, _, err = a.deploy(ctx, []*unstructured.Unstructured{role, {Object: map[string]any{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
		"metadata": map[string]any{"name": role.GetName()},
		"roleRef": map[string]any{
			"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.GetName(),
		},
		"subjects": []any{map[string]any{
			"kind": "ServiceAccount", "namespace": who.namespace, "name": who.serviceAccount,
		}},
	}}}, runsPods)
	return err
}
