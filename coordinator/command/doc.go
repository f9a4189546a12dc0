// Package command is the command line of understudy, and of programs that add app
// managers to it. It runs a replica of the coordinator, alone or supervised, and
// asks replicas how they are. It turns flags and a file into a configuration, sets up log, traces
// and signals, and calls package coordinator; it decides nothing itself.
//
// Exit status: 0 when the command did what it was asked for, among others an
// orderly hand-over after SIGTERM; 1 when it failed; 2 when it was called wrongly;
// 70 when work outlived its term of leadership and the process was ended for it; 71
// when a part of the process hung.
// A supervisor ends with the status of its last child, 128 plus the number of the
// signal if one has ended that, or 127 if it could not be started.
// Results go to standard output, the log of a replica and error messages to
// standard error.
package command
