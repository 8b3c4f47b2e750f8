// Package listener plays an OMF 4.x node agent for a legacy controller, on TCP port 9006 or on the multicast transport:
// it is enrolled, runs LOAD_IMAGE, SAVE_IMAGE and EXEC and answers with the bytes the original would answer
// (specs/omf-legacy.md, a.4–a.9). What the commands do to the machine is a [Machine].
//
// Faults of the original that are not kept: a command that arrives in two pieces is put together; aliases in YOUARE do
// not steal the name; a second LOAD_IMAGE or SAVE_IMAGE while one runs is refused instead of being started beside it; a
// dead connection is found by keep-alive and gives way to the next controller. On the multicast transport RETRY is
// answered with the messages that were missed, under their numbers, and commands that come before their turn wait for
// those that are missing, but not for ever.
package listener
