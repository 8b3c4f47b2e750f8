package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"loadnode/events"
)

var (
	// ErrUnreachable is returned when no server answered in the time given.
	ErrUnreachable = errors.New("bus is unreachable")

	// ErrDenied is returned when the server refuses the credential, or refuses
	// a subject to it.
	ErrDenied = errors.New("denied by the bus")

	// ErrUntrusted is returned when the server cannot prove that it is the one
	// that the credential speaks of, or does not encrypt.
	ErrUntrusted = errors.New("the bus cannot be trusted")

	// ErrNoResponders is returned at once by Request when nobody serves the
	// subject.
	ErrNoResponders = errors.New("nobody answers on this subject")

	// ErrConflict is returned by Append when somebody else has appended since
	// the expected sequence: load again and decide again.
	ErrConflict = errors.New("somebody else was faster")

	// ErrDuplicate is returned by Append when the log holds a fact with the
	// same id already, before the expected sequence: the caller has decided
	// something that has happened. Nothing is stored.
	ErrDuplicate = errors.New("the log holds this fact already")

	// ErrUndecodable is wrapped by Message.Err when a message is not a
	// CloudEvent.
	ErrUndecodable = errors.New("not a decodable event")

	// ErrTooLarge is returned for an event above MaxEventBytes.
	ErrTooLarge = errors.New("event is too large")

	// ErrNoMessage is returned by Last when no message matches.
	ErrNoMessage = errors.New("no message")

	// ErrStop is returned by the function of a Watch to end it without error.
	ErrStop = errors.New("stop watching")

	// errLost ends what is in flight when the connection breaks.
	errLost = errors.New("connection lost")
)

// retryError asks for another delivery after a delay.
type retryError struct {
	after time.Duration
	err   error
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// Retry marks err so that the message is delivered again after the given
// time, 10 ms at least.
func Retry(after time.Duration, err error) error {
	if err == nil {
		err = errors.New("asked for another delivery")
	}
	return &retryError{after: max(after, minDelay), err: err}
}

// permanentError says that another delivery cannot help.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Permanent marks err so that the message is set aside: it is never delivered
// again, and kept with the reason in OMF_DLQ.
func Permanent(err error) error {
	if err == nil {
		err = errors.New("set aside")
	}
	return &permanentError{err: err}
}

// IsTransient reports whether doing the same again later may succeed. It is
// the one place where errors are classified: broken connections, timeouts,
// absent services, conflicts and errors that say so of themselves are
// transient; refusals and undecodable input are not. Unknown errors count as
// transient, because to repeat is harmless here and to drop is not.
func IsTransient(err error) bool {
	var permanent *permanentError
	var retry *retryError
	var remote *events.Error
	var api *jetstream.APIError
	switch {
	case err == nil:
		return false
	case errors.As(err, &permanent):
		return false
	case errors.As(err, &retry):
		return true
	case errors.Is(err, ErrDenied), errors.Is(err, ErrUndecodable), errors.Is(err, ErrTooLarge), errors.Is(err, ErrDuplicate):
		return false
	case errors.As(err, &remote):
		return remote.Retryable || remote.Code == events.CodeUnavailable || remote.Code == events.CodeBusy
	case errors.As(err, &api):
		// Servers blame themselves (5xx) for what passes, and for a
		// configuration; a cluster that is coming up has no peers yet.
		return api.Code >= 500 && api.ErrorCode != codeStreamConfig || api.Code == 429 || api.ErrorCode == codeNoPeers
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject),
		errors.Is(err, nats.ErrConnectionClosed): // by Close: a lost one is not closed
		return false
	}
	return true
}

// withContext adds the end of the context to the error that was the last one
// before it.
func withContext(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ctx.Err())
}

// classify turns the errors of the client library into those of this package.
// cause is the cause of the guarded context, if that is what ended the call.
func classify(err, cause error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, ErrDenied):
		return cause
	case errors.Is(cause, errLost):
		return fmt.Errorf("%w: %w", ErrUnreachable, errLost)
	case errors.Is(err, nats.ErrPermissionViolation), errors.Is(err, nats.ErrAuthorization),
		errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case isUntrusted(err):
		return fmt.Errorf("%w: %w", ErrUntrusted, err)
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w", ErrNoResponders)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout),
		errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting),
		errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// isUntrusted reports whether a server could not prove itself, or does not
// encrypt where it should.
func isUntrusted(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification) || errors.Is(err, nats.ErrSecureConnWanted)
}
