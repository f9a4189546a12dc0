// Package tasks reports the pods of an app manager's applications, for managers whose
// applications are described by objects other than pods. It follows pods as the general
// manager does; which pods there are for it, and of which application, its Owner says.
//
// Guarantees:
//
//   - A pod that comes before the object that describes its application waits for it.
//   - A pod is reported complete and removed exactly under the application that it was
//     reported for, whatever its labels say later, and also if its deletion was missed.
//   - What has ended is not begun anew by pods that were part of it.
//   - After Stop has returned nothing is reported.
package tasks
