package frisbeesvc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Files in the shared directory are called by these and the id of their place,
// which nobody can guess.
const sharedPrefix, sharedSuffix = "loadnode-", ".ndz"

func sharedName(id string) string { return sharedPrefix + id + sharedSuffix }

// receiveFile takes the image in that a node has written to the shared
// directory, as OMF 4.4 does it, when it is said to be whole. The file goes
// whatever becomes of it: what is still being written to it is of nobody.
func (t *term) receiveFile(p *place) {
	dir, err := os.OpenRoot(t.s.cfg.SaveDir)
	if err != nil {
		t.places.end(p, nil, fmt.Errorf("shared directory: %w", err))
		return
	}
	defer dir.Close()
	remove := func() {
		if err := dir.Remove(p.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.s.log.Warn("file of a save not removed", "file", p.file, "err", err)
		}
	}
	select {
	case <-p.written:
	case <-p.ctx.Done():
		remove()
		t.places.end(p, nil, context.Cause(p.ctx))
		return
	}
	f, err := regular(dir, p.file)
	if err != nil {
		remove()
		t.places.end(p, nil, fmt.Errorf("save %s: %w", p.image, err))
		return
	}
	t.s.log.Info("an image is taken from the shared directory", "image", p.image, "lease", p.lease, "file", p.file)
	_, _ = t.store(p, f, nil, remove) // the place tells what became of it, and store logs it
	_ = f.Close()                     // it was read only
	remove()
}

// regular opens a file that is one: a node may have left anything there.
func regular(dir *os.Root, name string) (*os.File, error) {
	before, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not in the shared directory; does the node mount the directory that --save-dir names? %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s in the shared directory is not a file", name)
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = fmt.Errorf("%s in the shared directory was exchanged", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweepShared removes what a service that ended has left in the shared directory.
func (s *Service) sweepShared() {
	if s.cfg.SaveDir == "" {
		return
	}
	dir, err := os.OpenRoot(s.cfg.SaveDir)
	if err != nil {
		s.log.Warn("shared directory not looked through", "err", err)
		return
	}
	defer dir.Close()
	names, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		s.log.Warn("shared directory not looked through", "err", err)
		return
	}
	for _, e := range names {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), sharedPrefix) || !strings.HasSuffix(e.Name(), sharedSuffix) {
			continue
		}
		if err := dir.Remove(e.Name()); err != nil {
			s.log.Warn("file of a save not removed", "file", e.Name(), "err", err)
			continue
		}
		s.log.Info("file of an interrupted save removed", "file", e.Name())
	}
}
