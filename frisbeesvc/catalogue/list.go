package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// States of a file of the image directory.
const (
	StateOK           = "ok"
	StateDamaged      = "damaged"
	StateUnregistered = "unregistered" // not looked at, or no image
)

// Entry is a line of the list.
type Entry struct {
	Image
	Size    int64 // of the file, bytes
	State   string
	Message string // what is wrong
	Served  bool
}

// files is what a walk over the directory finds.
type files struct {
	images    []string
	manifests []string // names of their images
	partials  []string // paths
	savings   []string // paths
	temps     []string // paths
}

// walk reads the directory and its sub-directories. Only regular files and
// symbolic links count.
func (c *Catalogue) walk(ctx context.Context) (files, error) {
	var out files
	err := c.walkDir(ctx, ".", &out)
	sort.Strings(out.images)
	return out, err
}

func (c *Catalogue) walkDir(ctx context.Context, dir string, out *files) error {
	d, err := c.root.Open(dir)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	defer d.Close()
	list, err := d.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	var errs []error
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if dir == "." && CheckName(e.Name()) == nil {
				errs = append(errs, c.walkDir(ctx, p, out))
			}
		case !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0:
		case strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(p, partialSuffix):
			out.partials = append(out.partials, p)
		case strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(p, savingSuffix):
			out.savings = append(out.savings, p)
		case strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(p, tempSuffix) && strings.Contains(p, ".manifest."):
			out.temps = append(out.temps, p)
		case strings.HasSuffix(p, manifestSuffix):
			if name := strings.TrimSuffix(p, manifestSuffix); CheckName(name) == nil {
				out.manifests = append(out.manifests, name)
			}
		case CheckName(p) == nil:
			out.images = append(out.images, p)
		}
	}
	return errors.Join(errs...)
}

// List returns what lies in the directory, sorted by name, without reading
// any image.
func (c *Catalogue) List(ctx context.Context) ([]Entry, error) {
	found, err := c.walk(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, 0, len(found.images))
	for _, name := range found.images {
		if e, ok := c.describe(name); ok {
			list = append(list, e)
		}
	}
	return list, nil
}

// describe says what is known of name; false if there is no such file.
func (c *Catalogue) describe(name string) (Entry, bool) {
	e := Entry{Image: Image{Name: name}, State: StateUnregistered}
	known := c.fresh(name)
	c.mu.Lock()
	refused, isRefused := c.refused[name]
	e.Served = c.pins[name] > 0
	seen := c.entries[name] != nil
	c.mu.Unlock()
	fi, err := c.root.Stat(name)
	switch {
	case notThere(err):
		return e, false
	case err != nil:
		e.Message = err.Error()
		return e, true
	case !fi.Mode().IsRegular():
		return e, false
	}
	e.Size, e.Modified = fi.Size(), fi.ModTime().UTC()
	switch {
	case known != nil && known.damaged != nil:
		e.Image, e.State, e.Message = known.image, StateDamaged, known.damaged.Err.Error()
		e.Name, e.Modified = name, fi.ModTime().UTC()
	case known != nil:
		e.Image, e.State = known.image, StateOK
	case isRefused && refused.file == stampOf(fi):
		e.Message = refused.err.Error()
	case seen:
		e.Message = "changed since it was checked last; it is read again when it is asked for"
	default:
		e.Message = "not checked yet; it is when it is asked for or added"
	}
	return e, true
}

// Scan tidies the directory up (half-written manifests, manifests without an
// image, uploads that nobody went on with, what is left of saves) and checks every image, taking
// those without a manifest into the catalogue. It goes on after errors and
// returns all of them.
func (c *Catalogue) Scan(ctx context.Context) error {
	found, err := c.walk(ctx)
	errs := []error{err}
	for _, p := range found.temps {
		errs = append(errs, c.removeTemp(p))
	}
	there := make(map[string]bool, len(found.images))
	for _, name := range found.images {
		there[name] = true
	}
	for _, name := range found.manifests {
		if !there[name] {
			errs = append(errs, c.removeOrphan(name))
		}
	}
	for _, p := range found.partials {
		errs = append(errs, c.removeStale(p))
	}
	for _, p := range found.savings {
		errs = append(errs, c.removeSaving(p))
	}
	for _, name := range found.images {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := c.Get(ctx, name); err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeTemp removes a half-written manifest that nobody is writing any more.
func (c *Catalogue) removeTemp(p string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.temps[p] {
		return nil
	}
	return explain(ignoreMissing(c.root.Remove(p)))
}

// removeOrphan removes the manifest of an image that is gone, so that a new
// file of that name is not measured by it.
func (c *Catalogue) removeOrphan(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uploads[name] {
		return nil
	}
	if _, err := c.root.Lstat(name); !notThere(err) {
		return nil // it has come meanwhile
	}
	return explain(ignoreMissing(c.root.Remove(manifestPath(name))))
}

// removeStale removes an unfinished upload that has not grown for long.
func (c *Catalogue) removeStale(partial string) error {
	dir, base := path.Split(partial)
	name := dir + strings.TrimSuffix(strings.TrimPrefix(base, "."), partialSuffix)
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := c.root.Lstat(partial)
	if err != nil || c.uploads[name] || c.cfg.Now().Sub(fi.ModTime()) < c.cfg.PartialAge {
		return ignoreMissing(err)
	}
	return explain(ignoreMissing(c.root.Remove(partial)))
}

// removeSaving removes what is left of a save that this process does not
// receive: nobody can go on with it.
func (c *Catalogue) removeSaving(hidden string) error {
	dir, base := path.Split(hidden)
	name := dir + strings.TrimSuffix(strings.TrimPrefix(base, "."), savingSuffix)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uploads[name] {
		return nil
	}
	return explain(ignoreMissing(c.root.Remove(hidden)))
}

// Has says whether the directory has a file of that name, whatever it is.
func (c *Catalogue) Has(name string) bool {
	if CheckName(name) != nil {
		return false
	}
	fi, err := c.root.Lstat(name)
	return err == nil && !fi.IsDir()
}

// Remove removes an image and its manifest. ErrServed while a session sends
// it, ErrBusy while somebody uploads it, ErrNotFound.
func (c *Catalogue) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pins[name] > 0 {
		return fmt.Errorf("remove %s: %w", name, ErrServed)
	}
	if c.uploads[name] {
		return fmt.Errorf("remove %s: %w", name, ErrBusy)
	}
	fi, err := c.root.Lstat(name)
	if notThere(err) || err == nil && fi.IsDir() {
		return fmt.Errorf("remove: %w: %s", ErrNotFound, name)
	}
	// The image goes first: a manifest without an image is tidied up, an
	// image without a manifest would be taken in again.
	if err := c.root.Remove(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, explain(err))
	}
	if e := c.entries[name]; e != nil {
		c.cache.drop(e.image.Digest)
	}
	delete(c.entries, name)
	delete(c.refused, name)
	if err := ignoreMissing(c.root.Remove(manifestPath(name))); err != nil {
		return fmt.Errorf("remove the manifest of %s: %w", name, explain(err))
	}
	return c.syncDir(path.Dir(name))
}
