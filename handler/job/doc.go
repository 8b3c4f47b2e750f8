// Package job is the imaging job as a pure aggregate (docs/architecture.md): State is
// the fold of the job's facts (Apply), Decide turns an input — a report, a
// finished effect, the passing of time — into new facts, Outstanding derives
// the effects that the state asks for, and NextDeadline says when time alone
// will change something.
//
// Nothing here does input or output, reads a clock or draws a random number:
// the same state and the same input give the same facts. Package handler
// stores the facts, runs the effects and feeds their results back.
//
// # The life of a node
//
//	pending    waits for a place among the nodes that boot at once
//	rebooting  reboot.requested stands; pxe.up must follow by the deadline
//	up         pxe.up stands; load.started must follow by the deadline
//	loading    load.started stands; load.done or load.failed must follow
//	loaded     load.done stands
//	saving     save.started stands; save.done or save.failed must follow
//	saved      save.done stands
//	leaving    shutdown.requested stands; shutdown.done or reboot.done must follow
//	done       the end of a good node
//	failed     node.failed stands: the end of any other
//
// # Saves
//
// A job whose plan has Save captures the disk of its only node: the same life
// with saving and saved in place of loading and loaded. There is no session;
// each attempt has a place of its own at the image service (Lease). A node
// cannot claim a save that did not happen: its save.done makes a fact only
// together with what the image service says of the place (Report.Place), and
// which image it is the image service says alone. An attempt whose agent
// forgot it is looked up there as well (Placed): what is whole in the
// catalogue was saved.
//
// # Attempts
//
// NodeRef.Attempt counts the tries of a node from 1. It grows with each
// reboot, and with each repeated load or save on the same boot. A load.failed
// or save.failed fact with Retry says that another attempt follows: with
// Retryable too, the agent is told again on the same boot, as attempt n+1;
// without, the node goes back to pending and is rebooted as attempt n+1.
//
// A fact of an attempt that is over, of another boot or of another job cannot
// be made: Decide refuses such reports with ErrRefused and a reason.
package job
