// Package lab runs a real Kubernetes control plane on one machine and the
// replicas of Understudy against it: etcd for the API server, an etcd of its own
// for the mirror, kube-apiserver with RBAC, and kwok, which plays the kubelets.
// Drills, benchmarks, the demonstration and bug reports all stand on it.
//
// What it promises:
//
//   - Replicas are ordinary processes and run as the service account, with the
//     roles, of the manifests under deploy/, and with what their app managers need
//     beside; never as an administrator.
//   - Every listener is on 127.0.0.1, on a port chosen when the lab starts, and
//     every file is below one directory: two labs run side by side.
//   - DIR/state.json names every process at any moment, and is replaced in one
//     step, so that a reader never sees half of it.
//   - [Lab.Down] ends exactly what [Up] started. A process is known by its id
//     and the moment it started, so an id that the kernel gave to somebody else
//     is left alone.
//   - [Up] either returns a lab that answers, or an error and nothing behind it
//     except the logs.
//
// Replicas run as they are deployed: each below its supervisor, which releases
// the Lease should it die, and starts it again, for a term of leadership ends by
// ending the process. Behind both stands a keeper, as a kubelet does, which starts
// the supervisor again, and reads from its log what runs the replica. So a signal
// to the process of a replica hits the replica alone, and one to that of its
// supervisor both.
//
// A lab is detached or attached. The processes of a detached lab (the command
// `lab up`) outlive their parent, and its keepers are processes, too. The processes
// of an attached lab (tests, the demonstration) die with the process that called
// Up, however that ends.
//
// In an attached lab a proxy can stand between each replica and all that it talks
// to ([Options.Proxies]), which loses what is sent, or holds it up: [Lab.Fault].
package lab
