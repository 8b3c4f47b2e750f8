package catalogue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"

	"loadnode/events"
	"loadnode/transfer/ndz"
)

// OriginSave is the origin of an image that was captured from a node.
const OriginSave = "save"

// Provenance is where a saved image comes from, as its manifest keeps it.
type Provenance struct {
	events.Provenance
	// Lease is the attempt that the image was sent for: whoever asks for the
	// same lease again learns what became of it.
	Lease string `json:"lease,omitempty"`
}

// Capture is an image that is to be stored in one go.
type Capture struct {
	Owner      string
	Provenance Provenance
	// Check judges what came, by its length in bytes and its SHA-256, once the
	// data have ended. With nil the image must show by its own structure that
	// nothing is missing ([Truncated]).
	Check func(size int64, digest ndz.Digest) error
	// Complete is called when everything has come and passed Check, before the
	// structure of the image is looked at, which may take long. It may be nil.
	Complete func()
}

// Vacant says whether name may become that of a new image, and whether there
// is room for any. Errors: ErrName, ErrExists, ErrBusy, ErrSpace.
func (c *Catalogue) Vacant(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	c.mu.Lock()
	busy := c.uploads[name]
	c.mu.Unlock()
	if busy {
		return fmt.Errorf("save %s: %w", name, ErrBusy)
	}
	if _, err := c.root.Lstat(name); err == nil {
		return fmt.Errorf("save: %w: %s; images are never overwritten, take another name", ErrExists, name)
	}
	return c.room("save", name, ndz.ChunkSize)
}

// Save stores a new image that comes in one go. Nothing is visible before the
// data have ended, passed the check, and turned out to be a usable image;
// whatever goes wrong before, nothing is left of it.
//
// Errors: ErrName, ErrExists, ErrBusy, ErrTooLarge, ErrSpace, ErrReadOnly,
// ErrIncomplete, ErrInvalid, and those of body and check.
func (c *Catalogue) Save(ctx context.Context, name string, what Capture, body io.Reader) (Image, error) {
	if err := CheckName(name); err != nil {
		return Image{}, err
	}
	if err := c.beginWriting("save", name); err != nil {
		return Image{}, err
	}
	defer c.endUpload(name)
	f, err := c.openSaving(name)
	if err != nil {
		return Image{}, err
	}
	im, err := c.saveTo(ctx, f, name, what, body)
	err = errors.Join(err, f.Close())
	if err != nil {
		return Image{}, errors.Join(err, ignoreMissing(c.root.Remove(savingPath(name))))
	}
	return im, nil
}

func (c *Catalogue) openSaving(name string) (*os.File, error) {
	if err := c.makeDir(name); err != nil {
		return nil, fmt.Errorf("save %s: %w", name, explain(err))
	}
	f, err := c.root.OpenFile(savingPath(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o644)
	if err != nil {
		return nil, fmt.Errorf("save %s: %w", name, explain(err))
	}
	return f, nil
}

func (c *Catalogue) saveTo(ctx context.Context, f *os.File, name string, what Capture, body io.Reader) (Image, error) {
	sum := sha256.New()
	size, err := c.receive(ctx, f, "save", name, Piece{Total: Unknown}, io.TeeReader(body, sum))
	if err != nil {
		return Image{}, err
	}
	if what.Check != nil {
		if err := what.Check(size, ndz.Digest(sum.Sum(nil))); err != nil {
			return Image{}, fmt.Errorf("save %s: %w", name, err)
		}
	}
	if what.Complete != nil {
		what.Complete()
	}
	if err := f.Sync(); err != nil {
		return Image{}, fmt.Errorf("save %s: %w", name, explain(err))
	}
	m, err := ndz.BuildManifest(ctx, f, size)
	if err == nil && what.Check == nil {
		err = Truncated(ctx, f, m)
	}
	if ctx.Err() != nil {
		return Image{}, fmt.Errorf("save %s: %w", name, ctx.Err())
	}
	if err != nil {
		return Image{}, fmt.Errorf("save %s: %w: %w", name, ErrInvalid, err)
	}
	provenance := what.Provenance
	provenance.Undigested = what.Check == nil
	r := &record{Root: m.Root(), Name: name, Owner: what.Owner, Origin: OriginSave, Provenance: &provenance,
		Added: c.cfg.Now().UTC(), Manifest: *m}
	if err := c.publishSaved(f, r); err != nil {
		return Image{}, fmt.Errorf("save %s: %w", name, explain(err))
	}
	return r.image(name, r.File), nil
}

// publishSaved gives a complete and checked file its name. Other than with an
// upload, the record comes first: an image that was taken in again after a
// crash in between would not know whose it is, and its job would take it for
// somebody else's. A record without an image is tidied up by Scan.
func (c *Catalogue) publishSaved(f *os.File, r *record) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	r.File = stampOf(fi)
	if _, err := c.writeRecord(r); err != nil {
		return err
	}
	if err := c.link(savingPath(r.Name), r.Name); err != nil {
		// Not the record of whatever has that name now.
		return errors.Join(err, ignoreMissing(c.root.Remove(manifestPath(r.Name))))
	}
	if fi, err = f.Stat(); err != nil {
		return err
	}
	r.File = stampOf(fi) // a new name changes it
	return c.register(r)
}

// makeDir makes the sub-directory of a name, if it has one.
func (c *Catalogue) makeDir(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if err := c.root.Mkdir(dir, 0o755); !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
