package explain

import (
	"slices"
	"strings"
	"unicode"
)

// Kind is the same for messages that differ in figures, or in the order of their parts, only: "3 of
// 100 nodes" and "4 of 100 nodes", "1500m" and "2", "40 tainted, 60 full" and "60 full, 40 tainted".
// Who has been told one has been told the other.
func Kind(message string) string {
	parts := strings.FieldsFunc(withoutFigures(message), func(c rune) bool { return c == ',' || c == ';' || c == ':' })
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// units are those of quantities in which figures are written.
const units = "munkMGTPEi"

// withoutFigures puts a mark in place of every run of digits, with the unit that ends it.
func withoutFigures(s string) string {
	var b strings.Builder
	runes := []rune(s)
	for i := 0; i < len(runes); {
		if !digit(runes[i]) {
			b.WriteRune(runes[i])
			i++
			continue
		}
		for i < len(runes) && digit(runes[i]) {
			i++
		}
		unit := i
		for unit < len(runes) && unit < i+2 && strings.ContainsRune(units, runes[unit]) {
			unit++
		}
		if unit == len(runes) || !unicode.IsLetter(runes[unit]) && !unicode.IsDigit(runes[unit]) {
			i = unit
		}
		b.WriteByte('#')
	}
	return b.String()
}

func digit(c rune) bool { return '0' <= c && c <= '9' }
