package engine_test

import (
	"strings"
	"testing"

	"github.com/understudy-ha/understudy/coordinator/engine"
)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		data map[string]string
		want []string // parts of the error; none for no error
	}{
		{name: "nothing"},
		{name: "queues", data: map[string]string{"queues.yaml": quotaQueues}},
		{name: "empty queues select the default", data: map[string]string{"queues.yaml": "\n"}},
		{name: "other components' keys", data: map[string]string{"service.schedulingInterval": "1s", "admissionController.x": "y"}},
		{name: "levels", data: map[string]string{"log.level": "INFO", "log.core.scheduler.level": "-1"}},
		{
			name: "every mistake is named",
			data: map[string]string{
				"queues.yaml":           "partitions:\n  - name: default\n    queues:\n      - name: root\n        resources: {max: {vcore: many}}\n",
				"log.level":             "LOUD",
				"event.trackingEnabled": "maybe",
				"event.requestCapacity": "-1",
				"health.checkInterval":  "often",
			},
			want: []string{"queues.yaml: ", "log.level: ", "LOUD", "event.trackingEnabled: ", "event.requestCapacity: ", "health.checkInterval: "},
		},
		{name: "unknown field", data: map[string]string{"queues.yaml": "partitions: [{name: default, quues: []}]"}, want: []string{"quues"}},
		{name: "queues of a comment alone", data: map[string]string{"queues.yaml": "# none yet\n"}, want: []string{`queues.yaml: there is no partition "default"`}},
		{
			name: "another partition alone",
			data: map[string]string{"queues.yaml": "partitions: [{name: gpu, queues: [{name: root}]}]"}, want: []string{`there is no partition "default"`},
		},
		{name: "partitions without a name are that", data: map[string]string{"queues.yaml": "partitions: [{queues: [{name: root}]}]"}},
		{name: "not yaml", data: map[string]string{"queues.yaml": "{"}, want: []string{"queues.yaml"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := engine.Validate(tt.data)
			if (err != nil) != (len(tt.want) > 0) {
				t.Fatalf("got %v", err)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestConfigValidate(t *testing.T) {
	if err := engine.Default().Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	err := engine.Config{RMID: "[x]"}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"rmID", "policyGroup", "explainInterval", "completeAfter"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%q does not name %s", err, field)
		}
	}
}
