// Package admission has pods and workloads scheduled by YuniKorn's rules without their
// saying so, and keeps users from passing for others. It does what YuniKorn's admission
// controller does, under the same keys, labels, annotations and messages.
//
// It guarantees:
//
//   - Every replica answers, whatever its role, from the moment at which it has read the
//     ConfigMaps once. What it answers follows from the request, the ConfigMaps, the
//     namespace and the PriorityClass, so that all replicas answer alike.
//   - To be asked again changes nothing: an answer that was applied asks for no more.
//   - A user named in the annotation user.info is the requester, or was named by somebody
//     whom the configuration trusts. The API server itself checks that by a policy, so
//     that it holds while no replica answers.
//   - A configuration of which the scheduler would not take effect is refused, with the
//     key and, where the parser knows it, the line.
//   - Certificates are replaced while requests are served.
//
// There are two modes. In the mode webhook the API server asks a replica. In the mode
// policy it decides by itself, by policies that the replicas write from the ConfigMaps.
package admission
