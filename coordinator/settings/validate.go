package settings

import (
	"strings"
	"unicode/utf8"

	v1 "k8s.io/api/core/v1"
)

// Validate returns everything that is wrong with ConfigMaps together, a later one overriding an
// earlier one; nil ones say nothing. What is overridden is not looked at.
func Validate(held ...*v1.ConfigMap) []Problem {
	merged, problems := merge(held)
	for _, cm := range held {
		problems = append(problems, hidden(cm)...)
	}
	return append(problems, validate(merged)...)
}

// Check says why merged data are refused: the error joins a *Problem for each reason.
func Check(data map[string]string) error { return Refusal(validate(Merged{Data: data})) }

func validate(merged Merged) []Problem {
	var problems []Problem
	for _, key := range sortedKeys(merged.Data) {
		problems = append(problems, checkKey(merged.Data, key, merged.Source[key])...)
	}
	key := QueuesKey(merged.Data)
	queues := list{configMap: merged.Source[key], key: key}
	queues.checkQueues(merged.Data[key])
	return bounded(append(problems, queues.all...))
}

// maxProblems is how many are named.
const maxProblems = 100

// bounded leaves out what is too much to be told, warnings first, and says so.
func bounded(problems []Problem) []Problem {
	more := len(problems) - maxProblems
	if more <= 0 {
		return problems
	}
	var chosen []Problem
	for _, severity := range []Severity{Error, Warning} {
		for _, p := range problems {
			if p.Severity == severity && len(chosen) < maxProblems {
				chosen = append(chosen, p)
			}
		}
	}
	last := list{}
	last.add(chosen[len(chosen)-1].Severity, 0, "and %d more problems", more)
	return append(chosen, last.all...)
}

// hidden warns of data that the binary data of the same ConfigMap override.
func hidden(cm *v1.ConfigMap) []Problem {
	if cm == nil {
		return nil
	}
	l := list{configMap: cm.Name}
	for _, packed := range sortedKeys(cm.BinaryData) {
		if _, twice := cm.Data[unpackedKey(packed)]; twice {
			l.key = unpackedKey(packed)
			l.warnf(0, "is not read: %s overrides it", packed)
		}
	}
	return l.all
}

// checkKey says what is wrong with a key and its value, but not with queues.
func checkKey(data map[string]string, key, configMap string) []Problem {
	l := list{configMap: configMap, key: key}
	text := data[key]
	known, ok := Lookup(data, key)
	_, level := loggerOf(key)
	switch {
	case !utf8.ValidString(text):
		l.errorf(0, "is not UTF-8")
	case !ok && level:
		// A level that cannot be read is refused whatever its logger.
		if err := checkLevel(text); err != nil {
			l.errorf(0, "%s", err)
		}
		l.warnf(0, "no such logger%s", hint(Nearest(data, key)))
	case !ok && strings.HasSuffix(key, suffixQueues):
		l.warnf(0, "is not read: %s selects %s", KeyPolicyGroup, QueuesKey(data))
	case !ok:
		l.warnf(0, "no such key%s", hint(Nearest(data, key)))
	case known.Effect == Gone:
		l.warnf(0, "is gone: %s", known.Meaning)
	default:
		l.checkValue(known, text)
	}
	if key == KeyBurst && len(l.all) == 0 {
		l.checkBurst(data)
	}
	return l.all
}

func (l *list) checkValue(k Key, text string) {
	lenient := k.Reader == Admission && k.Name != KeyUniqueAppID // which the scheduler reads too
	if lenient {
		text = strings.TrimSpace(text)
	}
	switch err := k.check(text); {
	case err != nil && lenient:
		l.warnf(0, "%s; the default %q counts instead", err, k.Default)
	case err != nil:
		l.errorf(0, "%s", err)
	case k.Effect == None:
		l.warnf(0, "has no effect here: %s", k.Meaning)
	}
}

// checkBurst warns of a burst by which the rate cannot be used.
func (l *list) checkBurst(data map[string]string) {
	r := reader{data: data}
	if qps, burst := r.number(KeyQPS), r.number(KeyBurst); len(r.errs) == 0 && burst < qps {
		l.warnf(0, "is %d, less than %s (%d): the rate can never be used", burst, KeyQPS, qps)
	}
}

// hint proposes another name.
func hint(like string) string {
	if like == "" {
		return ""
	}
	return ", did you mean " + like + "?"
}
