package record_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/equality"
	"pgregory.net/rapid"

	"github.com/understudy-ha/understudy/replica/ledger"
	"github.com/understudy-ha/understudy/replica/record"
	"github.com/understudy-ha/understudy/replica/record/recordpb"
)

// drawUnknown draws fields that only a newer version would know.
func drawUnknown(t *rapid.T) []byte {
	var b []byte
	for i := range rapid.IntRange(0, 2).Draw(t, "unknown fields") {
		b = protowire.AppendTag(b, protowire.Number(900+i), protowire.BytesType)
		b = protowire.AppendBytes(b, []byte(text.Draw(t, "unknown")))
	}
	return b
}

func TestAppSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawApp(t)
		b := record.EncodeApp(want)
		got, err := record.DecodeApp(b)
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(want, got) {
			t.Fatalf("want %+v\ngot  %+v", want, got)
		}
		if again := record.EncodeApp(got); !bytes.Equal(b, again) {
			t.Fatal("equal records have different bytes")
		}
	})
}

func TestTaskSurvivesTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTask(t)
		b := record.EncodeTask(want)
		got, err := record.DecodeTask(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Fatalf("want %+v\ngot  %+v", want, got)
		}
		if again := record.EncodeTask(got); !bytes.Equal(b, again) {
			t.Fatal("equal records have different bytes")
		}
	})
}

// A field added to a record but not to its encoding is lost in a failover.
// Every field is set here, by reflection, so that a forgotten one is noticed.
func TestEveryFieldIsEncoded(t *testing.T) {
	app := new(ledger.App)
	fill(reflect.ValueOf(app).Elem())
	app.Unknown = nil
	gotApp, err := record.DecodeApp(record.EncodeApp(app))
	if err != nil {
		t.Fatal(err)
	}
	// Task groups and owner references hold pointers into Kubernetes types that
	// TestAppSurvivesTheRoundTrip covers.
	app.TaskGroups, gotApp.TaskGroups = nil, nil
	if !equality.Semantic.DeepEqual(app, gotApp) {
		t.Errorf("want %+v\ngot  %+v", app, gotApp)
	}

	task := new(ledger.Task)
	fill(reflect.ValueOf(task).Elem())
	task.Unknown = nil
	gotTask, err := record.DecodeTask(record.EncodeTask(task))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(task, gotTask) {
		t.Errorf("want %+v\ngot  %+v", task, gotTask)
	}

	var term record.Term
	fill(reflect.ValueOf(&term).Elem())
	gotTerm, err := record.DecodeTerm(record.EncodeTerm(term))
	if err != nil || !reflect.DeepEqual(term, gotTerm) {
		t.Errorf("want %+v\ngot  %+v, %v", term, gotTerm, err)
	}

	var conf record.Configuration
	fill(reflect.ValueOf(&conf).Elem())
	gotConf, err := record.DecodeConfiguration(record.EncodeConfiguration(conf))
	if err != nil || !reflect.DeepEqual(conf, gotConf) {
		t.Errorf("want %+v\ngot  %+v, %v", conf, gotConf, err)
	}

	var leader record.Leader
	fill(reflect.ValueOf(&leader).Elem())
	gotLeader, err := record.DecodeLeader(record.EncodeLeader(leader))
	if err != nil || leader != gotLeader {
		t.Errorf("want %+v\ngot  %+v, %v", leader, gotLeader, err)
	}
}

// fill gives every plain field reachable from v a value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		val := reflect.New(v.Type().Elem()).Elem()
		fill(val)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("k").Convert(v.Type().Key()), val)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	}
}

func TestEmptyComesBackAsNil(t *testing.T) {
	got, err := record.DecodeApp(record.EncodeApp(&ledger.App{
		ID: "a", Groups: []string{}, Tags: map[string]string{}, StateLog: []ledger.Transition{}, Unknown: []byte{},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, &ledger.App{ID: "a"}) {
		t.Fatalf("got %+v", got)
	}
}

func TestTextThatIsNotUTF8IsRepaired(t *testing.T) {
	got, err := record.DecodeApp(record.EncodeApp(&ledger.App{
		ID: "a", Message: "cut in the middl\xe6", Groups: []string{"\xff"}, Tags: map[string]string{"\xff": "\xff"},
		StateLog: []ledger.Transition{{State: "\xff", At: 1}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Message != "cut in the middl\uFFFD" || got.Tags["\uFFFD"] != "\uFFFD" || got.StateLog[0].At != 1 {
		t.Fatalf("got %+v", got)
	}
}

func TestNewerSchemaIsRefusedByName(t *testing.T) {
	keys := record.Keys{Prefix: "/u"}
	newer := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), record.SchemaVersion+1)
	newer = append(newer, "whatever it looks like then"...)
	for _, key := range []string{keys.App("a"), keys.Task("a", "t"), keys.Leader(), keys.Term(3), keys.Schema()} {
		_, err := keys.Decode(key, newer)
		if !errors.Is(err, record.ErrNewerSchema) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v", key, err)
		}
	}
}

func TestGarbageIsRefusedByName(t *testing.T) {
	keys := record.Keys{Prefix: "/u"}
	for _, key := range []string{keys.App("a"), keys.Task("a", "t"), keys.Leader(), keys.Term(3), keys.Schema()} {
		for _, value := range []string{"", "\x08", "\x08\x00", "garbage", "\x08\x01\xff\xff\xff"} {
			_, err := keys.Decode(key, []byte(value))
			if !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s, %q: got %v", key, value, err)
			}
		}
	}
}

func TestRecordOfAnotherKeyIsRefused(t *testing.T) {
	keys := record.Keys{Prefix: "/u"}
	app := record.EncodeApp(&ledger.App{ID: "a"})
	if _, err := keys.Decode(keys.App("b"), app); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if e, err := keys.Decode(keys.App("a"), app); err != nil || e.App.ID != "a" || e.Kind != record.KindApp {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestAnyIDMakesAKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(ident, rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 6), func(b []byte) string { return string(b) }))
		keys := record.Keys{Prefix: rapid.SampledFrom([]string{"/u", "u/", "/a/b/"}).Draw(t, "prefix")}
		app, task := id.Draw(t, "app"), id.Draw(t, "task")
		for key, want := range map[string]ledger.Key{
			keys.App(app):        {AppID: app},
			keys.Task(app, task): {AppID: app, TaskID: task},
		} {
			p, err := keys.Parse(key)
			if err != nil || p.Key != want || keys.Record(want) != key {
				t.Fatalf("%q: got %+v, %v", key, p, err)
			}
		}
		if e, err := keys.Decode(keys.App(app), record.EncodeApp(&ledger.App{ID: app})); err != nil || e.App.ID != app {
			t.Fatalf("%q: got %+v, %v", app, e.App, err)
		}
	})
}

func TestOtherKeysAreNotOurs(t *testing.T) {
	keys := record.Keys{Prefix: "/u"}
	for _, key := range []string{
		"/v/leader", "/u", "/u/", "/u/apps/", "/u/apps/a/b", "/u/tasks/a", "/u/tasks//t", "/u/tasks/a/t/x", "/u/terms/x",
		"/u/new-in-v9/x", "/u/apps/%zz", "/u/apps/%61",
	} {
		if p, err := keys.Parse(key); !errors.Is(err, record.ErrUnknownKey) {
			t.Errorf("%s: got %+v, %v", key, p, err)
		}
	}
}

func TestTermsSortByEpoch(t *testing.T) {
	keys := record.Keys{Prefix: "/u"}
	if keys.Term(9) >= keys.Term(10) || keys.Term(10) >= keys.Term(1<<63) {
		t.Error("keys of terms are not in the order of epochs")
	}
	if p, err := keys.Parse(keys.Term(1 << 63)); err != nil || p.Epoch != 1<<63 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func seed(f *testing.F, good []byte) {
	f.Add(good)
	f.Add([]byte{})
	f.Add(good[:len(good)/2])
	f.Add([]byte("\x08\x02anything"))
	f.Add(append(bytes.Clone(good), 0xff))
	f.Add(protowire.AppendString(protowire.AppendTag(bytes.Clone(good), 999, protowire.BytesType), "newer"))
}

// known fails the test for an error that a reader could not tell apart.
func known(t *testing.T, err error) {
	if !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrNewerSchema) {
		t.Fatalf("an error of no kind: %v", err)
	}
}

func FuzzDecodeApp(f *testing.F) {
	seed(f, record.EncodeApp(rapid.Custom(drawApp).Example(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := record.DecodeApp(b)
		if err != nil {
			known(t, err)
			return
		}
		again, err := record.DecodeApp(record.EncodeApp(a))
		if err != nil || !equality.Semantic.DeepEqual(a, again) {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzDecodeTask(f *testing.F) {
	seed(f, record.EncodeTask(rapid.Custom(drawTask).Example(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := record.DecodeTask(b)
		if err != nil {
			known(t, err)
			return
		}
		again, err := record.DecodeTask(record.EncodeTask(a))
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Fatalf("%+v became %+v, %v", a, again, err)
		}
	})
}

func FuzzDecodeLeader(f *testing.F) {
	seed(f, record.EncodeLeader(record.Leader{Epoch: 7, Incarnation: "a", Since: 3, Trace: "t"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := record.DecodeLeader(b)
		if err != nil {
			known(t, err)
			return
		}
		if again, err := record.DecodeLeader(record.EncodeLeader(l)); err != nil || l != again {
			t.Fatalf("%+v became %+v, %v", l, again, err)
		}
	})
}

func BenchmarkEncodeTask(b *testing.B) {
	task := rapid.Custom(drawTask).Example(3)
	b.ReportAllocs()
	for b.Loop() {
		record.EncodeTask(task)
	}
}

func BenchmarkEncodeApp(b *testing.B) {
	app := rapid.Custom(drawApp).Example(3)
	b.ReportAllocs()
	for b.Loop() {
		record.EncodeApp(app)
	}
}

func BenchmarkDecodeTask(b *testing.B) {
	data := record.EncodeTask(rapid.Custom(drawTask).Example(3))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.DecodeTask(data); err != nil {
			b.Fatal(err)
		}
	}
}

// The Kubernetes parser would need minutes for this one.
func TestAbsurdQuantityIsRefusedAtOnce(t *testing.T) {
	for _, value := range []string{`"1e-2000000000"`, `1e-2000000000`, `"1E-0002000000000"`} {
		m, err := proto.Marshal(&recordpb.App{
			Schema: 1, Id: "a", TaskGroups: [][]byte{[]byte(`{"name":"g","minResource":{"cpu":` + value + `}}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := record.DecodeApp(m); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: got %v", value, err)
		}
	}
}
