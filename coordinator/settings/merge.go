package settings

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// The names of YuniKorn's ConfigMaps, the one that overrides the other last.
const (
	DefaultsConfigMap = "yunikorn-defaults"
	ConfigMap         = "yunikorn-configs"
)

// Merged is what ConfigMaps say together.
type Merged struct {
	// Data has each key once, unpacked.
	Data map[string]string
	// Source is the name of the ConfigMap that each key is from.
	Source map[string]string
}

// Merge returns what ConfigMaps say together: a later one overrides an earlier one key by key,
// and in one ConfigMap binary data override data. Nil ones say nothing. The error, an
// errors.Join of *Problem, has what cannot be unpacked; the rest is merged all the same.
func Merge(held ...*v1.ConfigMap) (Merged, error) {
	merged, problems := merge(held)
	return merged, Refusal(problems)
}

func merge(held []*v1.ConfigMap) (Merged, []Problem) {
	merged := Merged{Data: make(map[string]string), Source: make(map[string]string)}
	var problems []Problem
	for _, cm := range held {
		if cm == nil {
			continue
		}
		data, wrong := unpack(cm)
		problems = append(problems, wrong...)
		maps.Copy(merged.Data, data)
		for key := range data {
			merged.Source[key] = cm.Name
		}
	}
	return merged, problems
}

// unpack returns the data of a ConfigMap under its plain keys. Binary data is gzip, and its key
// loses a suffix ".gz". What cannot be unpacked is left out.
func unpack(cm *v1.ConfigMap) (map[string]string, []Problem) {
	data := make(map[string]string, len(cm.Data)+len(cm.BinaryData))
	maps.Copy(data, cm.Data)
	l := list{configMap: cm.Name}
	for _, key := range sortedKeys(cm.BinaryData) {
		plain, err := gunzip(cm.BinaryData[key], maxUnpacked)
		l.key = key
		if err != nil {
			l.errorf(0, "%s", err)
			continue
		}
		data[unpackedKey(key)] = plain
	}
	return data, l.all
}

// unpackedKey is what the key of binary data is called unpacked.
func unpackedKey(key string) string {
	if at := len(key) - len(suffixGzip); at >= 0 && strings.EqualFold(key[at:], suffixGzip) {
		return key[:at]
	}
	return key
}

const suffixGzip = ".gz"

// maxUnpacked bounds what a few kilobytes of gzip may unfold to.
const maxUnpacked = 16 << 20

var (
	gzipMagic  = []byte{0x1f, 0x8b}
	errTooBig  = errors.New("unpacks to more than a configuration can be")
	errNotGzip = errors.New("neither gzip nor gzip in base64")
)

// gunzip unpacks gzip, also where it is written in base64 once more: that is
// what YuniKorn's documentation makes of it. More than limit bytes are refused.
func gunzip(packed []byte, limit int) (string, error) {
	if !bytes.HasPrefix(packed, gzipMagic) {
		decoded := make([]byte, base64.StdEncoding.DecodedLen(len(packed)))
		n, err := base64.StdEncoding.Decode(decoded, bytes.TrimSpace(packed))
		if err != nil || !bytes.HasPrefix(decoded[:n], gzipMagic) {
			return "", errNotGzip
		}
		packed = decoded[:n]
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", fmt.Errorf("gzip: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(reader, int64(limit)+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("gzip: %w", err)
	case len(plain) > limit:
		return "", errTooBig
	}
	return string(plain), nil
}
