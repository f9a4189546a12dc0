// Package view is an understudy's live copy of the state that the lead mirrors
// to etcd.
//
// # Guarantees
//
//   - No gap. The view loads everything at one pinned revision and watches from
//     the next. Where the watch cannot go on, because etcd has compacted what it
//     missed, it loads again and applies the difference.
//   - One history. An etcd that was wiped, restored from a backup or replaced
//     answers at the same address as before, and would resume a watch as if nothing
//     had happened. Cluster ID, revision and the identity in the schema key are
//     compared once a second, and by every WaitRevision; where one does not fit,
//     the view loads anew.
//   - A barrier. After WaitRevision(r) the view holds everything that was committed
//     up to r in the history that etcd has now. As the leader key is part of what
//     is watched, waiting for the revision of one's own claim needs nothing else to
//     happen; for other revisions the view asks etcd for its progress.
//   - A digest of what it holds, which costs each change the same whatever else
//     there is. Whoever has etcd's history can tell by it whether that was all.
//   - Applied in order, one revision as a whole. OnChange sees each change once
//     it is applied, and all of them before WaitRevision or Take return.
//
// A record that cannot be read, because it is corrupt or meant for a newer
// version, is skipped and listed by key in Status; what was known of it before
// stays. A later version that can be read takes it off the list.
//
// # With etcd away
//
// The view keeps what it has and stays synced, as that is the best there is:
// Status has Connected false and says since when. It tries again for ever.
package view
