package record

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/apache/yunikorn-scheduler-interface/lib/go/si"
	"google.golang.org/protobuf/proto"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// maxColumns bounds what a run of events unpacks to, in bytes: nobody writes as much.
const maxColumns = 16 << 20

// compressors are kept: a new one allocates more than half a megabyte, and a lead compresses some
// ten times a second.
var compressors = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression) // a valid level
	return w
}}

// EncodeEvents encodes a run of events of the scheduling core.
func EncodeEvents(events []*si.EventRecord) []byte {
	columns := marshal(columnsOf(events))
	var packed bytes.Buffer
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&packed)
	_, err := w.Write(columns)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return marshal(&recordpb.Events{Schema: 1, Columns: packed.Bytes()})
}

// DecodeEvents decodes a run of events, in order.
func DecodeEvents(b []byte) ([]*si.EventRecord, error) {
	m := new(recordpb.Events)
	if err := unmarshal(b, m); err != nil {
		return nil, err
	}
	in := flate.NewReader(bytes.NewReader(m.Columns))
	columns, err := io.ReadAll(io.LimitReader(in, maxColumns+1))
	if err == nil && len(columns) > maxColumns {
		err = errors.New("it is too long")
	}
	c := new(recordpb.EventColumns)
	if err == nil {
		err = proto.Unmarshal(columns, c)
	}
	var events []*si.EventRecord
	if err == nil {
		events, err = eventsOf(c)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: events: %w", ErrCorrupt, err)
	}
	return events, nil
}

// indices are the values of a column that has what it means elsewhere, once.
type indices[K comparable] struct {
	known map[K]int32
	last  int32
}

// next returns the difference to the index before, and whether the key is a new one.
func (x *indices[K]) next(key K) (step int32, isNew bool) {
	at, ok := x.known[key]
	if !ok {
		at = int32(len(x.known))
		x.known[key] = at
	}
	step, x.last = at-x.last, at
	return step, !ok
}

func columnsOf(events []*si.EventRecord) *recordpb.EventColumns {
	c := new(recordpb.EventColumns)
	words := make(map[string]int32)
	object, reference, message := indices[string]{known: words}, indices[string]{known: words}, indices[string]{known: words}
	resource := indices[string]{known: map[string]int32{"": 0}}
	word := func(x *indices[string], w string) int32 {
		step, isNew := x.next(w)
		if isNew {
			c.Words = append(c.Words, w)
		}
		return step
	}
	var last int64
	for _, e := range events {
		c.Type = append(c.Type, uint32(e.Type))
		c.Change = append(c.Change, uint32(e.EventChangeType))
		c.Detail = append(c.Detail, uint32(e.EventChangeDetail))
		c.Time = append(c.Time, e.TimestampNano-last)
		last = e.TimestampNano
		c.Object = append(c.Object, word(&object, e.ObjectID))
		c.Reference = append(c.Reference, word(&reference, e.ReferenceID))
		c.Message = append(c.Message, word(&message, e.Message))
		step, isNew := resource.next(textOf(e.Resource))
		if isNew {
			c.Resources = append(c.Resources, amountsOf(e.Resource))
		}
		c.Resource = append(c.Resource, step)
	}
	return c
}

// textOf tells a resource from all others, empty for none.
func textOf(r *si.Resource) string {
	if r == nil {
		return ""
	}
	text := []byte("+")
	for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
		text = strconv.AppendInt(append(append(text, name...), '='), r.Resources[name].GetValue(), 10)
		text = append(text, ',')
	}
	return string(text)
}

func amountsOf(r *si.Resource) *recordpb.Amounts {
	a := &recordpb.Amounts{Of: make(map[string]int64, len(r.Resources))}
	for name, quantity := range r.Resources {
		a.Of[name] = quantity.GetValue()
	}
	return a
}

func eventsOf(c *recordpb.EventColumns) ([]*si.EventRecord, error) {
	n := len(c.Type)
	for _, column := range []int{len(c.Change), len(c.Detail), len(c.Time), len(c.Object), len(c.Reference), len(c.Message), len(c.Resource)} {
		if column != n {
			return nil, fmt.Errorf("columns of %d and %d", n, column)
		}
	}
	resources := make([]*si.Resource, 1, len(c.Resources)+1)
	for _, a := range c.Resources {
		r := &si.Resource{Resources: make(map[string]*si.Quantity, len(a.GetOf()))}
		for name, value := range a.GetOf() {
			r.Resources[name] = &si.Quantity{Value: value}
		}
		resources = append(resources, r)
	}
	events := make([]*si.EventRecord, n)
	var at int64
	var object, reference, message, resource int32
	for i := range n {
		at += c.Time[i]
		object, reference, message = object+c.Object[i], reference+c.Reference[i], message+c.Message[i]
		resource += c.Resource[i]
		words := int32(len(c.Words))
		for _, index := range []int32{object, reference, message} {
			if index < 0 || index >= words {
				return nil, fmt.Errorf("word %d of %d", index, words)
			}
		}
		if resource < 0 || int(resource) >= len(resources) {
			return nil, fmt.Errorf("resource %d of %d", resource, len(resources))
		}
		events[i] = &si.EventRecord{
			Type:              si.EventRecord_Type(c.Type[i]),
			EventChangeType:   si.EventRecord_ChangeType(c.Change[i]),
			EventChangeDetail: si.EventRecord_ChangeDetail(c.Detail[i]),
			TimestampNano:     at, ObjectID: c.Words[object], ReferenceID: c.Words[reference], Message: c.Words[message],
			Resource: resources[resource],
		}
	}
	return events, nil
}

// Sample is how many applications ran at a time, and how many containers there were.
type Sample struct {
	At                       ledger.Time
	Applications, Containers int
}

// EncodeSample encodes a sample.
func EncodeSample(s Sample) []byte {
	return marshal(&recordpb.Sample{Schema: 1, At: int64(s.At), Applications: int64(s.Applications), Containers: int64(s.Containers)})
}

// DecodeSample decodes a sample.
func DecodeSample(b []byte) (Sample, error) {
	m := new(recordpb.Sample)
	if err := unmarshal(b, m); err != nil {
		return Sample{}, err
	}
	return Sample{At: ledger.Time(m.At), Applications: int(m.Applications), Containers: int(m.Containers)}, nil
}
