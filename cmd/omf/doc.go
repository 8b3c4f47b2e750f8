// Command omf asks for loads, watches them, looks after images and nodes, and
// is the server: one binary that can be every role.
//
// What lives here is flags, wiring, output and exit codes. What a job is, how
// an image travels and what a node does is decided in the packages handler,
// frisbeesvc, agent and transfer; client commands meet them on the bus only.
//
// # Exit codes
//
//	0    every node is loaded, or the quorum that was asked for is met
//	1    some nodes failed, or the command did
//	2    wrong usage, wrong configuration, such as an image directory that was
//	     named and does not exist
//	3    refused: leased or protected nodes, no such image, no such job, …
//	4    the deadline passed, or the quorum was missed
//	5    a service cannot be reached or cannot start: the bus, the handler, the
//	     image service; a server whose port or state directory is taken
//	130  interrupted; a job that was asked for goes on unless it was cancelled
package main
