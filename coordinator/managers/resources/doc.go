// Package resources watches the objects of one kind, mostly a custom resource, for an
// app manager, and has what is to be written to them tried until it is (Settler).
//
// Guarantees:
//
//   - The kind may be absent, come later, go and come back. While it is absent it is
//     looked for by discovery, which everybody may read, at growing intervals; nobody
//     needs the right to read CustomResourceDefinitions, and a kind that is there costs
//     no look-ups. A kind counts as gone once discovery has denied it for a while,
//     because an API server that starts denies for a moment what it has.
//   - A handler is told of every object once as added and once as deleted, whatever
//     was missed meanwhile: an object that took the name of another is a deletion and
//     an addition, and objects whose kind is gone are deleted.
//   - Nothing is stored that nobody reads: managed fields and the applied configuration
//     go first, then what the manager's Trim takes away.
//   - An object over which a handler or Trim panics is skipped and named. The others
//     are told, and the process goes on.
//   - Stop returns when nothing runs any more. No handler is called after it.
package resources
