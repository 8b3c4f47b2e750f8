package install

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"

	"loadnode/transfer/ndz"
)

// readBackSize is the granularity of read-back, in bytes: boundaries lie at its multiples on the disk.
const readBackSize = 64 << 10

// uncacher is a target that can forget what the system holds of it in memory.
type uncacher interface{ Uncache() error }

// readBack compares the target with what was written: data by its hashes, filled space by its pattern. It reads
// everything even after a difference, and returns the first in disk order with the number of all.
func (in *Installer) readBack(ctx context.Context, records []located, end, rest int64) error {
	for i := 1; i < len(records); i++ {
		if a, b := records[i-1], records[i]; b.first < a.last {
			return fmt.Errorf("read back: chunks %d and %d both describe sector %d, so one was written over the other", a.index, b.index, b.first)
		}
	}
	if u, ok := in.cfg.Target.(uncacher); ok {
		if err := u.Uncache(); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	var (
		next atomic.Int64
		wg   sync.WaitGroup
		mu   sync.Mutex
		bad  *ReadBackError
	)
	report := func(e *ReadBackError) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case bad == nil:
			bad = e
		case e.First < bad.First:
			e.Ranges += bad.Ranges
			bad = e
		default:
			bad.Ranges++
		}
	}
	for range min(len(records), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			r := reader{in: in, ctx: ctx, report: report, buf: make([]byte, readBackSize)}
			for {
				i := int(next.Add(1) - 1)
				if i >= len(records) || ctx.Err() != nil {
					return
				}
				r.chunk(records[i])
			}
		})
	}
	wg.Wait()
	r := reader{in: in, ctx: ctx, report: report, buf: make([]byte, readBackSize), index: -1}
	r.filled(end, rest)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if bad != nil {
		return bad
	}
	return nil
}

// reader reads one chunk after the other back.
type reader struct {
	in     *Installer
	ctx    context.Context
	report func(*ReadBackError)
	buf    []byte
	index  int
}

func (r *reader) chunk(l located) {
	r.index = l.index
	at, hashes := l.first, l.hashes
	for i, reg := range l.regions {
		r.filled(r.in.byteOf(at), int64(reg.Start-at)*ndz.SectorSize)
		size := int64(reg.Size) * ndz.SectorSize
		if i == len(l.regions)-1 {
			size -= int64(l.tail)
		}
		off := r.in.byteOf(reg.Start)
		for stop := off + size; off < stop; hashes = hashes[1:] {
			n := min(stop-off, readBackSize-off%readBackSize)
			r.compare(off, n, func(p []byte) bool { return maphash.Bytes(r.in.seed, p) == hashes[0] })
			off += n
		}
		at = reg.End()
	}
	r.filled(r.in.byteOf(at), int64(l.last-at)*ndz.SectorSize)
}

// filled checks n bytes of free space, if they were filled.
func (r *reader) filled(off, n int64) {
	if r.in.cfg.Fill == Skip {
		return
	}
	if r.in.cfg.NoExtend { // then a file may end before its free space does
		n = min(n, r.in.cfg.Target.Size()-off)
	}
	for n > 0 {
		k := min(n, readBackSize-off%readBackSize)
		r.compare(off, k, r.in.isFill)
		off, n = off+k, n-k
	}
}

func (r *reader) compare(off, n int64, same func([]byte) bool) {
	if r.ctx.Err() != nil {
		return
	}
	k, err := r.in.cfg.Target.ReadAt(r.buf[:n], off)
	if int64(k) == n {
		err = nil
	} else if err == nil {
		err = errors.New("short read")
	}
	if err != nil || !same(r.buf[:n]) {
		r.report(&ReadBackError{First: off, Last: off + n, Chunk: r.index, Ranges: 1, Err: err})
	}
}
