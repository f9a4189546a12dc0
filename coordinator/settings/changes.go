package settings

import "maps"

// Change is a key whose value differs between two configurations.
type Change struct {
	Key string `json:"key"`
	// Old and New are the values, nil where the key is not there.
	Old *string `json:"old,omitempty"`
	New *string `json:"new,omitempty"`
	// Effect says how the change takes effect; empty for a key that nobody reads.
	Effect Effect `json:"effect,omitempty"`
	// Why says more, where that is not clear from the key.
	Why string `json:"why,omitempty"`
}

// Changes returns the keys in which merged data differ, in the order of their names, and how each
// change takes effect. To be given one's default is no change. Nothing is Hot while hot refresh
// is off before and after.
func Changes(before, after map[string]string) []Change {
	both := maps.Clone(before)
	if both == nil {
		both = make(map[string]string)
	}
	maps.Copy(both, after)
	frozen := !hotRefresh(before) && !hotRefresh(after)
	var changes []Change
	for _, key := range sortedKeys(both) {
		known, ok := Lookup(after, key)
		if !ok {
			known, ok = Lookup(before, key)
		}
		if !ok {
			known = Key{Name: key}
		}
		if known.counts(before) == known.counts(after) {
			continue
		}
		change := Change{Key: key, Effect: known.Effect, Old: given(before, key), New: given(after, key)}
		change.refine(known, before, after, frozen)
		changes = append(changes, change)
	}
	return changes
}

// counts returns the value that counts, or that there is none and something else does: a
// replica's own file, another logger, queues of the core's own.
func (k Key) counts(data map[string]string) (v struct {
	text  string
	there bool
}) {
	v.text, v.there = data[k.Name]
	if !v.there && k.Default != "" && k.File == "" {
		v.text, v.there = k.Default, true
	}
	return v
}

func given(data map[string]string, key string) *string {
	if text, ok := data[key]; ok {
		return &text
	}
	return nil
}

// refine says what the table cannot.
func (c *Change) refine(known Key, before, after map[string]string, frozen bool) {
	if known.Kind == Queues {
		switch {
		case QueuesKey(before) != QueuesKey(after):
			c.Effect, c.Why = HandOver, KeyPolicyGroup+" selects another key"
		case resolver(before) != resolver(after):
			c.Effect, c.Why = HandOver, "usergroupresolver has changed, which the core reads once"
		}
	}
	if frozen && c.Effect == Hot {
		c.Effect, c.Why = HandOver, KeyHotRefresh+" is false"
	}
}

func hotRefresh(data map[string]string) bool {
	r := reader{data: data}
	hot := r.boolean(KeyHotRefresh)
	return hot || len(r.errs) > 0 // what cannot be read is refused anyway
}

// resolver is how users' groups are found, empty if the queues cannot be read.
func resolver(data map[string]string) string {
	conf, err := parseQueues(data[QueuesKey(data)])
	if err != nil {
		return ""
	}
	for _, p := range conf.Partitions {
		if isDefault(p.Name) {
			return p.UserGroupResolver.Type
		}
	}
	return ""
}
