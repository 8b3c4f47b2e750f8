package catalogue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/transfer/ndz"
)

// Origins of an image.
const (
	OriginDirectory = "directory" // found in the image directory
	OriginUpload    = "upload"
)

// Image is an image that was found equal to its manifest.
type Image struct {
	Name   string
	Digest ndz.Digest   // root digest of the manifest
	Head   ndz.Manifest // without its chunks
	Chunks int
	Owner  string
	Origin string
	// Provenance is of images that were saved, nil for others. It is not to be changed.
	Provenance *Provenance
	Added      time.Time
	Modified   time.Time // of the file
}

// Observer hears what happens to images. Calls come from the goroutine that
// found out, before its caller gets the answer, and never under a lock.
type Observer interface {
	// Added is called when an image is new in the catalogue, or good again
	// after it was damaged.
	Added(Image)
	// Damaged is called once for each state of a file that is not what its
	// manifest says.
	Damaged(*DamagedError)
}

// Config says what a catalogue needs.
type Config struct {
	Dir      string // must exist
	Observer Observer
	// Now is the time of day; time.Now if nil.
	Now func() time.Time
	// PartialAge is how long an unfinished upload is kept; 24 h if zero.
	PartialAge time.Duration
	// Free tells how many bytes may still be stored; that of the file system
	// if nil.
	Free func() (int64, error)
	// Reserve is how many bytes of the file system uploads leave free; 64 MiB
	// if zero.
	Reserve int64
}

// Catalogue is the images of one directory. Its methods may be called from
// any goroutine.
type Catalogue struct {
	dir     string
	root    *os.Root
	lock    *os.File // holds the directory for this process
	cfg     Config
	cancel  context.CancelFunc
	flights flights
	serial  atomic.Uint64
	cache   manifests

	mu      sync.Mutex
	entries map[string]*entry
	refused map[string]refusal // files that are no images
	pins    map[string]int     // images that sessions send
	temps   map[string]bool    // manifests that are being written
	uploads map[string]bool    // names that somebody uploads or saves
}

// entry is what is known of a file with a record. It holds as long as both
// stamps do.
type entry struct {
	image   Image
	file    stamp
	record  stamp
	damaged *DamagedError
}

// refusal is why a file was not taken into the catalogue.
type refusal struct {
	file stamp
	err  error
}

// Open takes hold of an image directory. It fails with ErrInUse while another
// process, or another catalogue of this one, has it (file systems that cannot
// lock a directory are not protected). Close gives it back.
func Open(cfg Config) (*Catalogue, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.PartialAge == 0 {
		cfg.PartialAge = 24 * time.Hour
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = 64 << 20
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("image directory %s does not exist, create it first: %w", cfg.Dir, err)
		}
		return nil, fmt.Errorf("image directory %s: %w", cfg.Dir, err)
	}
	lock, err := root.Open(".")
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		if errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOLCK) {
			err = nil // a network file system; ownership of the testbed has to do
		}
		if err != nil {
			lock.Close()
		}
	}
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("image directory %s: %w", cfg.Dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Catalogue{
		dir: cfg.Dir, root: root, lock: lock, cfg: cfg, cancel: cancel,
		flights: flights{ctx: ctx, open: map[string]*flight{}},
		entries: map[string]*entry{}, refused: map[string]refusal{}, pins: map[string]int{}, uploads: map[string]bool{}, temps: map[string]bool{},
	}
	if c.cfg.Free == nil {
		c.cfg.Free = c.statfs
	}
	return c, nil
}

// Close ends all work and gives the directory back. Files that are still open
// for sending must be closed before.
func (c *Catalogue) Close() error {
	c.cancel()
	c.flights.close()
	return errors.Join(c.lock.Close(), c.root.Close())
}

// Dir is the image directory.
func (c *Catalogue) Dir() string { return c.dir }

func (c *Catalogue) statfs() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(c.lock.Fd()), &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", c.dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Get returns an image that is what its manifest says. An unchanged file is
// not read again; a changed one is compared with its manifest; one without a
// manifest is taken into the catalogue. Errors: ErrName, ErrNotFound,
// ErrInvalid, *DamagedError, ErrChanged, ErrReadOnly, ErrSpace.
func (c *Catalogue) Get(ctx context.Context, name string) (Image, error) {
	return c.check(ctx, name, false)
}

// Verify is Get, but reads the whole file whatever its stamp says.
func (c *Catalogue) Verify(ctx context.Context, name string) (Image, error) {
	return c.check(ctx, name, true)
}

func (c *Catalogue) check(ctx context.Context, name string, full bool) (Image, error) {
	if err := CheckName(name); err != nil {
		return Image{}, err
	}
	key := "verify " + name
	if !full {
		if e := c.fresh(name); e != nil {
			return e.result()
		}
		key = "get " + name
	}
	err := c.flights.do(ctx, key, func(ctx context.Context) error { return c.load(ctx, name, full) })
	if err != nil {
		return Image{}, err
	}
	c.mu.Lock()
	e := c.entries[name]
	c.mu.Unlock()
	if e == nil { // removed since
		return Image{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return e.result()
}

func (e *entry) result() (Image, error) {
	if e.damaged != nil {
		return Image{}, e.damaged
	}
	return e.image, nil
}

// fresh returns what is known of name if neither the file nor its record has
// changed since.
func (c *Catalogue) fresh(name string) *entry {
	c.mu.Lock()
	e := c.entries[name]
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	image, err := c.root.Stat(name)
	if err != nil || !image.Mode().IsRegular() || stampOf(image) != e.file {
		return nil
	}
	rec, err := c.root.Stat(manifestPath(name))
	if err != nil || stampOf(rec) != e.record {
		return nil
	}
	return e
}

// Named returns the manifest with this root digest, if an image of the
// catalogue has it.
func (c *Catalogue) Named(ctx context.Context, digest ndz.Digest) (*ndz.Manifest, error) {
	if m := c.cache.get(digest); m != nil {
		return m, nil
	}
	c.mu.Lock()
	var name string
	for n, e := range c.entries {
		if e.image.Digest == digest && e.damaged == nil {
			name = n
			break
		}
	}
	c.mu.Unlock()
	if name == "" {
		return nil, fmt.Errorf("%w: none has the manifest %s", ErrNotFound, digest)
	}
	return c.manifest(ctx, name, digest)
}

// manifest returns the manifest of name, which must have this root digest.
func (c *Catalogue) manifest(ctx context.Context, name string, digest ndz.Digest) (*ndz.Manifest, error) {
	if m := c.cache.get(digest); m != nil {
		return m, nil
	}
	err := c.flights.do(ctx, "manifest "+name, func(context.Context) error {
		r, _, err := c.readRecord(name)
		if err != nil {
			return err
		}
		c.cache.put(r.Root, &r.Manifest)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if m := c.cache.get(digest); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%w: the manifest of %s is no longer %s", ErrNotFound, name, digest)
}
