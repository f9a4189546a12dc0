// Package record is the form in which replicated state is stored in etcd: the
// layout of keys below a prefix, and the encoding of each value.
//
//	<prefix>/leader                    who leads, and in which epoch
//	<prefix>/apps/<appID>              one ledger.App
//	<prefix>/tasks/<appID>/<taskID>    one ledger.Task
//	<prefix>/terms/<epoch>             history of leadership
//	<prefix>/configuration             the queue configuration in force
//	<prefix>/schema                    version and identity of the whole prefix
//
// Beside them is the chronicle, which no understudy follows: see Followed.
//
//	<prefix>/~chronicle/events/<first>-<last>   events of the core, by their IDs in hex
//	<prefix>/~chronicle/samples/<slot>          one sample a minute, of 1,440
//
// # Guarantees
//
//   - Decode(Encode(x)) is x, apart from empty maps and slices, which come back
//     as nil, and text that is not UTF-8, which is repaired.
//   - Encoding is deterministic: equal records have equal bytes.
//   - Fields that this version does not know are kept in Unknown and written
//     back, so that a rolling upgrade loses nothing in either direction.
//   - Each value begins with the lowest schema version that may read it. One
//     that is above SchemaVersion yields ErrNewerSchema, and anything that cannot
//     be a record yields ErrCorrupt. No input makes a decoder panic.
//   - Any ID makes a safe key: IDs are path-escaped.
//
// Task groups and owner references are Kubernetes types and stored as the JSON
// that users know; everything else is protobuf.
package record

// To generate the code anew: protobuf-compiler, and protoc-gen-go of the
// version of google.golang.org/protobuf in go.mod, in PATH.
//go:generate protoc --proto_path=recordpb --go_out=recordpb --go_opt=paths=source_relative record.proto
