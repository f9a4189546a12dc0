package settings

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/apache/yunikorn-core/pkg/common/configs"
)

// schemaID is where the schema is to be found.
const schemaID = "https://raw.githubusercontent.com/understudy-ha/understudy/main/docs/queues.schema.json"

// node is a part of a JSON schema.
type node = map[string]any

// Schema returns a JSON schema (2020-12) of queues.yaml, made from the types of the core. It
// refuses what the YAML library would refuse, and values that are wrong by themselves; what only
// the core can tell, Validate says.
func Schema() ([]byte, error) {
	defs := make(node)
	root := schemaOf(reflect.TypeFor[configs.SchedulerConfig](), "", defs)
	root = defs[strings.TrimPrefix(root["$ref"].(string), "#/$defs/")].(node)
	delete(defs, "schedulerconfig")
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = schemaID
	root["title"] = "Queues of YuniKorn"
	root["$defs"] = defs
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(root)
	return b.Bytes(), err
}

// schemaOf describes a type; structs go to the definitions.
func schemaOf(t reflect.Type, field string, defs node) node {
	if rule, ok := rules[field]; ok {
		return rule()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), field, defs)
	case reflect.Slice:
		return node{"type": "array", "items": schemaOf(t.Elem(), field+"[]", defs)}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": schemaOf(t.Elem(), field+"{}", defs)}
	case reflect.Struct:
		name := strings.ToLower(t.Name())
		if _, done := defs[name]; !done {
			fields := make(node)
			defs[name] = node{"type": "object", "additionalProperties": false, "properties": fields}
			for i := range t.NumField() {
				f := t.Field(i)
				at := t.Name() + "." + fieldName(f)
				one := schemaOf(f.Type, at, defs)
				if text, ok := descriptions[at]; ok {
					one["description"] = text
				}
				fields[fieldName(f)] = one
			}
		}
		return node{"$ref": "#/$defs/" + name}
	case reflect.Bool:
		return node{"type": "boolean"}
	case reflect.Uint64:
		return node{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return node{"type": "number"}
	}
	return text()
}

// text is a string, which YAML takes from a number too.
func text() node { return node{"type": []string{"string", "integer"}} }

// amounts are quantities by the names of resources.
func amounts() node {
	amount := text()
	amount["pattern"], amount["minimum"] = `^\s*[0-9]+\s*([mkKMGTPE]i?)?\s*$`, 0
	return node{"type": "object", "additionalProperties": amount}
}

// oneOf offers words, and takes what is like them but for the case of letters.
func oneOf(words ...string) node {
	var patterns []string
	for _, word := range words {
		var p strings.Builder
		for _, letter := range word {
			p.WriteString("[" + strings.ToUpper(string(letter)) + string(letter) + "]")
		}
		patterns = append(patterns, p.String())
	}
	return node{"anyOf": []node{{"enum": words}, {"type": "string", "pattern": "^(" + strings.Join(patterns, "|") + ")$"}}}
}

// rules are for fields of which there is more to say than their type.
var rules = map[string]func() node{
	"QueueConfig.name":                                 name,
	"QueueConfig.properties":                           queueProperties,
	"ChildTemplate.properties":                         queueProperties,
	"Resources.guaranteed":                             amounts,
	"Resources.max":                                    amounts,
	"Limit.maxresources":                               amounts,
	"PlacementRule.name":                               func() node { return oneOf("fixed", "user", "provided", "tag", "test") },
	"Filter.type":                                      func() node { return oneOf("", "allow", "deny") },
	"NodeSortingPolicy.type":                           func() node { return node{"enum": []string{"", "fair", "binpacking"}} },
	"NodeSortingPolicy.resourceweights{}":              func() node { return node{"type": "number", "minimum": 0} },
	"UserGroupResolver.type":                           func() node { return node{"type": "string", "enum": []string{"", "os", "ldap"}} },
	"PartitionPreemptionConfig.enabled":                func() node { return node{"type": "boolean", "default": true} },
	"PartitionPreemptionConfig.quotapreemptionenabled": func() node { return node{"type": "boolean", "default": false} },
}

func name() node {
	n := text()
	n["pattern"] = configs.QueueNameRegExp.String()
	return n
}

// queueProperties describes those that the core reads; it takes others and ignores them.
func queueProperties() node {
	fields := make(node)
	scalar := []string{"string", "number", "boolean"}
	for _, p := range properties {
		one := node{"type": scalar, "description": p.meaning, "default": p.standard}
		if len(p.values) > 0 {
			one["examples"] = p.values
		}
		fields[p.name] = one
	}
	return node{"type": "object", "properties": fields, "additionalProperties": node{"type": scalar}}
}

// descriptions are shown by editors.
var descriptions = map[string]string{
	"SchedulerConfig.partitions":        "Only the partition \"default\" is scheduled.",
	"SchedulerConfig.checksum":          "Not read.",
	"PartitionConfig.name":              "\"default\", or empty for the same.",
	"PartitionConfig.queues":            "The tree of queues; unless there is one called root, it is put above.",
	"PartitionConfig.placementrules":    "Rules that say into which queue an application goes; the first that finds one counts.",
	"PartitionConfig.limits":            "Limits of root.",
	"QueueConfig.name":                  "Without the names of the queues above. Capitals count as small letters.",
	"QueueConfig.parent":                "Whether queues may be made below; so if it has queues.",
	"QueueConfig.maxapplications":       "How many applications may run; 0 means any number.",
	"QueueConfig.adminacl":              "Who may manage: users, a space, groups, with commas between; * means everybody.",
	"QueueConfig.submitacl":             "Who may submit: users, a space, groups, with commas between; * means everybody.",
	"QueueConfig.childtemplate":         "What queues get that are made below by placement rules.",
	"Resources.guaranteed":              "What preemption by others leaves; vcore may be given with m, others with k, Ki, M, Mi …",
	"Resources.max":                     "No more than this is used.",
	"Limit.limit":                       "A description.",
	"Limit.users":                       "Names, or * for everybody else, which comes last.",
	"Limit.groups":                      "Names, or * for everybody else, which comes last and not alone.",
	"PlacementRule.create":              "Whether the rule may make a queue.",
	"PlacementRule.value":               "The queue of the rule fixed, the tag of the rule tag, such as namespace.",
	"PlacementRule.parent":              "The rule that finds the queue above.",
	"Filter.users":                      "Names; a single entry may be a regular expression.",
	"Filter.groups":                     "Names; a single entry may be a regular expression.",
	"NodeSortingPolicy.type":            "fair spreads pods over nodes, binpacking fills nodes.",
	"UserGroupResolver.type":            "Where groups come from of users whose pods name none; empty means the group of their own name.",
	"PartitionConfig.nodesortpolicy":    "In which order nodes are tried.",
	"PartitionConfig.preemption":        "Whether pods may be stopped for others, and for a quota that has become smaller.",
	"QueueConfig.properties":            "What else there is to a queue; queues below inherit most of it.",
	"PartitionConfig.usergroupresolver": "Read once: a change takes effect by a hand-over.",
}
