package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"loadnode/transfer/client"
	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// progressLines prints, as chunks are installed, the lines OMF reads: each
// multiple of ten from 10 to 90 once. The original misses them all for images
// of fewer than 100 chunks; this one prints the highest that is reached.
type progressLines struct {
	*install.Installer
	p      *program
	client *client.Client

	mu      sync.Mutex
	done    int
	printed int
}

// Install implements client.Installer.
func (l *progressLines) Install(ctx context.Context, index int, chunk []byte) error {
	err := l.Installer.Install(ctx, index, chunk)
	var damaged *ndz.CorruptError
	if errors.As(err, &damaged) {
		return err // the client asks for it again
	}
	if err != nil {
		return &diskError{err}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	all := l.client.Progress().Chunks
	if all == 0 || l.p.quiet || l.p.debug {
		return nil
	}
	percent := 100 * l.done / all / 10 * 10
	if percent <= l.printed || percent > 90 {
		return nil
	}
	l.printed = percent
	fmt.Fprintf(l.p.stdout, "Progress: %d%% %06d %06d\n", percent, int(time.Since(l.p.begin).Seconds()), all-l.done)
	return nil
}
