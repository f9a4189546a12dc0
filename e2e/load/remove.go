package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Delete deletes the pods of the load that were acknowledged, each by its UID.
// Deleted names them from the moment before the first request is sent.
func (g *Generator) Delete(ctx context.Context) error {
	type target struct {
		name string
		uid  types.UID
	}
	targets := make(chan target)
	g.mu.Lock()
	var all []target
	for i, uid := range g.uids {
		if uid != "" {
			g.deleted[string(uid)] = true
			all = append(all, target{name: g.cfg.podName(i), uid: uid})
		}
	}
	g.mu.Unlock()

	var mu sync.Mutex
	var failed []error
	var wg sync.WaitGroup
	for range g.cfg.Workers {
		wg.Go(func() {
			for t := range targets {
				if err := g.deletePod(ctx, t.name, t.uid); err != nil {
					mu.Lock()
					failed = append(failed, fmt.Errorf("delete pod %s: %w", t.name, err))
					mu.Unlock()
				}
			}
		})
	}
	for _, t := range all {
		if ctx.Err() != nil {
			failed = append(failed, context.Cause(ctx))
			break
		}
		targets <- t
	}
	close(targets)
	wg.Wait()
	return errors.Join(failed...)
}

func (g *Generator) deletePod(ctx context.Context, name string, uid types.UID) error {
	grace := int64(0)
	err := g.kube.CoreV1().Pods(g.cfg.Namespace).Delete(ctx, name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace,
		Preconditions:      &metav1.Preconditions{UID: &uid},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or replaced by another pod of that name
	}
	return err
}

// Deleted returns the UIDs of the pods that Delete was told to remove.
func (g *Generator) Deleted() map[string]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.deleted)
}
