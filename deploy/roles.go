package deploy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

//go:embed base/clusterrole.yaml base/role.yaml admission/clusterrole.yaml admission/role.yaml yunikorn-namespace/role.yaml
var roles embed.FS

// The files with the roles of the replicas, from this directory.
const (
	BaseClusterRole      = "base/clusterrole.yaml"
	BaseRole             = "base/role.yaml"
	AdmissionClusterRole = "admission/clusterrole.yaml"
	AdmissionRole        = "admission/role.yaml"
	ConfigurationRole    = "yunikorn-namespace/role.yaml"
)

// Role is a role of the manifests.
type Role struct {
	// Kind is Role or ClusterRole.
	Kind, Name string
	Rules      []rbacv1.PolicyRule
}

// RoleIn returns the role in a file.
func RoleIn(file string) (Role, error) {
	data, err := roles.ReadFile(file)
	if err != nil {
		return Role{}, err
	}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), len(data))
	for {
		// A Role and a ClusterRole are alike in what is read of them.
		var object rbacv1.ClusterRole
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return Role{}, fmt.Errorf("%s holds no role", file)
		} else if err != nil {
			return Role{}, fmt.Errorf("%s: %w", file, err)
		}
		if object.Kind == "Role" || object.Kind == "ClusterRole" {
			return Role{Kind: object.Kind, Name: object.Name, Rules: object.Rules}, nil
		}
	}
}
