// Package custom makes applications of custom resources by declaration: a Definition
// names a kind, and says with CEL what an object of it means.
//
// Guarantees:
//
//   - A definition is checked as a whole before it is used: fields, types, and cost at
//     worst. A mistake names the definition, the field, and the place in the expression.
//   - To evaluate an object has bounded cost, changes nothing, and never panics. What
//     fails names the object.
//   - A gang that is not what it says runs as ordinary pods, as it does where pods
//     declare it, and a warning says why. Groups of which no member is needed are left
//     out.
//
// What a definition does not say, the object says as a pod would: its labels and
// annotations count, then those of its pod template. The exception is the annotation
// that names the user, which nobody has checked on a custom resource.
//
// The definitions in presets are shipped. They are examples for others.
package custom
