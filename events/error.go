package events

import "errors"

// Code names a refusal for programs. Messages are for people.
type Code string

// Codes of errors that cross the bus.
const (
	CodeBadRequest  Code = "bad_request" // undecodable or invalid
	CodeExpired     Code = "expired"     // older than its ttl
	CodeTestbed     Code = "testbed"     // no such testbed
	CodeNode        Code = "node"        // no such node, or none at all
	CodeImage       Code = "image"       // no such image
	CodeDamaged     Code = "damaged"     // the image is not what its manifest says
	CodeLeased      Code = "leased"      // held by another job
	CodeProtected   Code = "protected"   // the inventory or an operator protects it
	CodeBusy        Code = "busy"        // doing something else
	CodeStale       Code = "stale"       // names an old boot, attempt or job
	CodeRefused     Code = "refused"     // the safety gate says no
	CodeNotFound    Code = "not_found"   // no such job or thing
	CodeConflict    Code = "conflict"    // exists already, or changed meanwhile
	CodeUnavailable Code = "unavailable" // a service does not answer
	CodeFailed      Code = "failed"      // it was tried and failed
	CodeUnsupported Code = "unsupported" // not possible with this node or driver
	CodeInternal    Code = "internal"    // a fault of ours
)

// Error is an error as data: what crosses the bus in place of a Go error.
type Error struct {
	Code      Code   `json:"code"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"` // what to do about it, a command where there is one
	Job       string `json:"job,omitempty"`  // the holder, for leased and busy
	Retryable bool   `json:"retryable,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// AsError returns err as data. An *Error in its chain is kept with its code;
// the message is that of the whole chain. Anything else becomes
// CodeInternal.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Message = err.Error()
		return &c
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}
