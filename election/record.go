package election

import (
	"context"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/utils/ptr"
)

// Annotations on the Lease.
const (
	// AnnotationTerm holds the epoch of the term that holds the Lease. Only a
	// release removes it, so a Lease without a holder that still carries it has
	// been wiped by somebody else.
	AnnotationTerm = "understudy.dev/term"
	// AnnotationPreferred names the successor that a release asks for.
	AnnotationPreferred = "understudy.dev/preferred-holder"
	// AnnotationTrace holds the W3C traceparent of the span in which the Lease was
	// released, for the successor to go on with that trace. Taking the Lease
	// removes it.
	AnnotationTrace = "understudy.dev/traceparent"
	// AnnotationStepDown asks the holder to hand over, to the replica that it
	// names or with Anyone to whom the holder chooses. Whoever may write the Lease
	// may ask. The release removes it.
	AnnotationStepDown = "understudy.dev/step-down"
	// AnnotationDied says that the last holder did not release the Lease itself
	// but was deposed: its leaseTransitions, a space, and when it died, as RFC 3339
	// by the clock of whoever had the proof. Taking the Lease removes it.
	AnnotationDied = "understudy.dev/died"
)

// Anyone as the value of AnnotationStepDown leaves the choice to the holder.
const Anyone = "any"

const (
	// maxEpoch is what leaseTransitions can hold.
	maxEpoch = math.MaxInt32
	// maxLeap is how far a term may be ahead of the epoch on record elsewhere: more
	// than there can be of terms that came to nothing before one was recorded.
	maxLeap = 1_000_000
)

// follows reports whether leaseTransitions can be a term's, given the epoch that is
// on record elsewhere, and leaves room for the next. If not, somebody has edited it:
// to go on from there would use the epochs up.
func follows(transitions, known uint64) bool {
	return transitions <= known+maxLeap && transitions < maxEpoch || transitions <= known
}

// record is a Lease as observed. The zero record means that there is none.
type record struct {
	lease       *coordinationv1.Lease // as read; never written to
	version     string
	uid         types.UID
	holder      string
	transitions uint64
	duration    time.Duration
	acquired    time.Time // by the holder's clock
	renewed     time.Time // by the holder's clock
	preferred   string
	mark        uint64    // epoch in AnnotationTerm, 0 for none
	trace       string    // AnnotationTrace
	stepDown    string    // AnnotationStepDown
	died        time.Time // of a holder that was deposed, zero for none
}

func parse(lease *coordinationv1.Lease) record {
	if lease == nil {
		return record{}
	}
	spec := &lease.Spec
	r := record{
		lease:       lease,
		version:     lease.ResourceVersion,
		uid:         lease.UID,
		holder:      ptr.Deref(spec.HolderIdentity, ""),
		transitions: uint64(max(0, ptr.Deref(spec.LeaseTransitions, 0))),
		duration:    time.Duration(ptr.Deref(spec.LeaseDurationSeconds, 0)) * time.Second,
		preferred:   ptr.Deref(spec.PreferredHolder, ""),
	}
	if spec.AcquireTime != nil {
		r.acquired = spec.AcquireTime.Time
	}
	if spec.RenewTime != nil {
		r.renewed = spec.RenewTime.Time
	}
	if p := lease.Annotations[AnnotationPreferred]; p != "" {
		r.preferred = p
	}
	r.trace = lease.Annotations[AnnotationTrace]
	r.stepDown = lease.Annotations[AnnotationStepDown]
	// A mark that cannot be read counts as the highest: when in doubt, wait.
	if m, ok := lease.Annotations[AnnotationTerm]; ok {
		var err error
		if r.mark, err = strconv.ParseUint(m, 10, 64); err != nil {
			r.mark = math.MaxUint64
		}
	}
	r.died = diedAt(lease.Annotations[AnnotationDied], r)
	return r
}

// diedAt reads AnnotationDied. A note on another holder than the last is a
// leftover: client-go, which leaves annotations alone, came after it.
func diedAt(note string, r record) time.Time {
	transitions, at, _ := strings.Cut(note, " ")
	if r.holder != "" || transitions != strconv.FormatUint(r.transitions, 10) {
		return time.Time{}
	}
	died, err := time.Parse(time.RFC3339Nano, at)
	if err != nil {
		return time.Time{}
	}
	return died
}

func (r record) exists() bool { return r.lease != nil }

// released reports whether the last holder itself, or a proof of its death,
// gave the Lease up. A mark older than leaseTransitions is a leftover: a holder
// that does not write marks came after it.
func (r record) released() bool {
	return r.exists() && r.holder == "" && (r.mark == 0 || r.mark < r.transitions)
}

// prefers reports whether the record names an identity as the successor: as it
// is, or by the name of its replica.
func (r record) prefers(identity string) bool {
	return r.preferred == identity || strings.HasPrefix(identity, r.preferred+"_")
}

// sameSign reports whether o shows no sign of life that r does not show.
func (r record) sameSign(o record) bool {
	return r.exists() == o.exists() && r.uid == o.uid && r.holder == o.holder &&
		r.transitions == o.transitions && r.duration == o.duration &&
		r.acquired.Equal(o.acquired) && r.renewed.Equal(o.renewed)
}

// tenure identifies one acquisition of the Lease. The acquire time tells apart
// two acquisitions that share everything else, across a wiped Lease say.
type tenure struct {
	holder   string
	epoch    uint64
	acquired time.Time
}

func (n tenure) holds(r record) bool {
	return r.holder == n.holder && r.transitions == n.epoch && r.acquired.Equal(n.acquired)
}

// wroteAt reports whether the record is what was sent at a given time of ours.
func (r record) wroteAt(sent time.Time) bool {
	return r.renewed.Truncate(time.Microsecond).Equal(sent.Truncate(time.Microsecond))
}

// held returns the Lease as tenure n writes it over what was last read, nil if
// there was nothing.
func held(last *coordinationv1.Lease, cfg Config, n tenure, renewed time.Time) *coordinationv1.Lease {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: cfg.Name}}
	if last != nil {
		lease = last.DeepCopy()
	}
	annotate(lease, AnnotationTerm, strconv.FormatUint(n.epoch, 10))
	annotate(lease, AnnotationPreferred, "")
	annotate(lease, AnnotationTrace, "")
	if last != nil && !n.holds(parse(last)) {
		annotate(lease, AnnotationStepDown, "") // it was for somebody else
	}
	annotate(lease, AnnotationDied, "")
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(n.holder),
		LeaseDurationSeconds: ptr.To(wholeSeconds(cfg.LeaseDuration)),
		AcquireTime:          ptr.To(metav1.NewMicroTime(n.acquired)),
		RenewTime:            ptr.To(metav1.NewMicroTime(renewed)),
		LeaseTransitions:     ptr.To(int32(n.epoch)),
		Strategy:             lease.Spec.Strategy,
	}
	return lease
}

// vacated returns the Lease without its holder. leaseTransitions stays, and so
// does the rest of the record but for the sign that this is a release, and the
// span in ctx, if there is one.
func vacated(ctx context.Context, last *coordinationv1.Lease, preferred string) *coordinationv1.Lease {
	lease := last.DeepCopy()
	annotate(lease, AnnotationTerm, "")
	annotate(lease, AnnotationPreferred, preferred)
	annotate(lease, AnnotationStepDown, "")
	span := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, span)
	annotate(lease, AnnotationTrace, span["traceparent"])
	annotate(lease, AnnotationDied, "")
	now := metav1.NewMicroTime(time.Now())
	// Empty rather than absent, and one second: as client-go releases.
	lease.Spec.HolderIdentity = ptr.To("")
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(1))
	lease.Spec.AcquireTime = &now
	lease.Spec.RenewTime = &now
	lease.Spec.PreferredHolder = nil
	return lease
}

// bereft returns the Lease without its holder, who died at the given time.
func bereft(ctx context.Context, last *coordinationv1.Lease, died time.Time) *coordinationv1.Lease {
	lease := vacated(ctx, last, "")
	annotate(lease, AnnotationDied,
		strconv.FormatUint(parse(last).transitions, 10)+" "+died.UTC().Format(time.RFC3339Nano))
	return lease
}

// annotate sets an annotation; an empty value removes it.
func annotate(lease *coordinationv1.Lease, key, value string) {
	annotations := maps.Clone(lease.Annotations)
	if value == "" {
		delete(annotations, key)
	} else {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[key] = value
	}
	lease.Annotations = annotations
}

// wholeSeconds rounds up: a Lease must never promise less than is enforced.
func wholeSeconds(d time.Duration) int32 {
	return int32((d + time.Second - 1) / time.Second)
}

// newer reports whether resource version a is later than b. Versions that do
// not compare count as newer when they differ.
func newer(a, b string) bool {
	if b == "" {
		return a != ""
	}
	if c, err := resourceversion.CompareResourceVersion(a, b); err == nil {
		return c > 0
	}
	return a != b
}
