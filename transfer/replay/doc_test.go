// Package replay_test plays recorded sessions of the original programs to our
// state machines: the recorded clients talk to our server, the recorded servers
// to our client, at the recorded times, on a virtual clock. What ours answer is
// compared with what the originals answered.
//
// Where ours rightly differ (specs/frisbee-protocol.md §7 and §12), the tests
// expect exactly that difference. There is no code here besides tests; what
// ours do among themselves is tested where they live.
package replay_test
