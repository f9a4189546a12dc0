// Package migrate says what has to be known before a cluster that runs YuniKorn is switched over
// to Understudy, or back: what blocks, what has to be configured, and what will be different.
//
// Guarantees:
//
//   - Read only reads, and Ask only asks what others may do. What is refused to them they say, and that
//     blocks: nobody knows what is there.
//   - Check is pure: it says everything that follows from what was read, and asks nobody.
//   - A finding names an object, says what is with it, and what to do. Of many findings of one
//     kind, those over a limit are only counted.
package migrate
