package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"loadnode/transfer/ndz"
)

// File is an image opened for sending. While it is open, its image cannot be
// removed from the catalogue.
type File struct {
	Image    Image
	Manifest *ndz.Manifest

	c     *Catalogue
	f     *os.File
	stamp stamp
	once  sync.Once
}

// Open opens an image for sending, after the same checks as Get.
func (c *Catalogue) Open(ctx context.Context, name string) (*File, error) {
	f, err := c.open(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pins[name]++
	// Between the check and the pin the image may have been removed.
	if e := c.entries[name]; e == nil || e.file != f.stamp {
		c.unpin(name)
		f.f.Close()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	f.c = c
	return f, nil
}

func (c *Catalogue) open(ctx context.Context, name string) (*File, error) {
	im, err := c.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := c.manifest(ctx, name, im.Digest)
	if err != nil {
		return nil, err
	}
	f, st, err := c.openImage(name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	e := c.entries[name]
	c.mu.Unlock()
	if e == nil || e.file != st || e.image.Digest != im.Digest {
		f.Close()
		return nil, fmt.Errorf("%w: image %s was replaced meanwhile", ErrChanged, name)
	}
	return &File{Image: im, Manifest: m, f: f, stamp: st}, nil
}

// Size is the size of the image in bytes.
func (f *File) Size() int64 { return f.Image.Head.Size }

// ReadAt reads from the image. It does not judge what it reads, that is the
// business of Check: a file that was cut off meanwhile reads as zeros beyond
// its end, so that Check names the first chunk that is gone, where an error
// would only make a server try again.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.f.ReadAt(p, off)
	if err == io.EOF && off >= 0 && off+int64(len(p)) <= f.Size() {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}

// Check compares a chunk with the manifest.
func (f *File) Check(i int, chunk []byte) error { return f.Manifest.CheckChunk(i, chunk) }

// Close closes the file and lets go of the image.
func (f *File) Close() error {
	var err error
	f.once.Do(func() {
		if f.c != nil {
			f.c.mu.Lock()
			f.c.unpin(f.Image.Name)
			f.c.mu.Unlock()
		}
		err = f.f.Close()
	})
	return err
}

// unpin is called with the lock held.
func (c *Catalogue) unpin(name string) {
	if c.pins[name]--; c.pins[name] <= 0 {
		delete(c.pins, name)
	}
}

// Reader reads an image from beginning to end or from any place, and passes
// on nothing that is not what the manifest says.
type Reader struct {
	f     *File
	pos   int64
	have  int // index of the chunk in buf; -1 none
	chunk []byte
	found func(*DamagedError)
}

// Download opens an image for reading. It does not keep the image from being
// removed; a reader that is at it goes on to the end.
func (c *Catalogue) Download(ctx context.Context, name string) (*Reader, error) {
	f, err := c.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &Reader{f: f, have: -1, chunk: make([]byte, ndz.ChunkSize), found: c.spoiled}, nil
}

// Image is what is read.
func (r *Reader) Image() Image { return r.f.Image }

// Read reads on. A chunk that is not what the manifest says is a
// *DamagedError.
func (r *Reader) Read(p []byte) (int, error) {
	if r.pos >= r.f.Size() {
		return 0, io.EOF
	}
	i := int(r.pos / ndz.ChunkSize)
	if r.have != i {
		r.have = -1
		if n, err := r.f.ReadAt(r.chunk, int64(i)*ndz.ChunkSize); n < len(r.chunk) {
			return 0, fmt.Errorf("read image %s: %w", r.f.Image.Name, err)
		}
		if err := r.f.Check(i, r.chunk); err != nil {
			d := damaged(r.f.Image.Name, r.f.Image.Digest, err)
			r.found(d)
			return 0, d
		}
		r.have = i
	}
	n := copy(p, r.chunk[r.pos-int64(i)*ndz.ChunkSize:])
	r.pos += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (r *Reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += r.pos
	case io.SeekEnd:
		off += r.f.Size()
	}
	if off < 0 {
		return 0, errors.New("seek before the beginning of an image")
	}
	r.pos = off
	return off, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// Spoiled takes note that a chunk of f, read for sending, was bad.
func (c *Catalogue) Spoiled(f *File, err error) *DamagedError {
	d := damaged(f.Image.Name, f.Image.Digest, err)
	c.spoiled(d)
	return d
}

// spoiled marks an image as damaged, unless its name has another content by
// now or is marked already.
func (c *Catalogue) spoiled(d *DamagedError) {
	fi, err := c.root.Stat(d.Image)
	c.mu.Lock()
	e := c.entries[d.Image]
	if e == nil || e.damaged != nil || e.image.Digest != d.Digest {
		c.mu.Unlock()
		return
	}
	bad := &entry{image: e.image, file: e.file, record: e.record, damaged: d}
	if err == nil && stampOf(fi).Inode == e.file.Inode {
		bad.file = stampOf(fi) // the write that spoiled it must not be found a second time
	}
	c.mu.Unlock()
	c.install(d.Image, bad)
	c.distrust(d.Image)
}

// distrust removes the stamp from the record of a damaged image, so that the
// next start reads the file again although it looks unchanged. A record that
// cannot be written is left: then only this process knows.
func (c *Catalogue) distrust(name string) {
	r, _, err := c.readRecord(name)
	if err != nil {
		return
	}
	r.File = stamp{}
	st, err := c.writeRecord(r)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[name]; e != nil && e.damaged != nil {
		known := *e
		known.record = st
		c.entries[name] = &known
	}
}
