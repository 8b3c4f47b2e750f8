package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// follow watches one job from its first fact to its last.
type follow struct {
	app     *app
	conn    *bus.Conn
	testbed string
	job     *display.Job
	screen  *screen
	legacy  legacyView              // in place of screen; nil: none
	emit    func(bus.Message) error // for each fact; nil: nothing
	until   func(*display.Job) bool // ends the following; nil: the end of the job

	owned bool // the job dies with this process: an interrupt ends both, without a question

	// patience is how long the first fact may take; 0: for ever.
	patience time.Duration
	cancel   bool // the user chose to cancel
	absence  absence
}

// legacyView prints what OMF printed while a job went on. It is asked often.
type legacyView interface {
	tick(now time.Time, j *display.Job) error
}

// errDetached ends a following that the user has left; the job goes on.
var errDetached = errors.New("detached")

// redraw is the time between two pictures of the live view.
const redraw = 100 * time.Millisecond

// grace is how long after its deadline a job may still be told of before the
// client believes that nobody is left to end it.
const grace = time.Minute

// run shows facts until the job has ended. Before the first fact arrives it
// calls begun, when the watch is set up.
func (f *follow) run(ctx context.Context, begun func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()

	facts := make(chan bus.Message)
	ended := make(chan error, 1)
	wg.Go(func() {
		ended <- f.conn.Watch(ctx, bus.WatchConfig{
			Stream: bus.StreamFacts, Filters: []string{events.JobFacts(f.testbed, f.job.ID)},
		}, func(m bus.Message) error {
			select {
			case facts <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	telemetry := make(chan bus.Message, 256)
	if f.screen.live != nil || f.legacy != nil {
		stop, err := f.conn.Subscribe(ctx, events.JobProgress(f.testbed, f.job.ID), func(m bus.Message) {
			select {
			case telemetry <- m:
			default: // the next one says more
			}
		})
		if err != nil {
			return fmt.Errorf("watch the progress of job %s: %w", f.job.ID, err)
		}
		defer stop()
	}
	if begun != nil {
		if err := begun(ctx); err != nil {
			return err
		}
	}
	return f.loop(ctx, facts, telemetry, ended)
}

func (f *follow) loop(ctx context.Context, facts, telemetry <-chan bus.Message, ended <-chan error) error {
	interrupts := f.app.takeInterrupts(ctx)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	began := f.app.now()
	for !f.done() {
		select {
		case m := <-facts:
			if err := f.fact(m); err != nil {
				return err
			}
		case m := <-telemetry:
			if d, err := dataOf(m); err == nil {
				f.job.Apply(d)
			}
		case <-tick.C:
			if err := f.present(); err != nil {
				return err
			}
			if err := f.draw(); err != nil {
				return err
			}
			if err := f.overdue(began); err != nil {
				return err
			}
		case <-interrupts:
			if err := f.interrupted(ctx, interrupts); err != nil {
				return err
			}
		case err := <-ended:
			if ctx.Err() != nil {
				return f.detach()
			}
			if err == nil {
				err = errors.New("the watch ended")
			}
			return fmt.Errorf("watch job %s: %w", f.job.ID, err)
		case <-ctx.Done():
			return f.detach()
		}
	}
	return f.screen.draw(f.job)
}

// draw shows how far the job is.
func (f *follow) draw() error {
	if f.legacy != nil {
		return f.legacy.tick(f.app.now(), f.job)
	}
	return f.screen.draw(f.job)
}

// present tells when the bus goes away and comes back.
func (f *follow) present() error {
	text := f.absence.note(f.app.now(), f.conn.NATS().IsConnected())
	if text == "" {
		return nil
	}
	if err := f.screen.clear(); err != nil {
		return err
	}
	if f.absence.told {
		text += fmt.Sprintf(" (job %s is not lost; to see it later: omf watch %s)", f.job.ID, f.job.ID)
	}
	f.app.tell(text)
	return nil
}

func (f *follow) done() bool {
	if f.until != nil && f.until(f.job) {
		return true
	}
	return f.job.Ended()
}

func (f *follow) fact(m bus.Message) error {
	d, err := dataOf(m)
	if err == nil {
		f.job.Apply(d)
	}
	if f.emit != nil {
		if err := f.emit(m); err != nil {
			return err
		}
	}
	return f.screen.fact(m, d, err)
}

// overdue ends the following of a job that nobody seems to work on.
func (f *follow) overdue(began time.Time) error {
	now := f.app.now()
	switch {
	case f.job.Facts == 0 && f.patience > 0 && now.Sub(began) > f.patience:
		return &exit{
			code: exitUnreachable,
			err:  fmt.Errorf("no handler took job %s in %s; the request has expired and will not be run", f.job.ID, f.patience),
			hint: "is the server running? see its log",
		}
	case f.job.Accepted != nil && !f.job.Accepted.Deadline.IsZero() && now.After(f.job.Accepted.Deadline.Add(grace)):
		return &exit{
			code: exitTimeout,
			err:  fmt.Errorf("job %s is past its deadline and no handler has ended it", f.job.ID),
			hint: "when a handler is back: omf watch " + f.job.ID,
		}
	}
	return nil
}

// interrupted asks on a terminal what is meant, and detaches elsewhere.
func (f *follow) interrupted(ctx context.Context, interrupts <-chan struct{}) error {
	if f.owned || !terminal(f.app.stdin) || !terminal(f.app.stderr) {
		return f.detach()
	}
	if err := f.screen.clear(); err != nil {
		return err
	}
	return f.choose(ctx, f.app.lines(ctx), interrupts)
}

// choose asks until the answer is clear. A second interrupt or the end of the
// input detaches: nothing but the word itself cancels a job.
func (f *follow) choose(ctx context.Context, answers <-chan string, interrupts <-chan struct{}) error {
	for {
		fmt.Fprintf(f.app.stderr, "job %s goes on. [d]etach, [c]ancel it, or [k]eep watching? ", f.job.ID)
		select {
		case answer, ok := <-answers:
			switch word := strings.ToLower(strings.TrimSpace(answer)); {
			case !ok, word == "d", word == "detach":
				return f.detach()
			case word == "c", word == "cancel":
				f.cancel = true
				return f.app.requestCancel(ctx, f.conn, f.job.ID, "interrupted at the terminal")
			case word == "k", word == "keep":
				return nil
			}
		case <-interrupts:
			return f.detach()
		case <-ctx.Done():
			return f.detach()
		}
	}
}

func (f *follow) detach() error {
	if err := f.screen.clear(); err != nil {
		return err
	}
	if f.owned {
		return errDetached
	}
	fmt.Fprintf(f.app.stderr, "\ndetached: job %s goes on\n  watch it:  omf watch %s\n  cancel it: omf job cancel %s\n", f.job.ID, f.job.ID, f.job.ID)
	return errDetached
}

// lines reads standard input line by line until ctx ends. A terminal cannot be
// read with a deadline, so a reader that waits for one ends with the process.
func (a *app) lines(ctx context.Context) <-chan string {
	c := make(chan string)
	go func() {
		defer close(c)
		s := bufio.NewScanner(a.stdin)
		for s.Scan() {
			select {
			case c <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// emitJSON writes a fact as one line: the event as it stands on the bus.
func (a *app) emitJSON(m bus.Message) error {
	if m.Err != nil {
		return a.printJSON(map[string]any{"subject": m.Subject, "seq": m.Seq, "error": m.Err.Error()})
	}
	b, err := json.Marshal(m.Event)
	if err != nil {
		return fmt.Errorf("write event %s: %w", m.Event.ID(), err)
	}
	_, err = a.stdout.Write(append(b, '\n'))
	return err
}
