package agent

import (
	"context"
	"errors"
	"fmt"

	"loadnode/events"
	"loadnode/transfer/grow"
)

// Finisher is a Machine that can change a disk once an image is on it, verified
// and synced.
type Finisher interface {
	// Grow makes the last partition of the disk, and its filesystem, larger.
	Grow(ctx context.Context, path string, o grow.Options) (grow.Result, error)
}

// Grow implements [Finisher].
func (m *LinuxMachine) Grow(ctx context.Context, path string, o grow.Options) (grow.Result, error) {
	return grow.Disk(ctx, path, o)
}

// finish is what a command wants of the disk after the load.
type finish struct {
	machine Finisher
	size    *grow.Size
}

// afterwards reads what a command wants after the load. What this machine
// cannot do is refused before anything is written.
func (a *Agent) afterwards(cmd events.LoadCommand) (finish, error) {
	var f finish
	refuse := func(format string, args ...any) (finish, error) {
		return f, &Failure{Class: events.ClassRefused, Message: fmt.Sprintf(format, args...)}
	}
	if cmd.Resize == "" && cmd.Personalise == nil {
		return f, nil
	}
	machine, able := a.cfg.Machine.(Finisher)
	if !able {
		return refuse("the machine of %s cannot change a disk after the load: load it without --resize and --personalise", a.cfg.Node)
	}
	f.machine = machine
	if cmd.Resize != "" {
		r, err := events.ParseResize(cmd.Resize)
		if err != nil {
			return refuse("resize: %v", err)
		}
		f.size = &grow.Size{Bytes: r.Bytes, Percent: float64(r.Percent)}
	}
	if cmd.Personalise != nil {
		return refuse("the machine of %s cannot personalise what it loads", a.cfg.Node)
	}
	return f, nil
}

// run does it, on the disk that the image is on. A failure here is a failure of
// the load, and says that the image itself is written: who looks at the node
// must know what is on its disk.
func (f finish) run(ctx context.Context, path string, done *events.LoadDone) error {
	if f.size == nil {
		return nil
	}
	r, err := f.machine.Grow(ctx, path, grow.Options{Size: *f.size})
	if err != nil {
		return afterImage(ctx, done.Assurance, "its last partition was not resized", err)
	}
	done.Grown = &events.Grown{
		Partition: r.Partition, Before: r.Before, After: r.After,
		Filesystem: r.Filesystem, FilesystemGrown: r.FilesystemGrown, Notes: r.Notes,
	}
	return nil
}

// afterImage is the failure of what is done after the image.
func afterImage(ctx context.Context, worth events.Assurance, what string, err error) error {
	f := &Failure{Class: events.ClassWrite, Message: fmt.Sprintf("the image is on the disk (%s), but %s: %v", worth, what, err)}
	if cause := context.Cause(ctx); cause != nil {
		f.Class, f.Retryable = events.ClassCancelled, errors.Is(cause, errEnding)
		if errors.Is(cause, errDeadline) {
			f.Class = events.ClassTimeout
		}
		f.Message = fmt.Sprintf("%v; the image is on the disk (%s), but %s", cause, worth, what)
	}
	return f
}
