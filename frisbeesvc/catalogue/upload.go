package catalogue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"loadnode/transfer/ndz"
)

// maxImage is the largest file that can be an image, in bytes.
const maxImage = int64(ndz.MaxChunks) * ndz.ChunkSize

// Unknown is the Total of an upload that ends where its data end.
const Unknown = -1

// Piece is one part of an upload, or all of it.
type Piece struct {
	First int64 // offset of the data in the file
	Total int64 // bytes of the whole file, or Unknown: the data are the rest
	// Digest is the SHA-256 of the whole file. It is required for a piece
	// that goes on with an upload, so that the halves of two files never
	// become one image.
	Digest *ndz.Digest
	Owner  string
}

// ErrDigest says that an uploaded file is not the one that was announced.
var ErrDigest = errors.New("SHA-256 of the file is not the announced one")

// ErrTooLarge says that a file is larger than an image can be, or larger than
// announced.
var ErrTooLarge = errors.New("file is too large")

// ErrIncomplete says that the data of a piece ended early. What came is kept.
var ErrIncomplete = errors.New("upload broke off")

// ErrNeedDigest says that an upload cannot be continued without a digest.
var ErrNeedDigest = errors.New("an upload is continued only with the SHA-256 of the whole file")

// Upload stores a piece of a new image. When it was the last one, the file is
// checked and appears as an image: the second result is true. Before that,
// nothing is visible, and PartialSize tells where to go on. A complete file
// that is not a usable image, or not the announced one, is removed.
//
// Errors: ErrName, ErrExists, ErrBusy, *OffsetError, ErrNeedDigest,
// ErrTooLarge, ErrSpace, ErrReadOnly, ErrIncomplete, ErrDigest, ErrInvalid,
// and those of body.
func (c *Catalogue) Upload(ctx context.Context, name string, p Piece, body io.Reader) (Image, bool, error) {
	if err := CheckName(name); err != nil {
		return Image{}, false, err
	}
	switch {
	case p.First < 0 || p.Total != Unknown && p.Total < p.First:
		return Image{}, false, fmt.Errorf("upload of %s: a piece from byte %d of %d", name, p.First, p.Total)
	case p.First > 0 && p.Digest == nil:
		return Image{}, false, fmt.Errorf("upload of %s: %w", name, ErrNeedDigest)
	case p.Total > maxImage || p.First > maxImage:
		return Image{}, false, fmt.Errorf("upload of %s: %w: %d bytes, at most %d", name, ErrTooLarge, p.Total, maxImage)
	}
	if err := c.beginWriting("upload of", name); err != nil {
		return Image{}, false, err
	}
	defer c.endUpload(name)
	f, err := c.openPartial(name, p)
	if err != nil {
		return Image{}, false, err
	}
	defer f.Close()
	size, err := c.receive(ctx, f, "upload of", name, p, body)
	if err != nil {
		if errors.Is(err, ErrSpace) || errors.Is(err, ErrTooLarge) {
			err = errors.Join(err, c.root.Remove(partialPath(name)))
		}
		return Image{}, false, err
	}
	if p.Total != Unknown && size < p.Total {
		return Image{}, false, nil
	}
	im, err := c.finish(ctx, f, name, size, p)
	if err != nil {
		if errors.Is(err, ErrInvalid) || errors.Is(err, ErrDigest) {
			err = errors.Join(err, c.root.Remove(partialPath(name)))
		}
		return Image{}, false, err
	}
	return im, true, nil
}

// PartialSize tells how many bytes of an unfinished upload are stored.
func (c *Catalogue) PartialSize(name string) (int64, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	fi, err := c.root.Lstat(partialPath(name))
	if notThere(err) {
		return 0, fmt.Errorf("%w: %s, nor an upload of it", ErrNotFound, name)
	}
	if err != nil {
		return 0, fmt.Errorf("upload of %s: %w", name, err)
	}
	return fi.Size(), nil
}

// DropPartial forgets an unfinished upload.
func (c *Catalogue) DropPartial(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uploads[name] {
		return fmt.Errorf("upload of %s: %w", name, ErrBusy)
	}
	err := c.root.Remove(partialPath(name))
	if notThere(err) {
		return fmt.Errorf("%w: no upload of %s", ErrNotFound, name)
	}
	return explain(err)
}

// beginWriting takes hold of a name that has no image yet.
func (c *Catalogue) beginWriting(what, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uploads[name] {
		return fmt.Errorf("%s %s: %w", what, name, ErrBusy)
	}
	if _, err := c.root.Lstat(name); err == nil {
		return fmt.Errorf("%s %s: %w; remove it first, images are never overwritten", what, name, ErrExists)
	}
	c.uploads[name] = true
	return nil
}

func (c *Catalogue) endUpload(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.uploads, name)
}

// openPartial opens the hidden file of an upload at the place where p goes on.
func (c *Catalogue) openPartial(name string, p Piece) (*os.File, error) {
	if err := c.makeDir(name); err != nil {
		return nil, fmt.Errorf("upload of %s: %w", name, explain(err))
	}
	flags := os.O_RDWR | os.O_CREATE | syscall.O_NONBLOCK
	if p.First == 0 {
		flags |= os.O_TRUNC
	}
	f, err := c.root.OpenFile(partialPath(name), flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("upload of %s: %w", name, explain(err))
	}
	have, err := f.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
	case have != p.First:
		err = &OffsetError{Image: name, Have: have, Want: p.First}
	case p.Total != Unknown:
		err = c.room("upload of", name, p.Total-have)
	}
	if err != nil {
		f.Close()
		if have == 0 {
			err = errors.Join(err, ignoreMissing(c.root.Remove(partialPath(name))))
		}
		return nil, err
	}
	return f, nil
}

// room says whether so many bytes more may be stored.
func (c *Catalogue) room(what, name string, need int64) error {
	free, err := c.cfg.Free()
	if err != nil {
		return err
	}
	if free-c.cfg.Reserve < need {
		return fmt.Errorf("%s %s: %w: %d bytes are needed, %d are free and %d of them kept in reserve; remove images first",
			what, name, ErrSpace, need, free, c.cfg.Reserve)
	}
	return nil
}

// receive appends the data of a piece and returns the size of the file then.
func (c *Catalogue) receive(ctx context.Context, f *os.File, what, name string, p Piece, body io.Reader) (int64, error) {
	limit := maxImage
	if p.Total != Unknown {
		limit = p.Total
	}
	size, unchecked := p.First, int64(0)
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return size, fmt.Errorf("%s %s: %w: %w", what, name, ErrIncomplete, err)
		}
		n, rerr := body.Read(buf)
		if size+int64(n) > limit {
			return size, fmt.Errorf("%s %s: %w: more than %d bytes", what, name, ErrTooLarge, limit)
		}
		if unchecked += int64(n); unchecked > ndz.ChunkSize {
			if err := c.room(what, name, unchecked); err != nil {
				return size, err
			}
			unchecked = 0
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return size, fmt.Errorf("%s %s: %w", what, name, explain(err))
		}
		size += int64(n)
		if rerr == io.EOF {
			return size, nil
		}
		if rerr != nil {
			return size, fmt.Errorf("%s %s: %w after %d bytes: %w", what, name, ErrIncomplete, size, rerr)
		}
	}
}

// finish checks a complete file and gives it its name.
func (c *Catalogue) finish(ctx context.Context, f *os.File, name string, size int64, p Piece) (Image, error) {
	if err := f.Sync(); err != nil {
		return Image{}, fmt.Errorf("upload of %s: %w", name, explain(err))
	}
	if p.Digest != nil {
		sum := sha256.New()
		if _, err := io.Copy(sum, &contextReader{ctx, io.NewSectionReader(f, 0, size)}); err != nil {
			return Image{}, fmt.Errorf("upload of %s: %w", name, err)
		}
		if got := ndz.Digest(sum.Sum(nil)); got != *p.Digest {
			return Image{}, fmt.Errorf("upload of %s: %w: got %s, announced %s", name, ErrDigest, got, *p.Digest)
		}
	}
	m, err := ndz.BuildManifest(ctx, f, size)
	if ctx.Err() != nil {
		return Image{}, fmt.Errorf("upload of %s: %w", name, ctx.Err())
	}
	if err != nil {
		return Image{}, fmt.Errorf("upload of %s: %w: %w", name, ErrInvalid, err)
	}
	r := &record{Root: m.Root(), Name: name, Owner: p.Owner, Origin: OriginUpload, Added: c.cfg.Now().UTC(), Manifest: *m}
	if err := c.publish(f, r); err != nil {
		return Image{}, fmt.Errorf("upload of %s: %w", name, explain(err))
	}
	return r.image(name, r.File), nil
}

// publish gives a complete and checked file its name, and then its record.
// After a crash in between the file is taken in again at the next start.
func (c *Catalogue) publish(f *os.File, r *record) error {
	if err := c.link(partialPath(r.Name), r.Name); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	r.File = stampOf(fi)
	return c.register(r)
}

// link gives a hidden file the name of an image, if nothing has that name.
func (c *Catalogue) link(hidden, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.root.Link(hidden, name)
	switch {
	case errors.Is(err, os.ErrExist):
		return ErrExists
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EMLINK):
		// A file system without hard links. Nobody but this process should
		// put files here, and the lock is held.
		if _, serr := c.root.Lstat(name); serr == nil {
			return ErrExists
		}
		return c.root.Rename(hidden, name)
	case err != nil:
		return err
	}
	return c.root.Remove(hidden)
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
