package settings

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func zipped(t testing.TB, plain string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func configMap(name string, data map[string]string) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

func TestALaterConfigMapOverridesAnEarlierOne(t *testing.T) {
	defaults := configMap(DefaultsConfigMap, map[string]string{"a": "1", "b": "1"})
	configs := configMap(ConfigMap, map[string]string{"b": "2", "c": "2", "q": "plain"})
	configs.BinaryData = map[string][]byte{"q.gz": zipped(t, "packed")}
	merged, err := Merge(defaults, nil, configs)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"a": "1", "b": "2", "c": "2", "q": "packed"}; !maps.Equal(merged.Data, want) {
		t.Errorf("data %v", merged.Data)
	}
	if want := map[string]string{"a": DefaultsConfigMap, "b": ConfigMap, "c": ConfigMap, "q": ConfigMap}; !maps.Equal(merged.Source, want) {
		t.Errorf("source %v", merged.Source)
	}
	if len(defaults.Data) != 2 || configs.Data["q"] != "plain" {
		t.Error("the objects were changed, which informers share")
	}
}

func TestUnpack(t *testing.T) {
	packed := zipped(t, "partitions: []")
	for name, value := range map[string][]byte{
		"gzip":           packed,
		"gzip in base64": []byte(base64.StdEncoding.EncodeToString(packed) + "\n"),
	} {
		for _, key := range []string{"queues.yaml.gz", "queues.yaml.GZ", "queues.yaml"} {
			merged, err := Merge(&v1.ConfigMap{BinaryData: map[string][]byte{key: value}})
			if err != nil || merged.Data["queues.yaml"] != "partitions: []" {
				t.Errorf("%s in %s: %v, %v", name, key, merged, err)
			}
		}
	}
	for name, value := range map[string][]byte{"cut off": packed[:len(packed)-6], "no gzip": {1, 2, 3}, "empty": nil, "only the head": packed[:3]} {
		cm := configMap("x", map[string]string{"q": "old", "a": "b"})
		cm.BinaryData = map[string][]byte{"q.gz": value}
		merged, err := Merge(cm)
		p := (*Problem)(nil)
		if !errors.As(err, &p) || p.Key != "q.gz" || p.ConfigMap != "x" || p.Severity != Error {
			t.Errorf("%s: %v, %v", name, merged, err)
		}
		if merged.Data["a"] != "b" {
			t.Errorf("%s: the rest is lost: %v", name, merged.Data)
		}
	}
}

func TestUnpackHasALimit(t *testing.T) {
	packed := zipped(t, strings.Repeat("x", 1001))
	if _, err := gunzip(packed, 1000); err == nil {
		t.Error("a value beyond the limit was unpacked")
	}
	if _, err := gunzip(packed, 1001); err != nil {
		t.Errorf("a value within the limit was refused: %v", err)
	}
	bomb := &v1.ConfigMap{BinaryData: map[string][]byte{"queues.yaml.gz": zipped(t, strings.Repeat("\n", maxUnpacked+1))}}
	if _, err := Merge(bomb); err == nil {
		t.Error("a bomb was unpacked")
	}
}

func FuzzGunzip(f *testing.F) {
	f.Add([]byte("H4sIAAAAAAAA"))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, packed []byte) {
		if plain, err := gunzip(packed, 1<<20); err != nil && plain != "" {
			t.Fatal(fmt.Sprint(len(plain), " bytes in spite of ", err))
		}
	})
}
