// Package sim simulates nodes: each is the real agent with the real data plane
// and a file as its disk, behind simulated power and boot times. A node has
// its own address in 127/8, its own credential on the bus while its agent
// runs, and a second one for its power, which answers always.
//
// # Power
//
// Nodes start switched on, booted from their disks, as real ones stand about:
// then no agent runs. The verbs of svc.<tb>.power.<node>.* mean:
//
//	on      starts a machine that is off; nothing if it is on
//	off     cuts the power: no goodbye, what was not synced may be half there
//	soft    asks the system to shut down: an agent ends its load and reports
//	        first, so that the answer still says on; without one it is off at once
//	reset   cuts and starts; nothing if it is off
//	cycle   off, then on; starts a machine that is off
//	status  only answers
//
// A start with Netboot leads into the imaging system: its agent comes up after
// the boot time with a new boot id. A start without leads to the disk: on, no
// agent. An agent's halt switches off, its reboot starts from the disk. The
// same effect id is acted on once. The state counts the starts since the
// simulation began, not the one before it; of a machine that is on it names
// the boot, whatever runs there.
//
// # Faults
//
//	noboot             the machine starts and nothing ever comes up
//	die                the power fails once, amid the first load; it stays off until on or cycle
//	slowdisk[=BYTES]   the disk takes BYTES a second (default 4 MiB); a save reads as slowly
//	loss=PERCENT       of the datagrams that arrive are lost
//	reorder            datagrams arrive out of order
//	writeerr=BYTE      the write that covers this byte of the disk fails with EIO
//	flip               a bit of what was written flips on the disk once it is synced
//	cut[=PERCENT]      the connection of the first save is cut when so much of the disk's used space is captured (default 50)
//	lie[=WHAT]         the disk is damaged behind the agent's back, and load.done does not admit it
//
// What a lie tells: digest (the default) names another image than was asked
// for, count claims fewer chunks than the image has; a handler that compares
// the report with the plan must not call either a success. With flip the agent
// is honest and its disk is not: read-back catches it, nothing else can. With
// lie=sound the node claims that everything is right after a read-back that
// was right: nobody can tell from the bus that its disk is damaged. That is
// the limit of what a report can prove; only somebody else who reads the disk
// finds out.
//
// All choices (boot times, when a node dies, which bit flips, which datagrams
// are lost) follow from the seed and the name of the node. Boot ids are
// random, for they must not come again in another process.
package sim
