package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

func (a *app) watchCommand() *cobra.Command {
	var all, start bool
	c := &cobra.Command{
		Use:   "watch [JOB]",
		Short: "Show the facts of a job, or of all jobs",
		Long: `With JOB, watch shows the facts of that job from its beginning and ends with
the job, with the exit code that omf load would have.

Without, it shows the facts of the testbed (--all: of every testbed) from now on
(--start: from the oldest that is kept), until it is interrupted. That includes
leases and images.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("omf watch wants one job at most, got %d words", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if all || start {
					return usagef("--all and --start are for watching without JOB")
				}
				return a.watchJob(c.Context(), args[0])
			}
			return a.watchAll(c.Context(), all, start)
		},
	}
	c.Flags().BoolVar(&all, "all", false, "facts of every testbed")
	c.Flags().BoolVar(&start, "start", false, "from the oldest fact that is kept")
	return c
}

// watchAll shows facts until it is interrupted.
func (a *app) watchAll(ctx context.Context, all, start bool) error {
	if a.output == "json" {
		return usagef("watching without JOB has no end and so no final object; use -o jsonl")
	}
	filter := events.TestbedFacts(a.testbed())
	if all {
		filter = events.AllFacts
	}
	return a.client(ctx, func(conn *bus.Conn) error {
		var wg sync.WaitGroup
		attend, leave := context.WithCancel(ctx)
		defer func() { leave(); wg.Wait() }()
		wg.Go(func() { a.attend(attend, conn) })
		cfg := bus.WatchConfig{Stream: bus.StreamFacts, Filters: []string{filter}, New: !start}
		err := conn.Watch(ctx, cfg, func(m bus.Message) error {
			if a.output == "jsonl" {
				return a.emitJSON(m)
			}
			d, err := dataOf(m)
			line := display.Line(when(m), m.Address, d, err)
			if all && m.Address.Testbed != "" {
				line = m.Address.Testbed + "  " + line
			}
			_, werr := fmt.Fprintln(a.stdout, line)
			return werr
		})
		if ctx.Err() != nil {
			return quietly(exitInterrupted)
		}
		return err
	})
}

// attend tells when the bus goes away and comes back, until ctx ends.
func (a *app) attend(ctx context.Context, conn *bus.Conn) {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	var gone absence
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if text := gone.note(a.now(), conn.NATS().IsConnected()); text != "" {
				a.tell(text)
			}
		}
	}
}

// watchJob shows one job from its beginning.
func (a *app) watchJob(ctx context.Context, arg string) error {
	id, err := jobID(arg)
	if err != nil {
		return err
	}
	return a.client(ctx, func(conn *bus.Conn) error {
		var detail events.JobDetail
		err := a.askHandler(ctx, conn, events.HandlerJob, events.JobQuery{Job: id}, &detail)
		var remote *events.Error
		switch {
		case errors.As(err, &remote):
			return err
		case err == nil && detail.Archived:
			return a.finish(jobOf(detail), exitOf(jobOf(detail)))
		}
		// Facts can be watched without a handler.
		j, f := a.job(conn, id)
		f.screen = a.watchScreen()
		err = f.run(ctx, nil)
		switch {
		case errors.Is(err, errDetached):
			return a.detached(j, exitInterrupted)
		case err != nil:
			return err
		}
		return a.finish(j, exitOf(j))
	})
}

// watchScreen prints lines on standard output, because they are what was
// asked for; with json and jsonl that is the place of the objects.
func (a *app) watchScreen() *screen {
	s := a.screen()
	if a.output == "text" && !s.none {
		s.lines = a.stdout
	}
	return s
}

// jobID accepts the ids of jobs in either case.
func jobID(arg string) (string, error) {
	if !events.IsULID(arg) {
		return "", usagef("%q is not a job id; omf jobs lists them", arg)
	}
	return lower(arg), nil
}

// jobOf makes from a stored job what a screen shows.
func jobOf(d events.JobDetail) *display.Job {
	j := display.NewJob(d.Job)
	j.State, j.Request, j.Save = d.State, &d.Request, d.Save
	if d.Plan != nil {
		j.Apply(*d.Plan)
	}
	if d.Served != nil {
		j.Apply(*d.Served)
	}
	for _, m := range d.Members {
		n := j.Node(m.Node)
		n.State, n.Attempt, n.Alarms = m.State, m.Attempt, m.Alarms
	}
	if d.Reject != nil {
		j.Apply(events.JobRejected{Job: d.Job, Error: *d.Reject})
	}
	if d.Result != nil {
		j.Apply(*d.Result)
	}
	return j
}
