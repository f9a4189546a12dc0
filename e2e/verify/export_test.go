package verify

// The records of the tests, for the drill, which is a package of its own since
// it imports packages that import this one.

func ClaimRecord(epoch uint64) KV                 { return claimOp(epoch).kv() }
func AppRecord(id, state string, epoch uint64) KV { return appOp(id, state, epoch).kv() }

func TaskRecord(appID, uid, pod, state, node string, epoch uint64) KV {
	return namedTaskOp(appID, uid, pod, state, node, epoch).kv()
}

func (o op) kv() KV { return KV{Key: o.key, Value: o.value} }
