package agent

import (
	"context"

	"loadnode/events"
)

// telemetry says how far an operation is: at each change of its phase, and at most
// once a second in between. It may be lost.
func (a *Agent) telemetry(ctx context.Context, op *operation) {
	at, _ := op.current()
	a.emitProgress(op, at.phase())
	tick := a.clock.After(telemetryPause)
	for {
		select {
		case <-ctx.Done():
			return
		case <-op.changed:
		case <-tick:
		}
		at, _ = op.current()
		a.emitProgress(op, at.phase())
		tick = a.clock.After(telemetryPause)
	}
}

func (a *Agent) emitProgress(op *operation, phase string) {
	f := op.figures()
	subject := events.ProgressSubject(a.cfg.Testbed, op.ref.Job, a.cfg.Node)
	var progress events.Data = events.Progress{
		NodeRef: op.ref, Phase: phase, Percent: f.Percent, Chunks: f.Chunks, ChunksWritten: f.ChunksWritten,
		BytesReceived: f.BytesReceived, BytesWritten: f.BytesWritten, Counters: f.Counters,
	}
	if op.save != nil {
		subject = events.SaveProgressSubject(a.cfg.Testbed, op.ref.Job, a.cfg.Node)
		progress = events.SaveProgress{
			NodeRef: op.ref, Phase: phase, Percent: f.Percent, BytesRead: f.BytesRead, BytesSent: f.BytesSent, Counters: f.Counters,
		}
	}
	ev, err := a.envelope(progress, op.effect)
	if err == nil {
		err = a.cfg.Conn.Emit(a.begin, subject, ev)
	}
	if err != nil {
		a.log.Debug("progress is lost", "job", op.ref.Job, "err", err)
	}
}
