package handler

import (
	"context"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/job"
)

// releaseTimeout bounds the release of a session at the end of a job: a
// session that could not be released is found by the sweep.
const releaseTimeout = 2 * time.Second

// serve joins or opens the session of the image. The job is the lease, so
// that a repeated request finds the same session.
func (k *keeper) serve(ctx context.Context, s job.State) (job.Input, error) {
	var served events.ImageServed
	err := k.h.ask(ctx, events.FrisbeeSubject(k.key.testbed, events.FrisbeeServe), events.ServeRequest{
		Image: s.Plan.Image.Name, Digest: s.Plan.Image.Digest, Lease: k.key.job, Weight: s.Plan.Weight,
	}, &served)
	if e := remote(err); e != nil && !bus.IsTransient(err) {
		return job.NotServed{Error: *e}, nil
	}
	if err != nil {
		return nil, err
	}
	return job.Served{Session: served}, nil
}

// release gives the session back, or the places of a save, then the nodes: who
// sees the end of the job finds them free.
func (k *keeper) release(ctx context.Context, s job.State) (job.Input, error) {
	if s.Saves() {
		k.h.abandonPlaces(ctx, k.key, s)
	} else {
		k.h.releaseSession(ctx, k.key, s.Plan.Image.Name)
	}
	if err := k.h.free(ctx, k.key); err != nil {
		return nil, err
	}
	return job.Freed{}, nil
}

func (h *Handler) releaseSession(ctx context.Context, k key, image string) {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	err := h.conn.Request(ctx, events.FrisbeeSubject(k.testbed, events.FrisbeeRelease), events.LeaseRelease{Image: image, Lease: k.job}, nil)
	if err != nil && ctx.Err() == nil {
		h.log.Info("session not released yet", "job", k.job, "image", image, "err", err)
	}
}
