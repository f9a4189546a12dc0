package admission

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The keys of the ConfigMaps that are read here. Those that only name where YuniKorn's
// admission controller and its scheduler find each other mean nothing here.
const (
	keyPrefix = "admissionController."

	keyProcess    = keyPrefix + "filtering.processNamespaces"
	keyBypass     = keyPrefix + "filtering.bypassNamespaces"
	keyLabel      = keyPrefix + "filtering.labelNamespaces"
	keyNoLabel    = keyPrefix + "filtering.noLabelNamespaces"
	keyUnique     = keyPrefix + "filtering.generateUniqueAppId"
	keyBypassAuth = keyPrefix + "accessControl.bypassAuth"
	keyTrust      = keyPrefix + "accessControl.trustControllers"
	keySystem     = keyPrefix + "accessControl.systemUsers"
	keyUsers      = keyPrefix + "accessControl.externalUsers"
	keyGroups     = keyPrefix + "accessControl.externalGroups"
	keyService    = keyPrefix + "webHook.amServiceName"
	keyScheduler  = keyPrefix + "webHook.schedulerServiceAddress"

	keyHotRefresh = "service.enableConfigHotRefresh"
)

// Patterns are the regular expressions of one key. A text matches if one of them matches
// any part of it.
type Patterns []*regexp.Regexp

func (p Patterns) match(text string) bool {
	return slices.ContainsFunc(p, func(r *regexp.Regexp) bool { return r.MatchString(text) })
}

// Settings are what the ConfigMaps say of admission.
type Settings struct {
	Process, Bypass, Label, NoLabel Patterns
	// GenerateUniqueAppID gives each pod that names no application one of its own.
	GenerateUniqueAppID bool
	// BypassAuth leaves the annotation user.info alone.
	BypassAuth bool
	// TrustControllers lets SystemUsers name another user.
	TrustControllers                           bool
	SystemUsers, ExternalUsers, ExternalGroups Patterns
	// HotRefresh is false for a configuration that is not read again.
	HotRefresh bool
}

// defaults are YuniKorn's.
var defaults = map[string]string{
	keyProcess: "", keyBypass: "^kube-system$", keyLabel: "", keyNoLabel: "", keyUnique: "false",
	keyBypassAuth: "false", keyTrust: "true", keySystem: "^system:serviceaccount:kube-system:", keyUsers: "", keyGroups: "",
	keyService: "yunikorn-admission-controller-service", keyScheduler: "yunikorn-service:9080", keyHotRefresh: "true",
}

// ReadSettings reads the merged data of the ConfigMaps. A value that cannot be read counts
// as its default, as it does in YuniKorn, and an error names its key.
func ReadSettings(data map[string]string) (Settings, []error) {
	r := reader{data: data}
	s := Settings{
		Process: r.patterns(keyProcess), Bypass: r.patterns(keyBypass), Label: r.patterns(keyLabel), NoLabel: r.patterns(keyNoLabel),
		GenerateUniqueAppID: r.boolean(keyUnique), BypassAuth: r.boolean(keyBypassAuth), TrustControllers: r.boolean(keyTrust),
		SystemUsers: r.patterns(keySystem), ExternalUsers: r.patterns(keyUsers), ExternalGroups: r.patterns(keyGroups),
		HotRefresh: r.boolean(keyHotRefresh),
	}
	return s, r.wrong
}

type reader struct {
	data  map[string]string
	wrong []error
}

func (r *reader) value(key string) string {
	if value, ok := r.data[key]; ok {
		return value
	}
	return defaults[key]
}

func (r *reader) patterns(key string) Patterns {
	patterns, err := compile(r.value(key))
	if err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %w; the default %q counts instead", key, err, defaults[key]))
		patterns, _ = compile(defaults[key]) // a test compiles them
	}
	return patterns
}

func (r *reader) boolean(key string) bool {
	value, err := strconv.ParseBool(strings.TrimSpace(r.value(key)))
	if err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %q is neither true nor false; the default %s counts instead", key, r.value(key), defaults[key]))
		value, _ = strconv.ParseBool(defaults[key])
	}
	return value
}

// compile reads regular expressions that commas separate.
func compile(list string) (Patterns, error) {
	var patterns Patterns
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		pattern, err := regexp.Compile(part)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, pattern)
	}
	return patterns, nil
}

// trusts reports whether a requester may name another user, and by which key.
func (s Settings) trusts(user string, groups []string) (key string, ok bool) {
	switch {
	case s.TrustControllers && s.SystemUsers.match(user):
		return keySystem, true
	case s.ExternalUsers.match(user):
		return keyUsers, true
	case slices.ContainsFunc(groups, s.ExternalGroups.match):
		return keyGroups, true
	}
	return "", false
}
