package ledger

// Most is the most of a resource that a task is taken to ask for, in the engine's
// units: more than any node has, which counts as one less at most. It is far from the
// largest integer because amounts are added up, and taken off the sums again: those of
// 8,191 tasks that ask for more than there is are still right. A sum that stops at
// the largest integer would have nothing left once one of them goes.
const Most int64 = 1 << 50

// Bounded returns an amount, or Most if it is above that.
func Bounded(amount int64) int64 { return min(amount, Most) }
