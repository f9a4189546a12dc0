// Package term is leadership from winning the Lease to giving it up: claim, promotion,
// the work of a lead, and taking it down.
//
// It guarantees that
//
//   - a lead acts only on state that is caught up, in its own term, with the mirror and
//     with the cluster (promote);
//   - nothing that a promotion has found is written before the engine's account has been
//     verified, and one application whose records contradict it keeps nobody from leading:
//     it is rebuilt from its pods (verify);
//   - no step of a promotion holds the Lease for longer than its budget (Budgets), and no
//     lead that makes no progress keeps it (watch);
//   - no request that writes is sent after the term is over (Guard);
//   - Serve returns when all work has stopped, or says that some of it hangs (ErrHung);
//     no part waits for another that has been taken down (takeDown).
//
// A lead whose term has lapsed, and whom nobody has followed, goes on in another: see
// resume.go.
package term
