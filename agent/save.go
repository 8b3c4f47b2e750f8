package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"loadnode/events"
	"loadnode/transfer/imagezip"
)

// save captures a disk and sends it to its place as it is read: nothing lies
// in between but the few MiB that are being compressed, so a slow network
// slows the reading down.
func (a *Agent) save(ctx context.Context, op *operation) (events.SaveDone, error) {
	op.enter(stepOpen)
	if err := ctx.Err(); err != nil {
		return events.SaveDone{}, err
	}
	if a.cfg.Loader != nil {
		return a.saveElsewhere(ctx, op)
	}
	cmd := op.save
	up := uploader{web: a.cfg.HTTP, clock: a.clock, place: cmd.Place, image: cmd.Image}
	// Before the disk is looked at: whether there is anybody to send it to, and
	// what time it is there.
	skew, err := up.ask(ctx, defaultJoin)
	if err != nil {
		return events.SaveDone{}, err
	}
	a.watchDeadline(ctx, op, skew)
	disk, info, err := a.cfg.Machine.(DiskReader).ReadDisk(ctx, cmd.Disk)
	if err != nil {
		return events.SaveDone{}, err
	}
	defer disk.Close()
	if info.Size == 0 {
		info.Size = disk.Size()
	}

	body := newStream(a.clock)
	m := &saveMeter{body: body}
	op.meter(m.figures)
	body.share = func() float64 { return m.figures().Percent }
	body.first = func() {
		started := events.SaveStarted{NodeRef: op.ref, Image: cmd.Image, Disk: info}
		op.started(started, stepCapture)
		a.report(started, op.effect)
	}
	src := &source{Source: disk}
	image, err := up.send(ctx, body, func(ctx context.Context) error {
		stats, err := a.capture(ctx, src, body, cmd.Level, m)
		if err != nil {
			return err
		}
		for _, note := range stats.Notes {
			a.log.Warn("of the disk that is saved", "job", op.ref.Job, "disk", info.Path, "note", note)
		}
		op.enter(stepStore)
		return nil
	})
	if failed := src.failed(); failed != nil {
		return events.SaveDone{}, failed
	}
	if err != nil {
		return events.SaveDone{}, err
	}
	return events.SaveDone{
		NodeRef: op.ref, Image: image, DiskBytes: info.Size, BytesRead: m.read.Load(), BytesSent: body.total(),
	}, nil
}

// capture writes the image of a disk. What the filesystems of a disk that was
// switched off in the middle say of their free space is not the truth, so
// those are saved whole: a save must not fail for want of a clean shutdown.
func (a *Agent) capture(ctx context.Context, src *source, w io.Writer, level int, m *saveMeter) (imagezip.Stats, error) {
	return imagezip.Capture(ctx, src, w, imagezip.Options{
		Level: level, Workers: a.cfg.Workers, MinFree: imagezip.DefaultMinFree, Unclean: true,
		Progress: func(done, total int64) { m.read.Store(done); m.total.Store(total) },
	})
}

// saveMeter says how far a save is.
type saveMeter struct {
	body        *stream
	read, total atomic.Int64 // bytes of the disk
}

func (m *saveMeter) figures() Figures {
	f := Figures{BytesRead: m.read.Load(), BytesSent: m.body.sent()}
	if total := m.total.Load(); total > 0 {
		f.Percent = 100 * float64(f.BytesRead) / float64(total)
	}
	f.Counters = map[string]int64{"bytes_read": f.BytesRead, "bytes_sent": f.BytesSent, "bytes_used": m.total.Load()}
	return f
}

// saveElsewhere has the Saver of the agent carry out a save.
func (a *Agent) saveElsewhere(ctx context.Context, op *operation) (events.SaveDone, error) {
	a.watchDeadline(ctx, op, 0)
	var once sync.Once
	done, err := a.cfg.Loader.(Saver).Save(ctx, Save{
		Command: *op.save,
		Started: func(on events.Disk) {
			once.Do(func() {
				started := events.SaveStarted{NodeRef: op.ref, Image: op.save.Image, Disk: on}
				op.started(started, stepCapture)
				a.report(started, op.effect)
			})
		},
		Meter: op.meter,
	})
	done.NodeRef = op.ref
	return done, err
}

// diskReadError says that a disk refused a read.
type diskReadError struct {
	off, n int64
	err    error
}

func (e *diskReadError) Error() string {
	return fmt.Sprintf("the disk refuses to give bytes %d to %d: %v", e.off, e.off+e.n, e.err)
}

func (e *diskReadError) Unwrap() error { return e.err }

// source remembers the first read that a disk refused.
type source struct {
	Source
	mu    sync.Mutex
	first *diskReadError
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.Source.ReadAt(p, off)
	if err != nil && err != io.EOF {
		s.mu.Lock()
		if s.first == nil {
			s.first = &diskReadError{off + int64(n), int64(len(p) - n), err}
		}
		s.mu.Unlock()
	}
	return n, err
}

// failed is the refused read, or nil.
func (s *source) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == nil {
		return nil
	}
	return s.first
}

// Seek passes on, so that holes of a sparse file are not read.
func (s *source) Seek(off int64, whence int) (int64, error) {
	if seeker, ok := s.Source.(io.Seeker); ok {
		return seeker.Seek(off, whence)
	}
	return 0, errors.ErrUnsupported
}
