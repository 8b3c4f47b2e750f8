// Package bus is how loadnode speaks on NATS: connections that survive their
// server, the CloudEvents codec, the streams, retained publishing, appending
// facts all or nothing, consuming with one settle policy, watching, durable
// timers, ownership with a time limit, and request/reply services.
//
// What is said, and on which subject, is the business of package events. What
// it means is decided in package handler. No image byte passes here.
//
// The server itself lives in bus/embedded, the test harness in bus/bustest;
// this package never links nats-server.
//
// # Delivery
//
// Everything that is published with Publish or Append is stored before the
// call returns. Everything that is consumed is delivered at least once: what a
// handler does must be harmless to repeat. Emit alone may lose events; it is
// for telemetry.
package bus
