// Package powertest is the suite that every power driver passes, and the
// machines it is run against.
//
// A driver's test makes a Rig: the driver and a way to look at the machines
// from outside, not through the driver. Machines is a set of such machines in
// memory which answers the requests of the bus driver as a resident agent
// does.
package powertest
