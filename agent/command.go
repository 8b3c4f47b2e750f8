package agent

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"loadnode/bus"
	"loadnode/events"
)

const (
	// pastOperations is how many attempts an agent remembers the outcome of.
	pastOperations = 16
	// stopAnswer is how long the answer to a stop waits for the operation to end.
	stopAnswer = time.Second
)

func (a *Agent) serve(ctx context.Context) (*bus.Service, error) {
	verbs := map[events.Verb]func(context.Context, bus.Request) (any, error){
		events.VerbLoad:   a.handleLoad,
		events.VerbSave:   a.handleSave,
		events.VerbStop:   a.handleStop,
		events.VerbProbe:  a.handleProbe,
		events.VerbReboot: func(ctx context.Context, r bus.Request) (any, error) { return a.handleLeave(ctx, r, events.VerbReboot) },
		events.VerbHalt:   func(ctx context.Context, r bus.Request) (any, error) { return a.handleLeave(ctx, r, events.VerbHalt) },
	}
	cfg := bus.ServiceConfig{
		Name: "agent", Version: "1.0.0", Description: "agent of node " + a.cfg.Node,
		Plain: true, NoQueue: true,
	}
	for verb, handle := range verbs {
		cfg.Endpoints = append(cfg.Endpoints, bus.Endpoint{
			Name: string(verb), Subject: events.CommandSubject(a.cfg.Testbed, a.cfg.Node, verb), Handle: handle,
		})
	}
	return a.cfg.Conn.Serve(ctx, cfg)
}

// checkRef refuses commands that are for another node or boot. A load or a
// leave must name the boot, because it was decided for the system that ran
// then; a stop may leave it out.
func (a *Agent) checkRef(ref events.NodeRef, verb events.Verb, needBoot bool) error {
	switch {
	case ref.Node != "" && ref.Node != a.cfg.Node:
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("%s: this is the agent of %s, not of %s", verb, a.cfg.Node, ref.Node)}
	case ref.Boot == "" && needBoot:
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("%s on %s: the command names no boot", verb, a.cfg.Node)}
	case ref.Boot != "" && ref.Boot != a.cfg.Boot:
		return &events.Error{Code: events.CodeStale, Job: ref.Job, Message: fmt.Sprintf("%s on %s: the command is for boot %s, the machine has restarted and runs boot %s",
			verb, a.cfg.Node, ref.Boot, a.cfg.Boot)}
	case len(ref.Job) > events.MaxNameLen || ref.Attempt < 0:
		return &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("%s on %s: job or attempt out of range", verb, a.cfg.Node)}
	}
	return nil
}

func (a *Agent) handleLoad(_ context.Context, r bus.Request) (any, error) {
	var cmd events.LoadCommand
	if err := r.Decode(&cmd); err != nil {
		return nil, err
	}
	if err := a.checkRef(cmd.NodeRef, events.VerbLoad, true); err != nil {
		return nil, err
	}
	switch {
	case cmd.Job == "":
		return nil, &events.Error{Code: events.CodeRefused, Message: fmt.Sprintf("load on %s: no job, no load", a.cfg.Node)}
	case cmd.Attempt < 1:
		return nil, &events.Error{Code: events.CodeBadRequest, Job: cmd.Job, Message: fmt.Sprintf("load on %s: attempts count from 1", a.cfg.Node)}
	case cmd.Verify != "" && cmd.Verify != events.VerifyReadback:
		return nil, &events.Error{Code: events.CodeBadRequest, Job: cmd.Job, Message: fmt.Sprintf("load on %s: verify %q is not known here, only %q", a.cfg.Node, cmd.Verify, events.VerifyReadback)}
	case cmd.Free != "" && cmd.Free != events.FreeZero && cmd.Free != events.FreeDiscard:
		return nil, &events.Error{Code: events.CodeBadRequest, Job: cmd.Job, Message: fmt.Sprintf("load on %s: free %q is not known here, only %q and %q", a.cfg.Node, cmd.Free, events.FreeZero, events.FreeDiscard)}
	case !a.cfg.Machine.Imaging():
		return nil, &events.Error{Code: events.CodeRefused, Job: cmd.Job, Message: fmt.Sprintf("load on %s: the node runs from its own disk, not in the imaging system", a.cfg.Node),
			Hint: "reboot the node into the imaging system first"}
	}
	return a.admit(cmd.NodeRef, events.VerbLoad, func(cancel context.CancelCauseFunc) *operation {
		op := newOperation(cmd.NodeRef, a.cfg.Boot, cmd.Effect, cancel)
		op.cmd = cmd
		a.loads++
		return op
	})
}

func (a *Agent) handleSave(_ context.Context, r bus.Request) (any, error) {
	var cmd events.SaveCommand
	if err := r.Decode(&cmd); err != nil {
		return nil, err
	}
	if err := a.checkRef(cmd.NodeRef, events.VerbSave, true); err != nil {
		return nil, err
	}
	switch {
	case cmd.Job == "":
		return nil, &events.Error{Code: events.CodeRefused, Message: fmt.Sprintf("save on %s: no job, no save", a.cfg.Node)}
	case cmd.Attempt < 1:
		return nil, &events.Error{Code: events.CodeBadRequest, Job: cmd.Job, Message: fmt.Sprintf("save on %s: attempts count from 1", a.cfg.Node)}
	case cmd.Level < 0 || cmd.Level > 9:
		return nil, &events.Error{Code: events.CodeBadRequest, Job: cmd.Job, Message: fmt.Sprintf("save on %s: compression level %d, there are 1 to 9", a.cfg.Node, cmd.Level)}
	case !a.cfg.Machine.Imaging():
		return nil, &events.Error{Code: events.CodeRefused, Job: cmd.Job, Message: fmt.Sprintf("save on %s: the node runs from its own disk, which changes while it is read", a.cfg.Node),
			Hint: "reboot the node into the imaging system first"}
	case !a.saves():
		return nil, &events.Error{Code: events.CodeUnsupported, Job: cmd.Job, Message: fmt.Sprintf("save on %s: this agent cannot save disks", a.cfg.Node)}
	}
	return a.admit(cmd.NodeRef, events.VerbSave, func(cancel context.CancelCauseFunc) *operation {
		op := newOperation(cmd.NodeRef, a.cfg.Boot, cmd.Effect, cancel)
		op.save, op.state = &cmd, stateSaving
		return op
	})
}

// saves says whether this agent can save disks.
func (a *Agent) saves() bool {
	if a.cfg.Loader != nil {
		_, ok := a.cfg.Loader.(Saver)
		return ok
	}
	_, ok := a.cfg.Machine.(DiskReader)
	return ok
}

// admit begins an attempt, or answers with the one that a repeated command
// means.
func (a *Agent) admit(ref events.NodeRef, verb events.Verb, make func(context.CancelCauseFunc) *operation) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if op := a.known(ref); op != nil {
		a.repeat(op)
		return a.replyFor(op), nil
	}
	if a.leaving != "" || a.ended {
		return nil, &events.Error{Code: events.CodeBusy, Job: ref.Job, Message: fmt.Sprintf("%s on %s: the machine is leaving", verb, a.cfg.Node)}
	}
	if n := a.out.len(); n >= outboxLimit {
		return nil, &events.Error{Code: events.CodeBusy, Retryable: true, Message: fmt.Sprintf("%s on %s: %d reports wait for the stream to take them", verb, a.cfg.Node, n)}
	}
	if op := a.op; op != nil && op.ref.Job == ref.Job && op.ref.Attempt > ref.Attempt {
		return nil, &events.Error{Code: events.CodeStale, Job: ref.Job, Message: fmt.Sprintf("%s on %s: attempt %d of the job, attempt %d has begun", verb, a.cfg.Node, ref.Attempt, op.ref.Attempt)}
	}
	var before *operation
	if op := a.op; op != nil && op.running() {
		if op.ref.Job != ref.Job {
			return nil, &events.Error{Code: events.CodeBusy, Job: op.ref.Job, Retryable: true,
				Message: fmt.Sprintf("%s on %s: busy with job %s, attempt %d", verb, a.cfg.Node, op.ref.Job, op.ref.Attempt)}
		}
		// The handler has given the earlier attempt up; the disk is free once
		// that one has ended.
		op.cancel(errSuperseded)
		before = op
	}
	ctx, cancel := context.WithCancelCause(a.begin)
	op := make(cancel)
	a.start(ctx, op, before)
	return a.replyFor(op), nil
}

// start begins an attempt, after the one before it has ended. a.mu is held.
func (a *Agent) start(ctx context.Context, op, before *operation) {
	if a.op != nil {
		a.past = append(a.past, a.op)
		a.past = a.past[max(0, len(a.past)-pastOperations):]
	}
	a.op = op
	a.wg.Go(func() {
		defer op.cancel(nil)
		if before != nil {
			<-before.done
		}
		a.run(ctx, op)
	})
}

// known finds the operation of an attempt. a.mu is held.
func (a *Agent) known(ref events.NodeRef) *operation {
	if a.op != nil && a.op.is(ref) {
		return a.op
	}
	for _, op := range a.past {
		if op.is(ref) {
			return op
		}
	}
	return nil
}

// repeat makes the last report of an operation again, with a new id: whoever
// asks again may have lost it. A second report does no harm.
func (a *Agent) repeat(op *operation) {
	if last := op.lastReport(); last != nil && a.out.len() < outboxLimit {
		a.report(last, op.effect)
	}
}

func (a *Agent) handleStop(ctx context.Context, r bus.Request) (any, error) {
	var cmd events.StopCommand
	if err := r.Decode(&cmd); err != nil {
		return nil, err
	}
	if err := a.checkRef(cmd.NodeRef, events.VerbStop, false); err != nil {
		return nil, err
	}
	a.mu.Lock()
	op := a.op
	a.mu.Unlock()
	if op == nil || op.ref.Job != cmd.Job || cmd.Attempt != 0 && op.ref.Attempt != cmd.Attempt {
		return a.reply(), nil // nothing of that job runs, which is what was asked for
	}
	op.cancel(errStopped)
	select {
	case <-op.done:
	case <-a.clock.After(stopAnswer):
	case <-ctx.Done():
	}
	return a.replyLocked(op), nil
}

func (a *Agent) handleProbe(ctx context.Context, r bus.Request) (any, error) {
	var ref events.NodeRef
	if len(r.Data) > 0 {
		if err := r.Decode(&ref); err != nil {
			return nil, err
		}
	}
	if err := a.checkRef(events.NodeRef{Node: ref.Node, Job: ref.Job, Attempt: ref.Attempt}, events.VerbProbe, false); err != nil {
		return nil, err
	}
	reply := a.reply()
	if ref.Job != "" {
		a.mu.Lock()
		if op := a.known(ref); op != nil {
			a.repeat(op)
			reply = a.replyFor(op)
		}
		a.mu.Unlock()
	}
	if hardware, err := a.cfg.Machine.Hardware(ctx); err == nil {
		reply.Hardware = &hardware
	}
	return reply, nil
}

func (a *Agent) handleLeave(_ context.Context, r bus.Request, how events.Verb) (any, error) {
	var cmd events.LeaveCommand
	if err := r.Decode(&cmd); err != nil {
		return nil, err
	}
	if err := a.checkRef(cmd.NodeRef, how, true); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.leaving == how:
		return a.replyFor(a.op), nil
	case a.leaving != "" || a.ended:
		// Not the same thing: a machine that halts will not come back.
		return nil, &events.Error{Code: events.CodeBusy, Retryable: true, Message: fmt.Sprintf("%s on %s: the machine is leaving already", how, a.cfg.Node)}
	}
	op := a.op
	if op != nil && op.running() {
		if op.ref.Job != cmd.Job {
			return nil, &events.Error{Code: events.CodeBusy, Job: op.ref.Job, Retryable: true,
				Message: fmt.Sprintf("%s on %s: busy with job %s, attempt %d", how, a.cfg.Node, op.ref.Job, op.ref.Attempt)}
		}
		op.cancel(errLeaving)
	}
	a.leaving, a.leaveErr = how, ""
	a.wg.Go(func() {
		<-r.Answered() // the last that whoever told it hears from this connection
		a.leave(cmd, how, op)
	})
	return a.replyFor(op), nil
}

// leave ends what runs, has the last reports acknowledged, and halts or
// reboots the machine. Each wait is bounded: a machine that was told to leave
// leaves.
func (a *Agent) leave(cmd events.LeaveCommand, how events.Verb, op *operation) {
	wait := a.clock.After(a.cfg.Farewell)
	if op != nil {
		select {
		case <-op.done:
		case <-wait:
			a.log.Warn("leaving although the load has not ended", "job", op.ref.Job)
		}
	}
	ref := cmd.NodeRef
	ref.Node, ref.Boot = a.cfg.Node, a.cfg.Boot
	a.report(events.Leaving{NodeRef: ref, Effect: cmd.Effect, How: how}, cmd.Effect)
	select {
	case <-a.out.drained():
	case <-a.clock.After(a.cfg.Farewell):
		a.log.Warn("leaving with reports that nobody acknowledged", "reports", a.out.len())
	case <-a.begin.Done():
		return
	}
	a.log.Info("leaving", "how", string(how), "job", cmd.Job)
	if err := a.cfg.Machine.Leave(a.begin, how); err != nil && a.begin.Err() == nil {
		a.log.Error("the machine does not leave", "how", string(how), "err", err)
		a.mu.Lock()
		a.leaving, a.leaveErr = "", fmt.Sprintf("%s: %v", how, err)
		a.mu.Unlock()
		a.reportUp(a.begin) // it said that it was leaving, and did not
	}
}

// reply says what the agent does or did last.
func (a *Agent) reply() events.CommandReply {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.replyFor(a.op)
}

func (a *Agent) replyLocked(op *operation) events.CommandReply {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.replyFor(op)
}

// replyFor is the answer about one operation, nil for none. a.mu is held.
func (a *Agent) replyFor(op *operation) events.CommandReply {
	r := events.CommandReply{
		NodeRef: events.NodeRef{Node: a.cfg.Node, Boot: a.cfg.Boot},
		State:   stateIdle,
		Imaging: a.cfg.Machine.Imaging(),
	}
	if op != nil {
		op.describe(&r)
	}
	r.Loads = a.loads
	if a.leaving != "" {
		r.State = stateLeaving
	}
	if a.leaveErr != "" {
		r.LastError = a.leaveErr
	}
	return r
}

// patiently serves as soon as the bus lets it, and gives up only when trying
// again does not help.
func patiently(ctx context.Context, clock Clock, log *slog.Logger, serve func(context.Context) (*bus.Service, error)) (*bus.Service, error) {
	pause := outboxPause
	for {
		service, err := serve(ctx)
		if err == nil || ctx.Err() != nil || !bus.IsTransient(err) {
			return service, err
		}
		log.Warn("not served yet", "err", err)
		select {
		case <-clock.After(pause):
		case <-ctx.Done():
			return nil, err
		}
		pause = min(2*pause, outboxPauseMax)
	}
}
