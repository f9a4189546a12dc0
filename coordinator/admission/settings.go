package admission

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/coordinator/settings"
)

// The keys of the ConfigMaps that are read here.
const (
	keyProcess    = settings.KeyProcessNamespaces
	keyBypass     = settings.KeyBypassNamespaces
	keyLabel      = settings.KeyLabelNamespaces
	keyNoLabel    = settings.KeyNoLabelNamespaces
	keyUnique     = settings.KeyUniqueAppID
	keyBypassAuth = settings.KeyBypassAuth
	keyTrust      = settings.KeyTrustControllers
	keySystem     = settings.KeySystemUsers
	keyUsers      = settings.KeyExternalUsers
	keyGroups     = settings.KeyExternalGroups
	keyHotRefresh = settings.KeyHotRefresh
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
	return settings.Default(key)
}

func (r *reader) patterns(key string) Patterns {
	patterns, err := settings.CompilePatterns(r.value(key))
	if err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %w; the default %q counts instead", key, err, settings.Default(key)))
		patterns, _ = settings.CompilePatterns(settings.Default(key)) // a test compiles them
	}
	return patterns
}

func (r *reader) boolean(key string) bool {
	value, err := strconv.ParseBool(strings.TrimSpace(r.value(key)))
	if err != nil {
		r.wrong = append(r.wrong, fmt.Errorf("%s: %q is neither true nor false; the default %s counts instead", key, r.value(key), settings.Default(key)))
		value, _ = strconv.ParseBool(settings.Default(key))
	}
	return value
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
