package command

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/settings"
)

// configMapFlags adds the names of the ConfigMaps.
func configMapFlags(cmd *cobra.Command) *[]string {
	defaults := config.Default().Engine
	names := []string{defaults.DefaultsConfigMap, defaults.ConfigMap}
	return cmd.Flags().StringSlice("configmaps", names, "`NAMES` of the ConfigMaps, a later one overriding an earlier one")
}

// sources are files with ConfigMaps.
type sources struct {
	names []string
	files []*settings.File
}

func (s *sources) add(name string, text []byte) error {
	file, err := settings.ReadFile(text)
	if err == nil {
		s.names, s.files = append(s.names, name), append(s.files, file)
	}
	return err
}

// read adds files.
func (s *sources) read(files []string) error {
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := s.add(name, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// held are the ConfigMaps in the order in which they override each other.
func (s *sources) held(names []string) ([]*v1.ConfigMap, error) {
	var all []*v1.ConfigMap
	for _, f := range s.files {
		all = append(all, f.ConfigMaps...)
	}
	return settings.Ordered(all, names...)
}

// merged is what the files say together; an error if it would be refused.
func (s *sources) merged(names []string) (settings.Merged, error) {
	held, err := s.held(names)
	if err != nil {
		return settings.Merged{}, err
	}
	if err := settings.Refusal(settings.Validate(held...)); err != nil {
		return settings.Merged{}, err
	}
	return settings.Merge(held...)
}

// validate returns what is wrong with the files together, each mistake in the file that has it.
func (s *sources) validate(names []string) ([]mistake, error) {
	if len(s.files) == 0 {
		return nil, nil
	}
	held, err := s.held(names)
	if err != nil {
		return nil, err
	}
	var all []mistake
	for i, f := range s.files {
		for _, p := range f.Problems {
			all = append(all, mistake{File: s.names[i], FileLine: f.Line(p.ConfigMap, p.Key, 1), Problem: p})
		}
	}
	for _, p := range settings.Validate(held...) {
		all = append(all, s.place(p))
	}
	return all, nil
}

// place finds the file of a problem, and its line there.
func (s *sources) place(p settings.Problem) mistake {
	for i, f := range slices.Backward(s.files) {
		if line := f.Line(p.ConfigMap, p.Key, p.Line); line > 0 {
			return mistake{File: s.names[i], FileLine: line, Problem: p}
		}
	}
	for i, f := range slices.Backward(s.files) {
		if slices.ContainsFunc(f.ConfigMaps, func(cm *v1.ConfigMap) bool { return cm.Name == p.ConfigMap }) {
			return mistake{File: s.names[i], Problem: p}
		}
	}
	return mistake{File: s.names[len(s.names)-1], Problem: p}
}

// clusterFlags say where a cluster keeps the ConfigMaps.
type clusterFlags struct {
	kubeconfig *string
	namespace  string
}

func kubeconfigFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("kubeconfig", "", "kubeconfig `FILE`, instead of what kubectl would use")
}

// restConfig says how to reach the API server that kubectl would ask.
func restConfig(kubeconfig string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
}

func addClusterFlags(cmd *cobra.Command) *clusterFlags {
	f := &clusterFlags{kubeconfig: kubeconfigFlag(cmd)}
	cmd.Flags().StringVar(&f.namespace, "namespace", config.DefaultNamespace, "`NAME` of the namespace of the ConfigMaps")
	return f
}

// live reads the ConfigMaps of a cluster, in their order; nil is for one that is not there.
func (f clusterFlags) live(ctx context.Context, names []string) ([]*v1.ConfigMap, error) {
	at, err := restConfig(*f.kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := corev1client.NewForConfig(at)
	if err != nil {
		return nil, err
	}
	held := make([]*v1.ConfigMap, len(names))
	for i, name := range names {
		cm, err := client.ConfigMaps(f.namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case err == nil:
			held[i] = cm
		case !apierrors.IsNotFound(err):
			return nil, fmt.Errorf("ConfigMap %s/%s: %w", f.namespace, name, err)
		}
	}
	if !slices.ContainsFunc(held, func(cm *v1.ConfigMap) bool { return cm != nil }) {
		return nil, fmt.Errorf("namespace %s: %w", f.namespace, settings.ErrNoConfiguration)
	}
	return held, nil
}
