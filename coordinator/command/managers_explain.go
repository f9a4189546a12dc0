package command

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/yaml"

	"github.com/understudy-ha/understudy/coordinator/config"
	"github.com/understudy-ha/understudy/coordinator/managers/custom"
)

func (c command) explain() *cobra.Command {
	var manifest, name, crd, schedulerName, userLabel string
	cmd := &cobra.Command{
		Use:   "explain (FILE | PRESET) --manifest FILE",
		Short: "Show what a definition says of objects, without a cluster",
		Long: `Show which application a definition of a custom manager makes of each object in
a manifest. FILE holds the definition alone, or is a configuration file with the
manager in it. The presets are ` + strings.Join(custom.Presets(), ", ") + `.

The status is 1 if the definition has a mistake or fails over an object.`,
		Example: `  understudy managers explain jobset --manifest my-jobset.yaml
  understudy managers explain config.yaml --name things --manifest thing.yaml --crd crd.yaml -o yaml`,
		Args:                  args(cobra.ExactArgs(1)),
		DisableFlagsInUseLine: true,
	}
	defaults := config.Default()
	cmd.Flags().StringVar(&manifest, "manifest", "", "`FILE` with objects, in YAML or JSON; - for standard input")
	cmd.Flags().StringVar(&name, "name", "", "name of the manager in a configuration file")
	cmd.Flags().StringVar(&crd, "crd", "", "`FILE` with the CustomResourceDefinition, to check the definition against its schema")
	cmd.Flags().StringVar(&schedulerName, "scheduler-name", defaults.SchedulerName, "schedulerName of the pods to schedule")
	cmd.Flags().StringVar(&userLabel, "user-label", defaults.Workload.UserLabel, "key of the label that names the user")
	format := outputFlag(cmd, "table", "yaml", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		want, err := format()
		if err != nil {
			return err
		}
		if manifest == "" {
			return usagef("--manifest is missing: name a file with objects")
		}
		program, definition, err := compiled(args[0], name, crd)
		if err != nil {
			return err
		}
		objects, err := objectsOf(cmd.InOrStdin(), manifest, definition)
		if err != nil {
			return err
		}
		return c.printExplained(program, objects, custom.Surroundings{SchedulerName: schedulerName, UserLabel: userLabel}, want)
	}
	return cmd
}

// compiled reads and compiles the definition that is meant.
func compiled(from, name, crd string) (*custom.Program, custom.Definition, error) {
	called, definition, err := definitionOf(from, name)
	if err != nil {
		return nil, definition, err
	}
	schema, err := schemaOf(crd, definition)
	if err != nil {
		return nil, definition, err
	}
	program, err := custom.Compile(called, definition, schema)
	return program, definition, err
}

// definitionOf returns the definition in a file, or the preset of that name.
func definitionOf(from, name string) (called string, d custom.Definition, err error) {
	data, err := os.ReadFile(from)
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(custom.Presets(), from) {
		d, err = custom.Preset(from)
		return from, d, err
	}
	if err != nil {
		return "", d, err
	}
	var head metav1.TypeMeta
	if yaml.Unmarshal(data, &head) == nil && head.APIVersion == config.APIVersion && head.Kind == config.Kind {
		return definitionIn(data, from, name)
	}
	d, err = custom.Parse(data)
	if err != nil {
		return "", d, fmt.Errorf("%s: %w", from, err)
	}
	return cmp.Or(name, strings.ToLower(d.Kind)), d, nil
}

// definitionIn returns the definition in a configuration file: that of the manager of the
// name, or the only one.
func definitionIn(data []byte, file, name string) (called string, d custom.Definition, err error) {
	cfg, err := config.Parse(data)
	if err != nil {
		return "", d, fmt.Errorf("%s: %w", file, err)
	}
	var found []config.Manager
	for _, m := range cfg.Managers {
		if m.Type == custom.Type && (name == "" || m.Name == name) {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		return "", d, usagef("%s has %d managers of the type %s that may be meant: name one with --name", file, len(found), custom.Type)
	}
	d, err = custom.Decode(found[0].Decode)
	if err != nil {
		return "", d, fmt.Errorf("%s: manager %s: %w", file, found[0].Name, err)
	}
	return found[0].Name, d, nil
}

// schemaOf returns the schema that a CRD has of the objects of a definition; nil without a
// CRD.
func schemaOf(file string, d custom.Definition) (*spec.Schema, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var crd apiextensions.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for i := range crd.Spec.Versions {
		version := &crd.Spec.Versions[i]
		if crd.Spec.Names.Kind != d.Kind || crd.Spec.Group+"/"+version.Name != d.APIVersion || version.Schema == nil {
			continue
		}
		text, err := json.Marshal(version.Schema.OpenAPIV3Schema)
		if err != nil {
			return nil, err
		}
		schema := &spec.Schema{}
		return schema, json.Unmarshal(text, schema)
	}
	return nil, fmt.Errorf("%s is not the CustomResourceDefinition of %s, Kind=%s", file, d.APIVersion, d.Kind)
}

// objectsOf returns the objects in a manifest that are of the kind of a definition.
func objectsOf(in io.Reader, file string, d custom.Definition) ([]*unstructured.Unstructured, error) {
	all, err := objectsIn(in, file)
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	var others []string
	for _, object := range all {
		if object.GetAPIVersion() == d.APIVersion && object.GetKind() == d.Kind {
			objects = append(objects, object)
		} else {
			others = append(others, object.GroupVersionKind().String())
		}
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("%s has no %s, Kind=%s, but %s", file, d.APIVersion, d.Kind, cmp.Or(strings.Join(others, "; "), "nothing"))
	}
	return objects, nil
}

// objectsIn returns the objects in a manifest; in is read for the file "-".
func objectsIn(in io.Reader, file string) ([]*unstructured.Unstructured, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(in, 4096)
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if raw = bytes.TrimSpace(raw); len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if object.GetNamespace() == "" {
			object.SetNamespace(metav1.NamespaceDefault) // where kubectl puts it
		}
		objects = append(objects, object)
	}
}

// explained is what is shown of one object.
type explained struct {
	Definition string `json:"definition"`
	Object     string `json:"object"`
	// Error is why the object does not count; Matches is false for one that is not for
	// the manager. Nothing else is shown then.
	Error         string           `json:"error,omitempty"`
	Matches       bool             `json:"matches"`
	ApplicationID string           `json:"applicationID,omitempty"`
	Begins        string           `json:"begins,omitempty"`
	Queue         string           `json:"queue,omitempty"`
	User          string           `json:"user,omitempty"`
	Phase         string           `json:"phase,omitempty"`
	Message       string           `json:"message,omitempty"`
	GangStyle     string           `json:"gangStyle,omitempty"`
	Groups        []explainedGroup `json:"groups,omitempty"`
	Warnings      []string         `json:"warnings,omitempty"`
}

type explainedGroup struct {
	Name        string            `json:"name"`
	MinMember   int32             `json:"minMember"`
	MinResource map[string]string `json:"minResource,omitempty"`
}

func (c command) printExplained(program *custom.Program, objects []*unstructured.Unstructured, in custom.Surroundings, format string) error {
	var list []explained
	failed := 0
	for _, object := range objects {
		one := explainOne(program, object, in)
		if one.Error != "" {
			failed++
		}
		list = append(list, one)
	}
	var err error
	switch format {
	case "json":
		err = printJSON(c.out, list)
	case "yaml":
		var text []byte
		if text, err = yaml.Marshal(list); err == nil {
			_, err = c.out.Write(text)
		}
	default:
		err = explainedTable(c.out, list)
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d objects cannot be evaluated", failed, len(objects))
	}
	return err
}

func explainOne(program *custom.Program, object *unstructured.Unstructured, in custom.Surroundings) explained {
	out := explained{Definition: program.Name(), Object: object.GetNamespace() + "/" + object.GetName()}
	said, err := program.Evaluate(object, in)
	if err != nil {
		out.Error = err.Error()
		return out
	}
	if out.Matches = said.Matches; !said.Matches {
		return out
	}
	app := said.App
	out.ApplicationID, out.Queue, out.User = app.ApplicationID, app.QueueName, app.User
	out.Phase, out.Message, out.Warnings = string(said.Phase), said.Message, said.Warnings
	out.Begins = "with its first pod"
	if said.Scheduled {
		out.Begins = "with the object"
	}
	for i := range app.TaskGroups {
		g := explainedGroup{Name: app.TaskGroups[i].Name, MinMember: app.TaskGroups[i].MinMember}
		for name, quantity := range app.TaskGroups[i].MinResource {
			if g.MinResource == nil {
				g.MinResource = make(map[string]string)
			}
			g.MinResource[name] = quantity.String()
		}
		out.Groups = append(out.Groups, g)
	}
	if len(out.Groups) > 0 {
		out.GangStyle = app.SchedulingPolicyParameters.GetGangSchedulingStyle()
	}
	return out
}

func explainedTable(w io.Writer, list []explained) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row(t, "OBJECT", "APPLICATION", "BEGINS", "QUEUE", "USER", "PHASE", "MESSAGE")
	for _, e := range list {
		switch {
		case e.Error != "":
			row(t, e.Object, "-", "-", "-", "-", "-", "-")
		case !e.Matches:
			row(t, e.Object, "not for this manager", "-", "-", "-", "-", "-")
		default:
			row(t, e.Object, e.ApplicationID, e.Begins, cmp.Or(e.Queue, "-"), e.User, e.Phase, cmp.Or(e.Message, "-"))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, e := range list {
		for _, line := range slices.Concat(e.Warnings, []string{e.Error}) {
			if line != "" {
				fmt.Fprintf(w, "! %s: %s\n", e.Object, line)
			}
		}
	}
	if !slices.ContainsFunc(list, func(e explained) bool { return len(e.Groups) > 0 }) {
		return nil
	}
	fmt.Fprintln(w)
	row(t, "OBJECT", "GROUP", "MEMBERS", "EACH", "STYLE")
	for _, e := range list {
		for _, g := range e.Groups {
			var each []string
			for name, quantity := range g.MinResource {
				each = append(each, name+"="+quantity)
			}
			slices.Sort(each)
			row(t, e.Object, g.Name, fmt.Sprint(g.MinMember), cmp.Or(strings.Join(each, ","), "-"), e.GangStyle)
		}
	}
	return t.Flush()
}
