package roster

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// readKeys reads the keys of a keyring file, the one to send with first. No
// error shows any part of a key.
func readKeys(file string) ([][]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || memberlist.ValidateKey(key) != nil {
			return nil, fmt.Errorf("%s:%d: a key is 16, 24 or 32 bytes in base64", file, n)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key in it", file)
	}
	return keys, nil
}

// rotate makes a keyring hold keys, of which the first is the one to send with.
// At no moment does it lack a key of both the old and the new set.
func rotate(ring *memberlist.Keyring, keys [][]byte) (changed bool, err error) {
	has := func(set [][]byte, key []byte) bool {
		return slices.ContainsFunc(set, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	old := slices.Clone(ring.GetKeys()) // RemoveKey works in place
	var errs []error
	for _, key := range keys {
		if !has(old, key) {
			changed = true
			errs = append(errs, ring.AddKey(key))
		}
	}
	if !bytes.Equal(ring.GetPrimaryKey(), keys[0]) {
		changed = true
		errs = append(errs, ring.UseKey(keys[0]))
	}
	for _, key := range old {
		if !has(keys, key) {
			changed = true
			errs = append(errs, ring.RemoveKey(key))
		}
	}
	return changed, errors.Join(errs...)
}
