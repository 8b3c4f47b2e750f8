package catalogue

import (
	"context"
	"sync"
)

// flights lets callers who want the same work share one run of it. The run
// goes on while anybody waits for it, and is cancelled when the last one
// leaves.
type flights struct {
	ctx context.Context // ends every run
	wg  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[string]*flight
}

type flight struct {
	cancel  context.CancelFunc
	done    chan struct{}
	waiters int
	err     error
}

// do runs fn once for all callers with this key.
func (g *flights) do(ctx context.Context, key string, fn func(context.Context) error) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	f := g.open[key]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		var run context.Context
		run, f.cancel = context.WithCancel(g.ctx)
		g.open[key] = f
		g.wg.Go(func() {
			defer f.cancel()
			f.err = fn(run)
			g.mu.Lock()
			if g.open[key] == f {
				delete(g.open, key)
			}
			g.mu.Unlock()
			close(f.done)
		})
	}
	f.waiters++
	g.mu.Unlock()

	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel()
		if g.open[key] == f { // whoever comes next starts afresh
			delete(g.open, key)
		}
	}
	return ctx.Err()
}

// close refuses new work and waits for the running one, whose context the
// owner has cancelled.
func (g *flights) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}
