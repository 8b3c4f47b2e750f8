package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"loadnode/transfer/ndz"
)

// load finds out what is true of name and installs it as its entry. The error
// is nil for a damaged image, too: its entry says so.
func (c *Catalogue) load(ctx context.Context, name string, full bool) error {
	f, st, err := c.openImage(name)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			c.mu.Lock()
			delete(c.entries, name)
			c.mu.Unlock()
		}
		return err
	}
	defer f.Close()

	r, rst, err := c.readRecord(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.mu.Lock()
		uploading := c.uploads[name]
		c.mu.Unlock()
		if uploading { // its record comes in a moment, and knows more
			return fmt.Errorf("image %s: %w", name, ErrBusy)
		}
		return c.adopt(ctx, name, f, st)
	case errors.Is(err, ndz.ErrManifest):
		c.install(name, &entry{file: st, record: rst, damaged: damaged(name, ndz.Digest{}, err)})
		return nil
	case err != nil:
		return err
	}
	e := &entry{image: r.image(name, st), file: st, record: rst}
	if full || st != r.File {
		err := compare(ctx, f, st.Size, &r.Manifest)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if cerr := c.unchanged(name, f, st); cerr != nil {
			return cerr
		}
		var bad *ndz.CorruptError
		switch {
		case errors.As(err, &bad):
			e.damaged = damaged(name, r.Root, err)
		case err != nil: // the disk, not the content
			return fmt.Errorf("verify image %s: %w", name, err)
		case st != r.File:
			// A directory that cannot be written costs another reading after
			// the next start, nothing else.
			r.File = st
			if rst, err := c.writeRecord(r); err == nil {
				e.record = rst
			}
		}
	}
	if e.damaged == nil {
		c.cache.put(r.Root, &r.Manifest)
	}
	c.install(name, e)
	if e.damaged != nil && st == r.File {
		c.distrust(name)
	}
	return nil
}

// adopt makes the manifest of a file that has none.
func (c *Catalogue) adopt(ctx context.Context, name string, f *os.File, st stamp) error {
	m, err := ndz.BuildManifest(ctx, f, st.Size)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cerr := c.unchanged(name, f, st); cerr != nil {
		return cerr
	}
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
		c.mu.Lock()
		c.refused[name] = refusal{file: st, err: err}
		c.mu.Unlock()
		return err
	}
	return c.register(&record{Root: m.Root(), Name: name, Origin: OriginDirectory, Added: c.cfg.Now().UTC(), File: st, Manifest: *m})
}

// register writes a record and makes its image known.
func (c *Catalogue) register(r *record) error {
	rst, err := c.writeRecord(r)
	if err != nil {
		return err
	}
	c.cache.put(r.Root, &r.Manifest)
	c.mu.Lock()
	delete(c.entries, r.Name) // whatever was known: this is new
	delete(c.refused, r.Name)
	c.mu.Unlock()
	c.install(r.Name, &entry{image: r.image(r.Name, r.File), file: r.File, record: rst})
	return nil
}

func (r *record) image(name string, st stamp) Image {
	return Image{Name: name, Digest: r.Root, Head: r.Head(), Chunks: len(r.Chunks), Owner: r.Owner, Origin: r.Origin,
		Provenance: r.Provenance, Added: r.Added, Modified: st.modified()}
}

// install replaces what is known of name and tells the observer what is new
// about it.
func (c *Catalogue) install(name string, e *entry) {
	c.mu.Lock()
	old := c.entries[name]
	c.entries[name] = e
	c.mu.Unlock()
	if c.cfg.Observer == nil {
		return
	}
	switch {
	case e.damaged != nil && (old == nil || old.damaged == nil || old.file != e.file):
		c.cfg.Observer.Damaged(e.damaged)
	case e.damaged == nil && (old == nil || old.damaged != nil || old.image.Digest != e.image.Digest):
		c.cfg.Observer.Added(e.image)
	}
}

// unchanged says whether a file is still in the state it was opened in, and
// still the one under its name.
func (c *Catalogue) unchanged(name string, f *os.File, st stamp) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	if stampOf(fi) != st {
		return fmt.Errorf("%w: image %s; ask again when it is complete", ErrChanged, name)
	}
	fi, err = c.root.Stat(name)
	if err != nil || stampOf(fi) != st {
		return fmt.Errorf("%w: image %s was replaced or removed", ErrChanged, name)
	}
	return nil
}

// compare reads a whole image on all cores and checks each chunk. A content
// that differs is a *ndz.CorruptError of the first bad chunk; other errors are
// those of reading.
func compare(ctx context.Context, r io.ReaderAt, size int64, m *ndz.Manifest) error {
	if size != m.Size {
		first := min(size, m.Size) / ndz.ChunkSize
		err := ndz.Corrupt(int(first), fmt.Errorf("the file has %d bytes, its manifest says %d", size, m.Size))
		err.First, err.Last = min(size, m.Size), max(size, m.Size)
		return err
	}
	var (
		next atomic.Int64
		mu   sync.Mutex
		bad  = len(m.Chunks) // first chunk that is wrong
		why  error
		wg   sync.WaitGroup
	)
	fail := func(i int, err error) {
		mu.Lock()
		defer mu.Unlock()
		if i < bad {
			bad, why = i, err
		}
	}
	for range min(len(m.Chunks), runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			chunk := make([]byte, ndz.ChunkSize)
			for ctx.Err() == nil {
				i := int(next.Add(1) - 1)
				mu.Lock()
				done := i >= bad
				mu.Unlock()
				if done {
					return
				}
				if n, err := r.ReadAt(chunk, int64(i)*ndz.ChunkSize); n < len(chunk) {
					fail(i, fmt.Errorf("read chunk %d: %w", i, err))
					return
				}
				if err := m.CheckChunk(i, chunk); err != nil {
					fail(i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	return why
}
