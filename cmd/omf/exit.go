package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"loadnode/bus"
	"loadnode/events"
)

// Exit codes; doc.go says what they mean.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitTimeout     = 4
	exitUnreachable = 5
	exitInterrupted = 130
)

// exit is an error that knows its exit code. Without err nothing is printed:
// the command has said everything.
type exit struct {
	code int
	err  error
	hint string
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// quietly ends with a code and says nothing more; 0 is no error.
func quietly(code int) error {
	if code == exitOK {
		return nil
	}
	return &exit{code: code}
}

// classify finds the exit code and the hint of an error.
func classify(err error) *exit {
	var known *exit
	if errors.As(err, &known) {
		if known.err != nil {
			return &exit{code: known.code, err: err, hint: known.hint}
		}
		return known
	}
	var remote *events.Error
	switch {
	case errors.As(err, &remote):
		return &exit{code: codeOf(remote), err: err, hint: remote.Hint}
	case errors.Is(err, bus.ErrUnreachable):
		return &exit{code: exitUnreachable, err: err, hint: "is a server running there? start one with: omf serve"}
	case errors.Is(err, bus.ErrNoResponders):
		return &exit{code: exitUnreachable, err: err}
	case errors.Is(err, bus.ErrDenied):
		return &exit{code: exitRefused, err: err, hint: "give the operator's credential with --credential FILE"}
	case errors.Is(err, bus.ErrUntrusted):
		return &exit{code: exitRefused, err: err, hint: "give the operator's credential as the server wrote it with --credential FILE: it says which authority to trust; a name or address that the certificate lacks: omf serve --tls-names"}
	case errors.Is(err, context.Canceled):
		return &exit{code: exitInterrupted, err: errors.New("interrupted")}
	case errors.Is(err, context.DeadlineExceeded):
		return &exit{code: exitTimeout, err: err}
	}
	return &exit{code: exitFailed, err: err}
}

func codeOf(e *events.Error) int {
	switch e.Code {
	case events.CodeUnavailable:
		return exitUnreachable
	case events.CodeInternal, events.CodeFailed:
		return exitFailed
	}
	return exitRefused
}

// report says what went wrong and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	e := classify(err)
	if e.err == nil {
		return e.code
	}
	fmt.Fprintf(a.stderr, "omf: %v\n", e.err)
	if e.hint != "" {
		fmt.Fprintf(a.stderr, "     %s\n", e.hint)
	}
	if a.output == "json" || a.output == "jsonl" {
		data := events.AsError(e.err)
		if data.Hint == "" {
			data.Hint = e.hint
		}
		if data.Code == events.CodeInternal {
			data.Code = codeFor(e.code)
		}
		// A reader that is gone cannot be told.
		_ = a.printJSON(struct {
			Error *events.Error `json:"error"`
			Exit  int           `json:"exit"`
		}{data, e.code})
	}
	return e.code
}

func codeFor(exit int) events.Code {
	switch exit {
	case exitUsage:
		return events.CodeBadRequest
	case exitRefused:
		return events.CodeRefused
	case exitUnreachable:
		return events.CodeUnavailable
	}
	return events.CodeFailed
}

// printJSON writes one value as one line on standard output.
func (a *app) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(append(b, '\n'))
	return err
}
