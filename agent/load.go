package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"loadnode/events"
	"loadnode/transfer/disk"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// Budgets of a command that names none.
const (
	defaultJoin  = 30 * time.Second
	defaultStall = 2 * time.Minute
	// telemetryPause is the least time between two progress events of a phase.
	telemetryPause = time.Second
	// skewTolerated is how far the clock of the machine may be from that of
	// the server before deadlines are corrected: dates in HTTP are in seconds.
	skewTolerated = 3 * time.Second
)

// run carries an operation to its end and reports how it ended.
func (a *Agent) run(ctx context.Context, op *operation) {
	began := a.clock.Now()
	log := a.log.With("job", op.ref.Job, "attempt", op.ref.Attempt, "verb", string(op.verb()))
	log.Info("operation begins")

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	telemetry := make(chan struct{})
	a.wg.Go(func() {
		defer close(telemetry)
		a.telemetry(watching, op)
	})

	outcome, err := a.guarded(ctx, op)
	at, _ := op.current()
	stopWatching()
	<-telemetry
	end := op.figures()
	took := events.Duration(a.clock.Now().Sub(began))

	if err != nil {
		failed := failure(err, at, context.Cause(ctx))
		failed.NodeRef = op.ref
		failed.Evidence.Counters = end.Counters
		log.Warn("operation failed", "class", string(failed.Class), "step", at.String(), "err", err)
		outcome = failed
		if op.save != nil {
			outcome = events.SaveFailed(failed)
		}
	} else {
		switch done := outcome.(type) {
		case events.LoadDone:
			done.Took, done.Counters = took, end.Counters
			log.Info("load done", "assurance", string(done.Assurance), "bytes", done.BytesWritten, "dur", took.String())
			outcome = done
		case events.SaveDone:
			done.Took = took
			if done.Counters == nil {
				done.Counters = end.Counters
			}
			log.Info("save done", "image", done.Image.Name, "digest", done.Image.Digest, "bytes", done.BytesSent, "dur", took.String())
			outcome = done
		}
	}
	op.end(outcome, end)
	a.report(outcome, op.effect)
	if err == nil {
		a.emitProgress(op, phaseDone)
	}
	close(op.done)
}

// end sets the outcome.
func (op *operation) end(outcome events.Data, f Figures) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.last, op.over, op.measure = outcome, f, nil
	switch d := outcome.(type) {
	case events.LoadFailed:
		op.state, op.err = stateFailed, d.Message
	case events.SaveFailed:
		op.state, op.err = stateFailed, d.Message
	case events.SaveDone:
		op.state = stateSaved
	default:
		op.state = stateLoaded
	}
}

// watchDeadline ends the operation at the deadline of its command. The deadline was
// made by the clock of the server, and a machine in an imaging system may well
// believe that it is 1970: skew is how much later it is at the server. Steps
// before this one have their own bounds.
func (a *Agent) watchDeadline(ctx context.Context, op *operation, skew time.Duration) {
	deadline := op.deadline()
	if deadline.IsZero() {
		return
	}
	if skew.Abs() < skewTolerated {
		skew = 0
	} else {
		a.log.Warn("the clock of this machine is wrong", "skew", skew.Round(time.Second).String())
	}
	left := deadline.Sub(a.clock.Now().Add(skew))
	passed := func() {
		op.cancel(fmt.Errorf("%w: it was %s", errDeadline, deadline.UTC().Format(time.RFC3339)))
	}
	if left <= 0 {
		passed()
		return
	}
	a.wg.Go(func() {
		select {
		case <-a.clock.After(left):
			passed()
		case <-ctx.Done():
		}
	})
}

// guarded is load or save with its panics as errors: a fault in one must not
// end the agent, which alone can say what became of the disk.
func (a *Agent) guarded(ctx context.Context, op *operation) (done events.Data, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	if op.save != nil {
		return a.save(ctx, op)
	}
	return a.load(ctx, op)
}

func (a *Agent) load(ctx context.Context, op *operation) (events.LoadDone, error) {
	if err := ctx.Err(); err != nil {
		return events.LoadDone{}, err
	}
	if a.cfg.Loader != nil {
		return a.loadElsewhere(ctx, op)
	}
	cmd := op.cmd
	after, err := a.afterwards(cmd)
	if err != nil {
		return events.LoadDone{}, err
	}
	target, info, err := a.cfg.Machine.OpenDisk(ctx, cmd.Disk, cmd.Image.DiskBytes, cmd.Image.SectorSize)
	if err != nil {
		return events.LoadDone{}, err
	}
	watched := &watchedTarget{Target: target}
	defer watched.Close()

	op.enter(stepManifest)
	fetch := fetcher{web: a.cfg.HTTP, clock: a.clock}
	manifest, err := fetch.manifest(ctx, cmd.Image, orDefault(cmd.Join, defaultJoin))
	if err != nil {
		return events.LoadDone{}, err
	}
	a.watchDeadline(ctx, op, fetch.skew)
	if err := sameImage(manifest, cmd.Image); err != nil {
		return events.LoadDone{}, err
	}

	op.enter(stepJoin)
	if err := ctx.Err(); err != nil {
		return events.LoadDone{}, err
	}
	conn, err := a.cfg.Machine.Join(cmd.Session)
	if err != nil {
		return events.LoadDone{}, err
	}
	defer conn.Close()
	readBack := cmd.Verify == events.VerifyReadback
	if d, ok := target.(disk.Discarder); cmd.Free == events.FreeDiscard && (!ok || !d.CanDiscard()) {
		// It promises nothing of what is there afterwards, so nothing is lost without it.
		a.log.Warn("the disk cannot discard; its free space keeps what was there", "job", op.ref.Job, "disk", info.Path)
		cmd.Free = ""
	}
	installer, err := install.New(free(install.Config{Target: watched, Manifest: manifest, ReadBack: readBack}, cmd.Free))
	if err != nil {
		return events.LoadDone{}, err
	}
	if err := a.receive(ctx, op, conn, manifest, installer, info); err != nil {
		return events.LoadDone{}, err
	}

	op.enter(stepSync)
	if readBack {
		watched.synced = func() { op.enter(stepReadBack) }
	}
	result, err := installer.Finish(ctx)
	if err != nil {
		return events.LoadDone{}, err
	}
	if err := watched.Close(); err != nil {
		return events.LoadDone{}, &install.WriteError{Len: result.BytesDescribed, Err: fmt.Errorf("close: %w", err)}
	}
	done := events.LoadDone{
		NodeRef:      op.ref,
		Assurance:    events.Assurance(result.Assurance),
		Digest:       manifest.Root().String(),
		Chunks:       result.Chunks,
		BytesWritten: result.BytesWritten,
		DiskBytes:    result.BytesDescribed,
	}
	return done, after.run(ctx, info.Path, &done)
}

// sameImage compares the manifest with what the command says of the image: the
// disk was judged by the command.
func sameImage(m *ndz.Manifest, image events.Image) error {
	switch {
	case image.Size != 0 && m.Size != image.Size:
		return finalf("manifest of %s is for a file of %d bytes, the command says %d", image.Name, m.Size, image.Size)
	case m.Bytes() > image.DiskBytes:
		return finalf("image %s describes %d bytes of disk, the command says %d", image.Name, m.Bytes(), image.DiskBytes)
	case image.SectorSize != 0 && m.SectorSize != image.SectorSize:
		return finalf("image %s has sectors of %d bytes, the command says %d", image.Name, m.SectorSize, image.SectorSize)
	}
	return nil
}

// free says what becomes of the image's free space, and of the disk behind the image.
func free(c install.Config, how string) install.Config {
	switch how {
	case events.FreeZero:
		c.Fill, c.FillRest = install.Zero, true
	case events.FreeDiscard:
		c.Discard, c.FillRest = true, true
	}
	return c
}

func orDefault(d events.Duration, or time.Duration) time.Duration {
	if d <= 0 {
		return or
	}
	return time.Duration(d)
}

// watchedTarget tells when the disk is synced, and closes once.
type watchedTarget struct {
	disk.Target
	synced func()
	closed bool
}

func (t *watchedTarget) Sync() error {
	err := t.Target.Sync()
	if err == nil && t.synced != nil {
		t.synced()
	}
	return err
}

// Uncache passes on, so that read-back reads the medium.
func (t *watchedTarget) Uncache() error {
	if u, ok := t.Target.(interface{ Uncache() error }); ok {
		return u.Uncache()
	}
	return nil
}

// CanDiscard and Discard pass on, so that free space can be given back.
func (t *watchedTarget) CanDiscard() bool {
	d, ok := t.Target.(disk.Discarder)
	return ok && d.CanDiscard()
}

// Discard implements disk.Discarder.
func (t *watchedTarget) Discard(off, n int64) error {
	if d, ok := t.Target.(disk.Discarder); ok {
		return d.Discard(off, n)
	}
	return disk.ErrNoDiscard
}

func (t *watchedTarget) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	return t.Target.Close()
}
