// Package changes remembers which records have changed lately, for those who follow them: on an
// understudy what the view has applied, on a lead what has become durable.
//
// It guarantees that
//
//   - nobody who follows costs memory here, or delays anybody: there is one log, and a follower
//     is a position in it. The log is bounded. A follower that it has overtaken is told so, and
//     has to begin anew;
//   - who has followed up to a revision, here or in another replica, goes on from there without
//     a gap, as long as the log still has all that came after it;
//   - a log goes on when its replica becomes the lead.
//
// A log has the keys of records and not the records: a follower reads these when it comes to
// them, and finds what they are by then, at least as new as the change. Many changes of one record
// are one to a follower that takes its time.
package changes
