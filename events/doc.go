// Package events is the vocabulary of loadnode: what can be said on the bus
// and where. It holds the subjects, the kinds of events with the structs of
// their data, the identifiers, the failure classes, and (in schema/ and
// asyncapi.yaml) the documents that describe them to others.
//
// It is pure: no input or output, no clock, no randomness of its own. How
// events travel is the business of package bus; what they mean for a job is
// decided in package handler.
//
// # Trees
//
//	omf.v1.req.<tb>.<verb>                          requests, a work queue
//	omf.v1.rpt.<tb>.node.<node>.<kind>              reports of a node about itself
//	omf.v1.evt.<tb>.job.<job>.<kind>                facts of a job
//	omf.v1.evt.<tb>.job.<job>.node.<node>.<kind>    facts of a node in a job
//	omf.v1.evt.<tb>.leases                          leases and protections
//	omf.v1.evt.<tb>.image.<image>.<kind>            facts of an image
//	omf.v1.tlm.<tb>.job.<job>.node.<node>.progress  telemetry, may be lost
//	omf.v1.tlm.<tb>.node.<node>.boot.stage          telemetry of a network boot
//	omf.v1.cmd.<tb>.node.<node>.<verb>              commands to an agent, request/reply
//	omf.v1.svc.<tb>.frisbee.<verb>                  image service, request/reply
//	omf.v1.svc.<tb>.handler.<verb>                  handler, request/reply
//	omf.v1.svc.<tb>.power.<node>.<verb>             power of a node, request/reply
//	omf.v1.svc.<tb>.bus.<verb>                      the broker's own service: credentials
//	omf.v1.timer.<tb>.job.<job>                     schedules that wake a job
//	omf.v1.due.<tb>.job.<job>                       the wake-ups themselves
//	omf.v1.dlq.<stream>                             messages that nobody could handle
//
// A node cannot write history: it reports, and the handler, having checked
// the report, appends the fact.
package events
