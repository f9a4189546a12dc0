package peers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/retry"

	"github.com/understudy-ha/understudy/e2e/load"
)

// binders is how many Bindings a null binder has in flight: as many as pods are created at
// once, and some.
const binders = 32

// NullBinder binds pods until ctx ends: each that has no node, to one node after another,
// and thinks of nothing. The nodes are those that there are when it starts.
func NullBinder(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	kube, err := load.Client(config)
	if err != nil {
		return err
	}
	b := &binder{kube: kube}
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		b.nodes = append(b.nodes, node.Name)
	}
	if len(b.nodes) == 0 {
		return errors.New("there is no node to bind pods to")
	}
	return b.run(ctx)
}

type binder struct {
	kube  kubernetes.Interface
	nodes []string
	next  atomic.Int64
}

func (b *binder) run(ctx context.Context) error {
	// A pod that is bound leaves the selection.
	selected := fields.Set{"spec.schedulerName": schedulerName, "spec.nodeName": ""}.String()
	factory := informers.NewSharedInformerFactoryWithOptions(b.kube, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = selected
	}))
	g, ctx := errgroup.WithContext(ctx)
	waiting := make(chan *v1.Pod)
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(object any) {
		if pod, ok := object.(*v1.Pod); ok {
			select {
			case waiting <- pod: // the informer keeps those that come meanwhile
			case <-ctx.Done():
			}
		}
	}})
	if err != nil {
		return err
	}
	for range binders {
		g.Go(func() error {
			for {
				select {
				case pod := <-waiting:
					if err := b.bind(ctx, pod); err != nil {
						return err
					}
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	return g.Wait()
}

// bind binds one pod, and repeats what may pass. A pod that is gone or has a node is done.
func (b *binder) bind(ctx context.Context, pod *v1.Pod) error {
	node := b.nodes[int(b.next.Add(1))%len(b.nodes)]
	binding := &v1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     v1.ObjectReference{Kind: "Node", Name: node},
	}
	pause := wait.Backoff{Duration: 10 * time.Millisecond, Factor: 3, Steps: 6}
	err := retry.OnError(pause, func(error) bool { return ctx.Err() == nil }, func() error {
		err := b.kube.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("bind %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
