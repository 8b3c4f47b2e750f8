package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"loadnode/events"
	"loadnode/transfer/client"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// Why a load ends before its time: causes of its context.
var (
	errStopped    = errors.New("stopped by command")
	errSuperseded = errors.New("stopped: a later attempt of the job began")
	errLeaving    = errors.New("stopped: the machine was told to leave")
	errEnding     = errors.New("stopped: the agent was told to end")
	errDeadline   = errors.New("the deadline passed")
)

// step is what a load or a save was doing.
type step int

const (
	stepDisk step = iota
	stepManifest
	stepJoin
	stepReceive
	stepSync
	stepReadBack
	// Of a save.
	stepOpen
	stepCapture
	stepStore
)

// Phases of loads and saves as telemetry names them.
const (
	phaseJoining   = "joining"
	phaseReceiving = "receiving"
	phaseSyncing   = "syncing"
	phaseVerifying = "verifying"
	phaseOpening   = "opening"
	phaseCapturing = "capturing"
	phaseStoring   = "storing"
	phaseDone      = "done"
)

func (s step) phase() string {
	switch s {
	case stepReceive:
		return phaseReceiving
	case stepSync:
		return phaseSyncing
	case stepReadBack:
		return phaseVerifying
	case stepOpen:
		return phaseOpening
	case stepCapture:
		return phaseCapturing
	case stepStore:
		return phaseStoring
	}
	return phaseJoining
}

func (s step) String() string {
	return [...]string{"opening the disk", "fetching the manifest", "joining the session",
		"receiving", "syncing the disk", "reading the disk back",
		"opening the disk", "capturing the disk", "storing the image"}[s]
}

// classOf is the class of an unexpected error at a step.
func (s step) class() events.Class {
	return [...]events.Class{events.ClassRefused, events.ClassImage, events.ClassJoin,
		events.ClassReceive, events.ClassWrite, events.ClassVerify,
		events.ClassRefused, events.ClassStore, events.ClassStore}[s]
}

// panicError is a fault of this program, caught.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("fault in the agent: %v", e.value) }

// failure says in the words of the vocabulary why a load or a save ended with err while
// it was at a step. cause is that of the context of the load, nil while that
// was alive. It is the one place where errors become classes.
func failure(err error, at step, cause error) events.LoadFailed {
	f := events.LoadFailed{
		Class:     at.class(),
		Message:   fmt.Sprintf("%s: %v", at, err),
		Evidence:  events.Evidence{Text: err.Error()},
		Retryable: true,
	}
	var (
		writeErr  *install.WriteError
		readErr   *install.ReadBackError
		corrupt   *ndz.CorruptError
		badList   *manifestError
		fault     *panicError
		told      *Failure
		diskRead  *diskReadError
		store     *storeError
		diskFails = errors.As(err, &writeErr) && !errors.Is(err, context.Canceled)
	)
	switch {
	case errors.As(err, &told): // whoever knows the class knows why, too
		f.Class, f.Message, f.Retryable = told.Class, told.Message, told.Retryable
		if told.Text != "" {
			f.Evidence.Text = told.Text
		}
	case errors.As(err, &diskRead):
		first, last := diskRead.off, diskRead.off+diskRead.n
		f.Class, f.Retryable = events.ClassRead, false // a disk that refuses a read refuses it again
		f.Evidence.First, f.Evidence.Last = &first, &last
	case cause != nil && !diskFails && !errors.As(err, &readErr):
		f.Class = events.ClassCancelled
		if errors.Is(cause, errDeadline) {
			f.Class = events.ClassTimeout
		}
		f.Message = fmt.Sprintf("%v while %s", cause, at)
		f.Retryable = errors.Is(cause, errEnding)
	case errors.As(err, &fault):
		f.Evidence.Text += "\n" + string(fault.stack)
	case errors.As(err, &store):
		f.Class, f.Retryable = store.class(), store.again()
	case refusedDisk(err) && at <= stepJoin, at == stepDisk, at == stepOpen:
		f.Class, f.Retryable = events.ClassRefused, false
	case errors.As(err, &badList):
		f.Class, f.Retryable = events.ClassImage, !badList.final
	case errors.As(err, &readErr):
		f.Class, f.Retryable = events.ClassVerify, false // the disk is the suspect
		f.Evidence.Chunk, f.Evidence.First, f.Evidence.Last = &readErr.Chunk, &readErr.First, &readErr.Last
	case errors.As(err, &writeErr):
		first, last := writeErr.Off, writeErr.Off+writeErr.Len
		f.Class, f.Retryable = events.ClassWrite, false // a disk that refuses a write refuses it again
		f.Evidence.First, f.Evidence.Last = &first, &last
	case errors.As(err, &corrupt):
		f.Class = events.ClassReceive
		f.Evidence.Chunk, f.Evidence.First, f.Evidence.Last = &corrupt.Chunk, &corrupt.First, &corrupt.Last
	case errors.Is(err, install.ErrIncomplete):
		f.Class = events.ClassReceive
	case errors.Is(err, client.ErrNoServer):
		f.Class = events.ClassJoin
	case errors.Is(err, client.ErrSize):
		f.Class = events.ClassImage
	case errors.Is(err, client.ErrStalled):
		f.Class = events.ClassStalled
	}
	f.Message, f.Evidence.Text = clip(f.Message, maxMessage), clip(f.Evidence.Text, maxText)
	return f
}

// Bounds of texts in a report, bytes: the stream takes no large ones.
const (
	maxMessage = 2 << 10
	maxText    = 8 << 10
)

// clip cuts a text at a whole character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// refusedDisk reports whether err is a reason of the safety gate.
func refusedDisk(err error) bool {
	for _, reason := range []error{
		disk.ErrNotBlockDevice, disk.ErrMounted, disk.ErrInUse, disk.ErrTooSmall,
		disk.ErrSectorSize, disk.ErrReadOnly, disk.ErrAmbiguous, disk.ErrNotFound, install.ErrTooLarge,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}
