package admission

import (
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// escapes is what encoding/json, and so YuniKorn's admission controller, writes into a string
// for what cannot stand there, in the order in which it has to be replaced: where that
// controller has named a user, the guard knows the text again. The policies make the same
// text with CEL, which has no JSON: see celUserInfo.
func escapes() [][2]string {
	list := [][2]string{{`\`, `\\`}, {`"`, `\"`}, {"\b", `\b`}, {"\f", `\f`}, {"\n", `\n`}, {"\r", `\r`}, {"\t", `\t`}}
	for c := range 0x20 {
		list = append(list, [2]string{string(rune(c)), fmt.Sprintf(`\u%04x`, c)})
	}
	for _, c := range "<>&\u2028\u2029" {
		list = append(list, [2]string{string(c), fmt.Sprintf(`\u%04x`, c)})
	}
	return list
}

func quote(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	for _, e := range escapes() {
		text = strings.ReplaceAll(text, e[0], e[1])
	}
	return `"` + text + `"`
}

// userInfo is the annotation that names a requester.
func userInfo(who authenticationv1.UserInfo) string {
	groups := make([]string, len(who.Groups))
	for i, g := range who.Groups {
		groups[i] = quote(g)
	}
	return `{"user":` + quote(who.Username) + `,"groups":[` + strings.Join(groups, ",") + `]}`
}

// mayName says why a requester may write that user.info, or returns the message of a
// refusal.
func (r Rules) mayName(who authenticationv1.UserInfo, value string) (why, refusal string) {
	key, trusted := r.Settings.trusts(who.Username, who.Groups)
	switch {
	case value == userInfo(who):
		// A webhook that is asked again finds what it wrote itself.
		return "names the requester", ""
	case !trusted:
		return "", fmt.Sprintf("user %s with groups [%s] is not allowed to set user annotation", who.Username, strings.Join(who.Groups, ","))
	}
	if _, _, err := workload.ParseUserInfo(value); err != nil {
		return "", fmt.Sprintf("invalid user annotation %s: %v", workload.AnnotationUserInfo, err)
	}
	return key, ""
}
