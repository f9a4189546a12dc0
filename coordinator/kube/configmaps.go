package kube

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Configuration returns the queue configuration: the data of the ConfigMaps, a
// later one overriding an earlier one key by key. A ConfigMap that does not
// exist says nothing; one that cannot be read is an error, lest half a
// configuration be taken for a whole one.
func (c *Cluster) Configuration() (map[string]string, error) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	configuration, err := c.readConfiguration()
	c.feed.hand(configuration, err)
	return maps.Clone(configuration), err
}

// ConfigMap returns the one that overrides the others, of those that exist; nil if none
// does.
func (c *Cluster) ConfigMap() *v1.ConfigMap {
	for i, informer := range slices.Backward(c.configMaps) {
		if cm, exists := lookUp[*v1.ConfigMap](informer, c.cfg.Namespace+"/"+c.cfg.ConfigMaps[i]); exists {
			return cm
		}
	}
	return nil
}

// ConfigMaps returns those that hold the configuration, in their order, nil for one that
// does not exist. It reports false while they have not been listed.
func (c *Cluster) ConfigMaps() (held []*v1.ConfigMap, listed bool) {
	listed = true
	for i, informer := range c.configMaps {
		cm, _ := lookUp[*v1.ConfigMap](informer, c.cfg.Namespace+"/"+c.cfg.ConfigMaps[i])
		held, listed = append(held, cm), listed && informer.HasSynced()
	}
	return held, listed
}

func (c *Cluster) readConfiguration() (map[string]string, error) {
	held, _ := c.ConfigMaps()
	return Merge(held)
}

// Merge returns the data of ConfigMaps, a later one overriding an earlier one key by key;
// nil ones say nothing.
func Merge(held []*v1.ConfigMap) (map[string]string, error) {
	merged := make(map[string]string)
	for _, cm := range held {
		if cm == nil {
			continue
		}
		data, err := unpack(cm)
		if err != nil {
			return nil, fmt.Errorf("ConfigMap %s/%s: %w", cm.Namespace, cm.Name, err)
		}
		maps.Copy(merged, data)
	}
	return merged, nil
}

// unpack returns the data of a ConfigMap under its plain keys. Binary data is
// gzip, and its key loses a suffix ".gz".
func unpack(cm *v1.ConfigMap) (map[string]string, error) {
	data := make(map[string]string, len(cm.Data)+len(cm.BinaryData))
	maps.Copy(data, cm.Data)
	for _, key := range slices.Sorted(maps.Keys(cm.BinaryData)) {
		plain, err := gunzip(cm.BinaryData[key], maxUnpacked)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		name := strings.TrimSuffix(key, ".gz")
		if _, twice := data[name]; twice {
			return nil, fmt.Errorf("%s: %s is there twice", key, name)
		}
		data[name] = plain
	}
	return data, nil
}

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
