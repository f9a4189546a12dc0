package admission

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/understudy-ha/understudy/coordinator/workload"
)

// What is said here in CEL has to be what the rules say in Go: a test compares them.

func celString(text string) string { return strconv.QuoteToASCII(text) }

// celMatch is true if a text matches one of the patterns.
func celMatch(text string, patterns Patterns) string {
	if len(patterns) == 0 {
		return "false"
	}
	parts := make([]string, len(patterns))
	for i, p := range patterns {
		parts[i] = text + ".matches(" + celString(p.String()) + ")"
	}
	return "(" + strings.Join(parts, " || ") + ")"
}

// celByName is what patterns say of the namespace of the request: see choose.
func celByName(in, out Patterns) string {
	decides := "!" + celMatch("request.namespace", out)
	if len(in) > 0 {
		decides = celMatch("request.namespace", in) + " && " + decides
	}
	return "(" + decides + ")"
}

// celChoose is choose.
func celChoose(annotation string, in, out Patterns) string {
	says := "namespaceObject.metadata.?annotations[?" + celString(annotation) + "].orValue('')"
	return fmt.Sprintf("%[1]s == 'true' || %[1]s != 'false' && %[2]s", says, celByName(in, out))
}

func celQuote(text string) string {
	for _, e := range escapes() {
		text += ".replace(" + celString(e[0]) + ", " + celString(e[1]) + ")"
	}
	return `'"' + ` + text + ` + '"'`
}

// celUserInfo is userInfo of the requester.
func celUserInfo() string {
	return `'{"user":' + ` + celQuote("request.userInfo.username") +
		` + ',"groups":[' + request.userInfo.?groups.orValue([]).map(g, ` + celQuote("g") + `).join(',') + ']}'`
}

// celTrusted is Settings.trusts.
func celTrusted(s Settings) string {
	const user = "request.userInfo.username"
	var parts []string
	if s.TrustControllers {
		parts = append(parts, celMatch(user, s.SystemUsers))
	}
	parts = append(parts, celMatch(user, s.ExternalUsers), "request.userInfo.?groups.orValue([]).exists(g, "+celMatch("g", s.ExternalGroups)+")")
	return strings.Join(parts, " || ")
}

// celValues is the list of what a place of an object has for user.info, with empty texts
// for templates that have none.
func celValues(object string, p Place) string {
	at, depth := object, 0
	var closing string
	var expr strings.Builder
	for _, part := range p.Within {
		switch part {
		case everyItem, everyKey:
			depth++
			v := "v" + strconv.Itoa(depth)
			if part == everyItem {
				expr.WriteString(at + ".orValue([]).map(" + v + ", ")
				at = v
			} else {
				expr.WriteString(at + ".orValue({}).map(" + v + ", ")
				at += ".orValue({})[?" + v + "]"
			}
			closing += ")"
		default:
			at += ".?" + part
		}
	}
	for _, part := range p.Below {
		at += ".?" + part
	}
	value := at + "[?" + celString(workload.AnnotationUserInfo) + "].orValue('')"
	if depth == 0 {
		return "[" + value + "]"
	}
	return expr.String() + value + closing
}

// celFirst reads a label or an annotation of an object, empty if it has none.
func celEntry(object, kind, key string) string {
	return object + ".?metadata.?" + kind + "[?" + celString(key) + "].orValue('')"
}
