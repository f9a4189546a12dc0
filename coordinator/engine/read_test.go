package engine

import (
	"runtime/debug"
	"testing"
)

// TestBuildInfoHasTheKeysOfTheShim: YuniKorn's clients look for these, and the core adds rmId.
func TestBuildInfoHasTheKeysOfTheShim(t *testing.T) {
	module := func(path, version string) *debug.Module { return &debug.Module{Path: path, Version: version} }
	si := module("github.com/apache/yunikorn-scheduler-interface", "v1.9.0-0")
	si.Replace = module(si.Path, "v1.9.0")
	info := buildInfo("v1", &debug.BuildInfo{
		Deps:     []*debug.Module{module("github.com/apache/yunikorn-core", "v1.9.0"), si, module("example.com/core", "v2")},
		Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "now"}, {Key: "vcs.revision", Value: "abc"}},
	})
	for key, want := range map[string]string{
		"buildVersion": "v1", "buildDate": "now", "isPluginVersion": "false", "coreSHA": "v1.9.0", "siSHA": "v1.9.0", "shimSHA": "abc",
	} {
		if info[key] != want {
			t.Errorf("%s is %q, want %q", key, info[key], want)
		}
	}
	if info["goVersion"] == "" || info["arch"] == "" || len(info) != 8 {
		t.Errorf("got %v", info)
	}
	if got := buildInfo("v1", nil); len(got) != 4 {
		t.Errorf("of a build that knows nothing: %v", got)
	}
}
