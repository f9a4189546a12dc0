// Package custom makes applications of custom resources by declaration: a Definition
// names a kind, and says with CEL what an object of it means. A Manager is the app
// manager of one definition.
//
// Guarantees of definitions:
//
//   - A definition is checked as a whole before it is used: fields, types, and cost at
//     worst. A mistake names the definition, the field, and the place in the expression.
//     What the API server says of the kind is compared with it when it is there; what
//     does not fit is said, and fails object by object.
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
// Guarantees of the manager:
//
//   - A pod of an object belongs to the application of the object, whatever application
//     the pod names itself, and to the one for which it was reported first.
//   - A pod that comes before its object waits for it. A pod whose object cannot be
//     evaluated waits too, and an Event on the object says why. A pod of an object that
//     does not exist is not for this manager.
//   - An application begins with its object if that says so, otherwise with its first
//     pod, and not while the object is suspended. Where the object's pods would be those of
//     a manager that comes before, it begins with the first that is not. It ends when all its objects have
//     ended, and is forgotten when they and their pods are gone.
//   - What the lead may ask, it may ask while a call of the protocol waits.
//
// How a pod leads to its object is read from a label that the kind documents, or from
// the owners of the pod. Owners on the way are read one by one and remembered: they are
// not watched, for there are many of other kinds in a cluster. Nothing is stored of an
// object that no expression reads.
//
// The definitions in presets are shipped. They are examples for others.
package custom
