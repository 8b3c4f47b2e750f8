package main

import (
	"context"
	"sync"
)

// catch makes a context that ends with the first interrupt, until a command
// takes the interrupts over.
func (a *app) catch(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		var to chan<- struct{}
		for {
			select {
			case <-ctx.Done():
				return
			case to = <-a.onInt:
			case <-a.interrupts:
				if to == nil {
					cancel()
					return
				}
				select {
				case to <- struct{}{}:
				default: // the last one is not even noticed yet: this is impatience
					cancel()
					return
				}
			}
		}
	})
	return ctx, func() { cancel(); wg.Wait() }
}

// takeInterrupts gives the caller the interrupts from now on, instead of the
// end of its context. Who does not read them is cancelled by the second.
func (a *app) takeInterrupts(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	select {
	case a.onInt <- c:
	case <-ctx.Done():
	}
	return c
}
