// Package settings knows what may stand in YuniKorn's ConfigMaps: every key, its default, who
// reads it, and how a change of it takes effect. It merges the ConfigMaps, says everything that
// is wrong with them, and compares two of them. It is pure: it reads texts and does no I/O.
//
// Guarantees:
//
//   - Table has each key once. Admission, the engine, the command line and docs/configuration.md
//     read that table and have none of their own.
//   - Merge loses nothing silently: what cannot be unpacked is an error, and so is what unpacks
//     to more than a configuration can be.
//   - Validate says all problems at once, each with its ConfigMap, its key and, where that can
//     be said, its line. It refuses what YuniKorn refuses; what YuniKorn ignores without a word
//     is a warning. It panics over no text.
//   - Parse takes all values or none.
package settings
