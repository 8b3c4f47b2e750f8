package disk

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directAlign is what direct writes are aligned to, in bytes: no disk has larger logical sectors, and no page of
	// memory then holds bytes of both a direct and an ordinary write.
	directAlign = 4096
	// directPiece is the longest direct write: what the aligned buffers hold.
	directPiece = 1 << 20
)

// direct is a target that writes around the page cache. What is not aligned, at the ends of a write, takes the ordinary
// way; both reach the same device or file, and Sync waits for both.
type direct struct {
	Target
	file    *os.File
	buffers sync.Pool
}

// newDirect opens a target a second time for direct writes.
func newDirect(t Target, f *os.File) (*direct, error) {
	refused := func(err error) error {
		return fmt.Errorf("open %s: direct I/O is not possible here (%w): open it without", f.Name(), err)
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, refused(err)
	}
	d := &direct{Target: t, file: again}
	d.buffers.New = func() any { b := aligned(directPiece); return &b }
	b := aligned(directAlign)
	if _, err := unix.Pread(int(again.Fd()), b, 0); err != nil { // some filesystems say so only now
		again.Close()
		return nil, refused(err)
	}
	return d, nil
}

// aligned returns n bytes whose address is a multiple of directAlign.
func aligned(n int) []byte {
	b := make([]byte, n+directAlign)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directAlign)
	return b[skip : skip+n : skip+n]
}

// WriteAt writes the aligned middle of p directly.
func (d *direct) WriteAt(p []byte, off int64) (int, error) {
	done := 0
	ordinary := func(n int) error {
		if n == 0 {
			return nil
		}
		k, err := d.Target.WriteAt(p[done:done+n], off+int64(done))
		done += k
		return err
	}
	if err := ordinary(min(len(p), int(-off&(directAlign-1)))); err != nil {
		return done, err
	}
	b := d.buffers.Get().(*[]byte)
	defer d.buffers.Put(b)
	for len(p)-done >= directAlign {
		n := min(len(p)-done, directPiece) / directAlign * directAlign
		copy(*b, p[done:done+n])
		k, err := d.file.WriteAt((*b)[:n], off+int64(done))
		done += k
		if err != nil {
			return done, err
		}
	}
	return done, ordinary(len(p) - done)
}

func (d *direct) Close() error { return errors.Join(d.file.Close(), d.Target.Close()) }

// CanDiscard, Discard, Uncache, SectorSize and Reread are those of the target behind.

func (d *direct) CanDiscard() bool {
	t, ok := d.Target.(Discarder)
	return ok && t.CanDiscard()
}

func (d *direct) Discard(off, n int64) error {
	if t, ok := d.Target.(Discarder); ok {
		return t.Discard(off, n)
	}
	return ErrNoDiscard
}

func (d *direct) Uncache() error {
	if t, ok := d.Target.(interface{ Uncache() error }); ok {
		return t.Uncache()
	}
	return nil
}

func (d *direct) SectorSize() int {
	if t, ok := d.Target.(interface{ SectorSize() int }); ok {
		return t.SectorSize()
	}
	return 0
}

func (d *direct) Reread() error {
	if t, ok := d.Target.(interface{ Reread() error }); ok {
		return t.Reread()
	}
	return nil
}
