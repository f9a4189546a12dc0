package election

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
)

// LeaseClient reads, writes and watches one Lease. Errors are Kubernetes API
// errors. Every method returns when its context ends.
type LeaseClient interface {
	// Get reads the Lease with a linearizable read.
	Get(ctx context.Context) (*coordinationv1.Lease, error)
	// Write creates the Lease if it has no resourceVersion, else replaces
	// exactly that version and that UID, and returns what has been stored.
	Write(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	// Delete deletes exactly this version of the Lease.
	Delete(ctx context.Context, lease *coordinationv1.Lease) error
	// Watch delivers the changes of the Lease after resourceVersion; with an
	// empty one it begins with the present state.
	Watch(ctx context.Context, resourceVersion string) (watch.Interface, error)
}

// KubeLease returns the LeaseClient of one Lease in Kubernetes.
func KubeLease(client coordinationv1client.LeasesGetter, namespace, name string) LeaseClient {
	return &kubeLease{leases: client.Leases(namespace), name: name}
}

type kubeLease struct {
	leases coordinationv1client.LeaseInterface
	name   string
}

func (k *kubeLease) Get(ctx context.Context) (*coordinationv1.Lease, error) {
	return k.leases.Get(ctx, k.name, metav1.GetOptions{})
}

func (k *kubeLease) Write(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	if lease.ResourceVersion == "" {
		return k.leases.Create(ctx, lease, metav1.CreateOptions{})
	}
	return k.leases.Update(ctx, lease, metav1.UpdateOptions{})
}

func (k *kubeLease) Delete(ctx context.Context, lease *coordinationv1.Lease) error {
	return k.leases.Delete(ctx, k.name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion},
	})
}

func (k *kubeLease) Watch(ctx context.Context, resourceVersion string) (watch.Interface, error) {
	return k.leases.Watch(ctx, metav1.ListOptions{
		FieldSelector:       fields.OneTermEqualSelector(metav1.ObjectNameField, k.name).String(),
		ResourceVersion:     resourceVersion,
		AllowWatchBookmarks: true,
	})
}
