package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	"loadnode/transfer/install"
	"loadnode/transfer/ndz"
)

// installer takes the chunks of an image.
type installer interface {
	Install(ctx context.Context, index int, chunk []byte) error
}

// headersOnly is the installer of -N.
type headersOnly struct{}

func (headersOnly) Install(_ context.Context, index int, chunk []byte) error {
	if _, err := ndz.ParseHeader(chunk); err != nil {
		return ndz.Corrupt(index, err)
	}
	return nil
}

// verified checks chunks against a manifest before it passes them on. install.Installer does that by itself.
type verified struct {
	manifest *ndz.Manifest
	to       installer
}

func (v verified) Install(ctx context.Context, index int, chunk []byte) error {
	if err := v.manifest.CheckChunk(index, chunk); err != nil {
		return err
	}
	return v.to.Install(ctx, index, chunk)
}

// verify puts the manifest, if there is one, before an installer that does not know it.
func (p *program) verify(to installer) installer {
	if p.known == nil {
		return to
	}
	return verified{p.known, to}
}

// pump reads the chunks of an image and hands them to an installer, to several of them at once if there are more
// workers. Chunks that describe what an earlier chunk described (images put one behind the other, §11) wait until
// those before them are done.
func (p *program) pump(ctx context.Context, in io.Reader, to installer, workers int, finish func() (install.Result, error)) (install.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	free := make(chan []byte, workers)
	for range workers {
		free <- make([]byte, ndz.ChunkSize)
	}
	var described uint64
	var data int64
	n := 0
	belongs := same{want: p.uuid}
	for ; ; n++ {
		var chunk []byte
		select {
		case chunk = <-free:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		got, err := io.ReadFull(in, chunk)
		if err == io.EOF {
			break
		}
		if err == io.ErrUnexpectedEOF {
			err = fmt.Errorf("image is truncated: %d whole chunks and %d bytes of the next", n, got)
		}
		var h ndz.Header
		if err == nil {
			if h, err = ndz.ParseHeader(chunk); err != nil {
				err = ndz.Corrupt(n, err)
			} else {
				err = belongs.check(n, h)
			}
		}
		if err == nil && p.max > 0 && h.Last*ndz.SectorSize-uint64(h.ShortTail()) > uint64(p.max) {
			err = fmt.Errorf("chunk %d describes sectors up to %d, -M allows %d", n, h.Last, p.max/ndz.SectorSize)
		}
		if err != nil {
			cancel(err)
			break
		}
		if h.First < described {
			running.Wait()
		}
		described = max(described, h.Last)
		p.show(n, h, data)
		data += h.DataSize()
		index := n
		running.Go(func() {
			if err := to.Install(ctx, index, chunk); err != nil {
				cancel(err)
			}
			free <- chunk
		})
	}
	running.Wait()
	if p.dots || p.bigDots {
		fmt.Fprintln(p.stderr)
	}
	if err := context.Cause(ctx); err != nil {
		return install.Result{}, err
	}
	if n == 0 {
		return install.Result{}, fmt.Errorf("%w: the image is empty", ndz.ErrFormat)
	}
	if p.known != nil && n != len(p.known.Chunks) {
		return install.Result{}, fmt.Errorf("image is truncated: %d chunks, the manifest lists %d", n, len(p.known.Chunks))
	}
	res, err := finish()
	if p.headers {
		res.Chunks = n
	}
	return res, err
}

// show says that chunk n comes; before it there were data bytes.
func (p *program) show(n int, h ndz.Header, data int64) {
	const gb = 1e9
	if p.dots {
		fmt.Fprint(p.stderr, ".")
	}
	for k := data / gb; p.bigDots && k < (data+h.DataSize())/gb; k++ {
		fmt.Fprint(p.stderr, ".")
	}
	if p.debug > 0 {
		fmt.Fprintf(p.stderr, "chunk %d: V%d, sectors %d to %d, %d regions, %d bytes from %d\n", n, h.Version, h.First, h.Last,
			len(h.Regions), h.DataSize(), h.PayloadSize)
	}
}
