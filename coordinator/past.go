package coordinator

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	v1 "k8s.io/api/core/v1"

	"github.com/understudy-ha/understudy/coordinator/kube"
	"github.com/understudy-ha/understudy/coordinator/serve"
	"github.com/understudy-ha/understudy/election/supervise"
)

// knowPast takes over what the supervisor has seen before this process.
func (r *replica) knowPast() {
	past, err := supervise.Before()
	if err != nil {
		r.log.Warn("not known what came before this process", "err", err)
	}
	r.past = past
	restarts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "understudy_restarts_total",
		Help: "How often the supervisor has started the replica again.",
	})
	restarts.Add(float64(past.Restarts))
	last := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "understudy_last_end_timestamp_seconds",
		Help: "When the process before this one ended, by how: ended, crashed or hung.",
	}, []string{"reason"})
	if past.Last != nil {
		last.WithLabelValues(string(reasonOf(*past.Last))).Set(float64(past.Last.At.UnixMilli()) / 1000)
	}
	r.metrics.MustRegister(restarts, last)
}

func reasonOf(end supervise.End) serve.Reason {
	switch {
	case end.Silent || end.Status == exitHung || end.Status == exitOutlived:
		return serve.Hung
	case end.Status == 0:
		return serve.Ended
	}
	return serve.Crashed
}

// lastEnd is what status shows of the process before this one.
func (r *replica) lastEnd() *serve.End {
	end := r.past.Last
	if end == nil {
		return nil
	}
	return &serve.End{
		Incarnation: r.cfg.Identity + "_" + end.Incarnation, At: end.At,
		Reason: reasonOf(*end), How: end.How, Epoch: end.Epoch,
	}
}

// tellPast leaves a trace of a process that crashed or hung: a line in the log, and
// where this replica has a pod, an Event on that.
func (r *replica) tellPast(ctx context.Context) error {
	end := r.lastEnd()
	if end == nil || end.Reason == serve.Ended {
		return nil
	}
	r.log.Warn("the process before this one did not end in order", "incarnation", end.Incarnation,
		"reason", end.Reason, "how", end.How, "epoch", end.Epoch, "at", end.At, "restarts", r.past.Restarts)
	var pod *v1.Pod
	if r.cluster.WaitForSync(ctx) == nil { // else ctx has ended
		pod = r.cluster.OwnPod()
	}
	if pod == nil {
		return nil
	}
	reason := kube.ReasonCrashed
	if end.Reason == serve.Hung {
		reason = kube.ReasonHung
	}
	r.about.Pod(pod, true, reason, describe(*end, r.past.Restarts))
	return nil
}

// describe says in a sentence how a process ended.
func describe(end serve.End, restarts int) string {
	led := "it did not lead"
	if end.Epoch != 0 {
		led = fmt.Sprintf("it led in epoch %d", end.Epoch)
	}
	return fmt.Sprintf("%s ended: %s; %s; restart %d", end.Incarnation, end.How, led, restarts)
}
