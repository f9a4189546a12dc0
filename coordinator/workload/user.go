package workload

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// userInfo is the content of AnnotationUserInfo.
type userInfo struct {
	User   string   `json:"user"`
	Groups []string `json:"groups,omitempty"`
}

// ParseUserInfo reads a value of AnnotationUserInfo.
func ParseUserInfo(value string) (user string, groups []string, err error) {
	var info userInfo
	if err := json.Unmarshal([]byte(value), &info); err != nil {
		return "", nil, err
	}
	info.User = strings.TrimSpace(info.User)
	if info.User == "" {
		return "", nil, errors.New("no user is named")
	}
	return info.User, slices.DeleteFunc(info.Groups, func(g string) bool { return g == "" }), nil
}

// Groups returns the groups of an application's user, from its tags.
func Groups(tags map[string]string) []string {
	_, groups, err := ParseUserInfo(tags[AnnotationUserInfo])
	if err != nil {
		return nil
	}
	return groups
}

// parseUser returns who a pod is accounted to, and the raw annotation if that
// is where it was read.
func parseUser(pod *v1.Pod, userLabel string, found *problems) (user string, groups []string, info string) {
	if value, ok := pod.Annotations[AnnotationUserInfo]; ok {
		user, groups, err := ParseUserInfo(value)
		if err == nil {
			return user, groups, value
		}
		found.add(AnnotationUserInfo, "%s is ignored: %v", shown(value), err)
	}
	if user = strings.TrimSpace(pod.Labels[userLabel]); user != "" {
		return user, nil, ""
	}
	return DefaultUser, nil, ""
}
