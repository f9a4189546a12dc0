// Package config holds the configuration of a replica: a versioned YAML file,
// read once at start.
//
// It guarantees that a configuration which Load or Parse returns is complete
// and consistent: every field has a value, every value has been checked, and
// the relations between fields hold (an election that retries more slowly than
// it gives up is refused here, not noticed in production). A file that does not
// say exactly what the schema knows is refused with an error for every mistake
// in it, each naming the field by its path and, where the file has one, its
// line. An unknown field is a mistake: a misspelt deadline must not become a
// default.
//
// Secrets are never part of the file. It names files that hold them.
package config
