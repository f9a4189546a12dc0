package application

import (
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/understudy-ha/understudy/coordinator/workload"
	"github.com/understudy-ha/understudy/protocol"
	"github.com/understudy-ha/understudy/protocol/v1alpha1"
)

// readSpec takes over what the spec of an object says. The schema of the CRD keeps most
// mistakes out; one that was installed by somebody else may have none. What is not of the
// type that is meant counts as absent.
func readSpec(object *unstructured.Unstructured, app *protocol.ApplicationMetadata) (found []workload.Problem) {
	bad := func(field, format string, args ...any) {
		found = append(found, workload.Problem{Key: field, Message: fmt.Sprintf(format, args...)})
	}
	raw, there := object.Object["spec"]
	spec, ok := raw.(map[string]any)
	if there && !ok {
		bad("spec", "is ignored: it is no object")
	}
	if value, there := spec["queue"]; there {
		queue, ok := value.(string)
		if !ok {
			bad("spec.queue", "is ignored: it is no string")
		} else if queue != "" {
			app.QueueName = queue
		}
	}
	if value, there := spec["taskGroups"]; there {
		groups, err := decodeGroups(value)
		if err != nil {
			bad("spec.taskGroups", "no gang is scheduled: %v", err)
		}
		app.TaskGroups = groups
	}
	parameters, problems := readParameters(spec["schedulingPolicy"])
	found = append(found, problems...)
	if len(parameters) > 0 {
		policy, problems := workload.ParsePolicy(fieldParameters, parameters)
		app.SchedulingPolicyParameters, found = policy, append(found, problems...)
	}
	return found
}

const fieldParameters = "spec.schedulingPolicy.parameters"

func decodeGroups(value any) ([]v1alpha1.TaskGroup, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return workload.DecodeTaskGroups(string(data))
}

// readParameters returns the parameters of a policy. A number or a boolean is as good as
// the string of it.
func readParameters(policy any) (parameters map[string]string, found []workload.Problem) {
	if policy == nil {
		return nil, nil
	}
	fields, ok := policy.(map[string]any)
	if !ok {
		return nil, []workload.Problem{{Key: "spec.schedulingPolicy", Message: "is ignored: it is no object"}}
	}
	if fields["parameters"] == nil {
		return nil, nil
	}
	values, ok := fields["parameters"].(map[string]any)
	if !ok {
		return nil, []workload.Problem{{Key: fieldParameters, Message: "are ignored: they are no object"}}
	}
	parameters = make(map[string]string, len(values))
	for key, value := range values {
		switch value.(type) {
		case string, bool, int64, float64:
			parameters[key] = fmt.Sprint(value)
		default:
			found = append(found, workload.Problem{Key: fieldParameters, Message: fmt.Sprintf("%.64q is skipped: its value is no string", key)})
		}
	}
	return parameters, found
}

// trim leaves of an object what the manager reads.
func trim(object *unstructured.Unstructured) {
	status, known := statusOf(object), map[string]any{}
	for field, value := range map[string]string{
		fieldAppID: status.AppID, fieldState: string(status.ApplicationState), fieldMessage: status.Message,
	} {
		if value != "" {
			known[field] = cut(value, maxMessage+1) // longer than any that is written
		}
	}
	delete(object.Object, "status")
	if len(known) > 0 {
		object.Object["status"] = known
	}
	for field := range object.Object {
		switch field {
		case "apiVersion", "kind", "metadata", "spec", "status":
		default:
			delete(object.Object, field)
		}
	}
}
