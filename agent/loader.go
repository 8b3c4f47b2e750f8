package agent

import (
	"context"
	"errors"
	"sync"

	"loadnode/events"
)

// Loader carries out loads in place of the agent: on a node that is driven by
// another program. The agent keeps its part: commands, attempts, deadlines,
// reports, telemetry.
type Loader interface {
	// Load returns when the disk holds the image, with what is known of it:
	// assurance, digest, bytes. When ctx ends the load is to be stopped; its
	// cause says why. Errors that know their class are *Failure.
	Load(ctx context.Context, l Load) (events.LoadDone, error)
}

// Load is one attempt of a load that a Loader carries out.
type Load struct {
	Command events.LoadCommand
	// Started says that data comes, and to which disk. Only the first call counts.
	Started func(events.Disk)
	// Meter sets what tells how far the load is; it is called at any time.
	Meter func(func() Figures)
}

// Figures say how far a load or a save is. What is not known is zero.
type Figures struct {
	Percent       float64 // of the image, installed; of the disk's used space, captured
	Chunks        int     // of the image
	ChunksWritten int
	BytesReceived int64
	BytesWritten  int64
	BytesRead     int64 // of a save: from the disk
	BytesSent     int64 // of a save: to the image service
	Counters      map[string]int64
}

// Saver is a Loader that carries out saves as well.
type Saver interface {
	Loader
	// Save returns when the image service has confirmed the image, or when
	// everything was sent and somebody else will ask it. When ctx ends the save
	// is to be stopped. Errors that know their class are *Failure.
	Save(ctx context.Context, s Save) (events.SaveDone, error)
}

// Save is one attempt of a save that a Saver carries out.
type Save struct {
	Command events.SaveCommand
	// Started says that the disk is being sent. Only the first call counts.
	Started func(events.Disk)
	// Meter sets what tells how far the save is; it is called at any time.
	Meter func(func() Figures)
}

// Failure is an error of a load or a save that knows its class.
type Failure struct {
	Class     events.Class
	Message   string // what happened, for people
	Text      string // evidence: the words of the other program
	Retryable bool   // another attempt may succeed
}

func (f *Failure) Error() string { return f.Message }

// loadElsewhere has the Loader of the agent carry out a load.
func (a *Agent) loadElsewhere(ctx context.Context, op *operation) (events.LoadDone, error) {
	op.enter(stepJoin)
	a.watchDeadline(ctx, op, 0)
	var once sync.Once
	done, err := a.cfg.Loader.Load(ctx, Load{
		Command: op.cmd,
		Started: func(on events.Disk) { once.Do(func() { a.started(op, on) }) },
		Meter:   op.meter,
	})
	if err == nil && done.Assurance == "" {
		err = errors.New("the loader does not say what its result is worth")
	}
	done.NodeRef = op.ref
	return done, err
}
