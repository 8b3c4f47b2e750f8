// Command packages builds the Debian packages of loadnode:
//
//	loadnode          omf and the drop-in commands, with manual pages and completions
//	loadnode-server   the service: unit, settings, its user; its program is omf
//	loadnode-agent    the agent for the system on a node's disk
//
// It needs Go and git, and neither dpkg nor a system that is Debian. The same
// source gives the same bytes: times are that of the commit, or
// SOURCE_DATE_EPOCH, and files have one order.
//
// What a package holds is in layout.go; what its scripts do, in the directory
// of its name beside it. check installs the packages on a clean system, runs the
// service as its unit says, and purges them again.
package main
