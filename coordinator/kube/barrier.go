package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/kubernetes"
)

const (
	// barrierPeriod is how often the store is looked at.
	barrierPeriod = time.Millisecond
	// busyWait is how long the barrier waits for the next change of any pod,
	// which is all it takes in a busy cluster, before it compares them all.
	busyWait = 50 * time.Millisecond
	// barrierPage is the size of a page of the listing.
	barrierPage = 2000
)

// Barrier returns when the pod informer, and the follower if there is one, know
// every change of a pod made before the call. It tries until ctx ends.
//
// Inside a cluster it marks the replica's own pod with role and epoch, through
// writes, and waits until the informer delivers that: versions of pods are
// delivered in order, so that the cost does not depend on how many pods there
// are. Elsewhere it asks for the newest version there is. In a
// busy cluster the informer gets past it at once; in an idle one nothing moves
// it there, so all pods are listed and compared with the store.
func (c *Cluster) Barrier(ctx context.Context, writes kubernetes.Interface, epoch uint64) error {
	pause := retries
	for {
		err := c.passBarrier(ctx, writes, epoch)
		if err == nil {
			return nil
		}
		if over(ctx, err) {
			return fmt.Errorf("pod barrier: %w", err)
		}
		c.log.Warn("pod barrier not passed yet", "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod barrier: %w", context.Cause(ctx))
		case <-time.After(pause.Step()):
		}
	}
}

func (c *Cluster) passBarrier(ctx context.Context, writes kubernetes.Interface, epoch uint64) error {
	if c.cfg.PodName != "" {
		version, err := c.mark(ctx, writes, epoch)
		if err == nil {
			err = c.poll(ctx, func() (bool, error) { return c.feed.marked(version) })
			if err == nil {
				c.feed.catchUpNodes()
			}
			return err
		}
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("marking the own pod: %w", err)
		}
		c.log.Warn("the own pod does not exist, all pods are compared instead", "pod", c.cfg.Namespace+"/"+c.cfg.PodName)
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	c.feed.catchUp()
	return nil
}

// mark writes role and epoch on the own pod and returns its version.
func (c *Cluster) mark(ctx context.Context, writes kubernetes.Interface, epoch uint64) (string, error) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"labels":      map[string]string{RoleLabel: RoleLead},
		"annotations": map[string]string{EpochAnnotation: formatEpoch(epoch)},
	}})
	if err != nil {
		return "", err
	}
	request, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pod, err := writes.CoreV1().Pods(c.cfg.Namespace).Patch(request, c.cfg.PodName, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return "", err
	}
	return pod.ResourceVersion, nil
}

// reached reports whether the store holds all changes up to version.
func (c *Cluster) reached(version string) (bool, error) {
	current := c.pods.GetStore().LastStoreSyncResourceVersion()
	if current == "" {
		return false, nil
	}
	order, err := resourceversion.CompareResourceVersion(current, version)
	return err == nil && order >= 0, err
}

var errBusyWait = errors.New("no pod has changed")

// compare waits until the store agrees with a listing made after the call.
func (c *Cluster) compare(ctx context.Context) error {
	newest, err := c.list(ctx, 1, nil)
	if err != nil {
		return err
	}
	busy, cancel := context.WithTimeoutCause(ctx, busyWait, errBusyWait)
	defer cancel()
	err = c.poll(busy, func() (bool, error) { return c.reached(newest) })
	if !errors.Is(err, errBusyWait) {
		return err
	}

	listed := make(map[string]string, c.PodCount())
	version, err := c.list(ctx, barrierPage, listed)
	if err != nil {
		return err
	}
	return c.poll(ctx, func() (bool, error) {
		if reached, err := c.reached(version); reached || err != nil {
			return reached, err
		}
		return c.agrees(listed, version)
	})
}

// list lists pods as the API server knows them now, not as it may have cached
// them, and notes their versions in into, by namespace/name. With into nil it
// reads one page only. It returns the version of the listing.
func (c *Cluster) list(ctx context.Context, page int64, into map[string]string) (version string, err error) {
	options := metav1.ListOptions{Limit: page}
	for {
		request, cancel := context.WithTimeout(ctx, requestTimeout)
		list, err := c.metadata.Resource(v1.SchemeGroupVersion.WithResource("pods")).List(request, options)
		cancel()
		if err != nil {
			return "", fmt.Errorf("listing pods: %w", err)
		}
		if into == nil {
			return list.ResourceVersion, nil
		}
		for i := range list.Items {
			into[list.Items[i].Namespace+"/"+list.Items[i].Name] = list.Items[i].ResourceVersion
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return list.ResourceVersion, nil
		}
	}
}

// agrees reports whether the store lacks none of the listed pods, has none in
// an older version, and none that had gone by the version of the listing.
func (c *Cluster) agrees(listed map[string]string, version string) (bool, error) {
	for key, want := range listed {
		pod, exists := lookUp[*v1.Pod](c.pods, key)
		if !exists {
			return false, nil // deleted since, or not delivered yet
		}
		order, err := resourceversion.CompareResourceVersion(pod.ResourceVersion, want)
		if order < 0 || err != nil {
			return false, err
		}
	}
	for _, key := range c.pods.GetStore().ListKeys() {
		if _, ok := listed[key]; ok {
			continue
		}
		pod, exists := lookUp[*v1.Pod](c.pods, key)
		if !exists {
			continue
		}
		order, err := resourceversion.CompareResourceVersion(pod.ResourceVersion, version)
		if order <= 0 || err != nil {
			return false, err
		}
	}
	return true, nil
}

// poll looks until done says so. Bookmarks move the store without an event, so
// there is nothing to be notified by.
func (c *Cluster) poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(barrierPeriod)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
