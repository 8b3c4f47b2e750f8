package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	"loadnode/transfer/ndz"
)

// maxRecord bounds the file beside an image, in bytes: about a million chunks.
const maxRecord = 256 << 20

// record is the file beside an image. Its fields are those of an encoded
// manifest and some more, so that ndz.DecodeManifest reads it as well.
type record struct {
	Root   ndz.Digest `json:"root"`
	Name   string     `json:"name"`
	Owner  string     `json:"owner,omitempty"`
	Origin string     `json:"origin,omitempty"`
	// Provenance is of images that were saved.
	Provenance *Provenance `json:"provenance,omitempty"`
	Added      time.Time   `json:"added"`
	File       stamp       `json:"file"` // of the image when it was last found equal to the manifest
	ndz.Manifest
}

// readRecord reads and checks the record of name. A missing one is
// fs.ErrNotExist; everything else that is wrong wraps ndz.ErrManifest or is an
// error of the file system. The second result is the stamp of the record.
func (c *Catalogue) readRecord(name string) (*record, stamp, error) {
	f, err := c.root.OpenFile(manifestPath(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		if notThere(err) {
			err = fs.ErrNotExist
		}
		return nil, stamp{}, fmt.Errorf("read the manifest of %s: %w", name, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, stamp{}, fmt.Errorf("read the manifest of %s: %w", name, err)
	}
	st := stampOf(fi)
	if !fi.Mode().IsRegular() || st.Size > maxRecord {
		return nil, st, fmt.Errorf("read the manifest of %s: %w: not a file of at most %d bytes", name, ndz.ErrManifest, maxRecord)
	}
	var r record
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(&r); err != nil {
		return nil, st, fmt.Errorf("read the manifest of %s: %w: %w", name, ndz.ErrManifest, err)
	}
	if err := r.Validate(); err != nil {
		return nil, st, fmt.Errorf("read the manifest of %s: %w", name, err)
	}
	if got := r.Manifest.Root(); got != r.Root {
		return nil, st, fmt.Errorf("read the manifest of %s: %w: root digest is %s, file says %s", name, ndz.ErrManifest, got, r.Root)
	}
	return &r, st, nil
}

// writeRecord puts r beside its image in one step and returns the stamp of
// what it wrote.
func (c *Catalogue) writeRecord(r *record) (stamp, error) {
	st, err := c.tryWriteRecord(r)
	if err != nil {
		return stamp{}, fmt.Errorf("write the manifest of %s: %w", r.Name, explain(err))
	}
	return st, nil
}

func (c *Catalogue) tryWriteRecord(r *record) (st stamp, err error) {
	temp := tempPath(r.Name, c.serial.Add(1))
	c.mu.Lock()
	c.temps[temp] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.temps, temp)
		c.mu.Unlock()
	}()
	f, err := c.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return stamp{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(c.root.Remove(temp)))
		}
	}()
	enc := json.NewEncoder(f)
	enc.SetIndent("", " ")
	err = enc.Encode(r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return stamp{}, err
	}
	if err := c.root.Rename(temp, manifestPath(r.Name)); err != nil {
		return stamp{}, err
	}
	if err := c.syncDir(path.Dir(r.Name)); err != nil {
		return stamp{}, err
	}
	fi, err := c.root.Stat(manifestPath(r.Name))
	if err != nil {
		return stamp{}, err
	}
	return stampOf(fi), nil
}

// syncDir makes changes of the names in a directory durable.
func (c *Catalogue) syncDir(dir string) error {
	d, err := c.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func ignoreMissing(err error) error {
	if notThere(err) {
		return nil
	}
	return err
}
