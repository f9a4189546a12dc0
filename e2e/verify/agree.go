package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/understudy-ha/understudy/e2e/verify/history"
)

// AgreeOptions say what RecordsAgree lets pass.
type AgreeOptions struct {
	// IdleApps accepts live applications that have no pod left, as they are for
	// a while after their last pod went.
	IdleApps bool
	// Apps names, by UID, the applications that pods were first seen with. Of others
	// the labels tell.
	Apps map[string]string
}

// KV is one stored record, its key relative to the prefix.
type KV struct {
	Key   string
	Value []byte
}

// ended reports whether a task, appEnded whether an application, has ended.
func ended(state string) bool { return in(state, "Killed", "Failed", "Completed") }

func appEnded(state string) bool { return in(state, "Completed", "Rejected", "Failed", "Killed") }

// waits reports whether the state fits a pod without a node. An allocation that
// is not bound is not at rest, and does not.
func waits(state string) bool { return in(state, "New", "Pending", "Scheduling", "Rejected") }

// fits reports whether the state of an application fits its pods.
func fits(app entry, pods *appPods) bool {
	switch {
	case pods.bound == 0:
		return in(app.state, "Submitted", "Accepted", "Running", "Reserving", "Resuming")
	case app.gang:
		return in(app.state, "Running", "Reserving", "Resuming")
	}
	return app.state == "Running"
}

func in(s string, list ...string) bool { return slices.Contains(list, s) }

// RecordsAgree checks, once nothing is in motion any more, that the mirror and
// the cluster say the same: each live pod of the scheduler has its task record,
// Bound to the pod's node or waiting; each such application has its record,
// Running once it has bound pods; and no live record is without its pod.
func RecordsAgree(pods []*history.Pod, records []KV, opts AgreeOptions) Check {
	c := newCheck("records agree")
	a := agreement{check: c, apps: map[string]entry{}, tasks: map[string]entry{}}
	for _, kv := range records {
		a.read(kv)
	}
	perApp := map[string]*appPods{}
	uids := map[string]bool{}
	live, bound := 0, 0
	for _, p := range pods {
		if app, known := opts.Apps[p.UID]; known && app != p.AppID {
			first := *p
			first.AppID = app
			p = &first
		}
		if p.Scheduler != Scheduler || p.AppID == "" || p.Terminal() {
			continue
		}
		live++
		uids[p.UID] = true
		app := perApp[p.AppID]
		if app == nil {
			app = &appPods{}
			perApp[p.AppID] = app
		}
		app.live++
		if p.Node != "" {
			app.bound++
			bound++
		}
		a.pod(p)
	}
	for id, pods := range perApp {
		a.app(id, pods)
	}
	for key, t := range a.tasks {
		if !ended(t.state) && !uids[t.taskID] {
			c.failf("%s is %s, and its pod %s/%s does not live", key, t.state, t.namespace, t.name)
		}
	}
	idle := 0
	for id, app := range a.apps {
		if appEnded(app.state) || perApp[id] != nil {
			continue
		}
		idle++
		if !opts.IdleApps {
			c.failf("application %q is %s and has no pod", id, app.state)
		}
	}
	c.Detail = fmt.Sprintf("%d live pods (%d bound) of %d applications; %d task and %d application records, %d idle",
		live, bound, len(perApp), len(a.tasks), len(a.apps), idle)
	return *c
}

type appPods struct{ live, bound int }

type agreement struct {
	check *Check
	apps  map[string]entry // by application ID
	tasks map[string]entry // by key
}

func (a *agreement) read(kv KV) {
	e, err := decode(kv.Key, kv.Value)
	switch {
	case err != nil:
		a.check.failf("unreadable: %v", err)
	case e.kind == kindApp:
		a.apps[e.appID] = e
	case e.kind == kindTask:
		a.tasks[taskName(e.appID, e.taskID)] = e
	}
}

func (a *agreement) pod(p *history.Pod) {
	t, ok := a.tasks[taskName(p.AppID, p.UID)]
	where := fmt.Sprintf("pod %s/%s (%s) of %q", p.Namespace, p.Name, p.UID, p.AppID)
	switch {
	case !ok:
		a.check.failf("%s has no task record", where)
	case t.namespace != p.Namespace || t.name != p.Name:
		a.check.failf("%s: its record names pod %s/%s", where, t.namespace, t.name)
	case p.Node != "" && t.state != "Bound":
		a.check.failf("%s is on %s, its record says %s", where, p.Node, t.state)
	case p.Node != "" && t.node != p.Node:
		a.check.failf("%s is on %s, its record says %q", where, p.Node, t.node)
	case p.Node == "" && !waits(t.state):
		a.check.failf("%s has no node, its record says %s on %q since epoch %d: %s", where, t.state, t.node, t.epoch, t.message)
	}
}

func (a *agreement) app(id string, pods *appPods) {
	app, ok := a.apps[id]
	switch {
	case !ok:
		a.check.failf("application %q has %d live pods and no record", id, pods.live)
	case !fits(app, pods):
		a.check.failf("application %q has %d live pods, %d of them bound, and its record says %s",
			id, pods.live, pods.bound, app.state)
	}
}

// AwaitRecordsAgree reads cluster and mirror until they agree, for the state
// must have come to rest first. When ctx ends it returns the last finding. An
// error means that they could not be read at all.
func AwaitRecordsAgree(
	ctx context.Context, kube kubernetes.Interface, cli *clientv3.Client, prefix string, opts AgreeOptions,
) (Check, error) {
	var last Check
	known := false
	for {
		// The records are read first: a pod younger than they are would be
		// found missing, which the next round corrects; the other order could
		// not tell a record without a pod from a new one.
		check, err := readAndCompare(ctx, kube, cli, prefix, opts)
		if err == nil {
			last, known = check, true
			if check.OK {
				return check, nil
			}
		}
		select {
		case <-ctx.Done():
			if !known {
				return last, err
			}
			return last, nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func readAndCompare(
	ctx context.Context, kube kubernetes.Interface, cli *clientv3.Client, prefix string, opts AgreeOptions,
) (Check, error) {
	records, err := ReadRecords(ctx, cli, prefix)
	if err != nil {
		return Check{}, err
	}
	pods, err := readPods(ctx, kube)
	if err != nil {
		return Check{}, err
	}
	return RecordsAgree(pods, records, opts), nil
}

// ReadRecords returns all records below prefix, as of one revision: everything but the chronicle.
func ReadRecords(ctx context.Context, cli *clientv3.Client, prefix string) ([]KV, error) {
	root := strings.TrimRight(prefix, "/") + "/"
	from, end := root, root+"~"
	var out []KV
	var rev int64
	for {
		resp, err := cli.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(1000), clientv3.WithRev(rev))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", root, err)
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			out = append(out, KV{Key: strings.TrimPrefix(string(kv.Key), root), Value: kv.Value})
		}
		if !resp.More {
			return out, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// readPods lists all pods by a quorum read.
func readPods(ctx context.Context, kube kubernetes.Interface) ([]*history.Pod, error) {
	var out []*history.Pod
	opts := metav1.ListOptions{Limit: 1000}
	for {
		list, err := kube.CoreV1().Pods(v1.NamespaceAll).List(ctx, opts)
		if err != nil {
			return nil, fmt.Errorf("list pods: %w", err)
		}
		for i := range list.Items {
			out = append(out, history.FromPod(&list.Items[i], nil))
		}
		if opts.Continue = list.Continue; opts.Continue == "" {
			return out, nil
		}
	}
}

func taskName(appID, taskID string) string { return "task " + taskID + " of " + appID }
