// Package power switches machines. It holds the Driver interface and the
// drivers behind it: bus (a service on the bus, which a resident agent or the
// simulator answers) and exec (a script).
//
// A driver does one action on one node and tells what it knows. When to act,
// when to go from soft to hard, how many nodes at once, and what to do after a
// crash is decided by the handler. What the file may say about a driver is
// checked in package inventory.
//
// Package powertest is the suite that every driver passes.
package power
