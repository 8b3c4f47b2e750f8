// Package display shows jobs to people: the facts of a job folded into what a
// screen needs, one plain line for each fact, the live view of a terminal and
// the tables at the end. It knows no bus; it writes to the writer it is given
// and asks no clock.
package display
