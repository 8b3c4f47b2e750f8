// Package power switches machines. It holds the Driver interface and the
// drivers behind it:
//
//   - bus: a service on the bus, which a resident agent or the simulator answers
//   - exec: a script
//   - cmc: ORBIT's chassis manager, or a card at each node, over HTTP
//   - redfish: a management controller that speaks Redfish
//   - ipmi: one that speaks IPMI, through ipmitool
//   - wol: magic packets, which only switch on
//   - agent: the node's own agent, which only shuts down and reboots
//
// An action that a driver does not have is refused with ErrUnsupported; the
// error says which drivers have it.
//
// A driver does one action on one node and tells what it knows. When to act,
// when to go from soft to hard, how many nodes at once, and what to do after a
// crash is decided by the handler. What the file may say about a driver is
// checked in package inventory.
//
// Package powertest is the suite that every driver passes.
package power
