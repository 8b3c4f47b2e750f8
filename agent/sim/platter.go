package sim

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"loadnode/transfer/disk"
)

// errNoPower is what a disk says of which the power was cut.
var errNoPower = errors.New("the disk has no power")

// platter is the disk of a node with its faults.
type platter struct {
	disk.Target
	boot   *boot
	faults faults
	seed   uint64
	dieAt  int64 // bytes; the power fails when so many are written, 0 never

	mu      sync.Mutex
	written int64
	ready   time.Time // of a slow disk
	chosen  uint64    // rank of the best place for damage so far
	place   int64
	some    bool
	flipped bool
}

func newPlatter(t disk.Target, b *boot) *platter {
	p := &platter{Target: t, boot: b, faults: b.node.faults, seed: seedOf(b.node.seed, "disk")}
	if p.faults.has(Die) {
		// Between a fifth and four fifths of the way.
		share := 0.2 + 0.6*rand.New(rand.NewPCG(p.seed, 2)).Float64()
		p.dieAt = max(1, int64(share*float64(b.data.Load())))
	}
	return p
}

// Fixed says that a disk of a given size does not grow.
func (p *platter) Fixed() bool { return p.boot.node.sim.cfg.DiskSize > 0 }

func (p *platter) WriteAt(b []byte, off int64) (int, error) {
	if err := p.pass(int64(len(b))); err != nil {
		return 0, err
	}
	n, failed := len(b), false
	if f, ok := p.faults[WriteErr]; ok && int64(f.Number) >= off && int64(f.Number) < off+int64(n) {
		n, failed = int(int64(f.Number)-off), true
	}
	done, err := p.Target.WriteAt(b[:n], off)
	p.note(off, done)
	if err == nil && failed {
		err = unix.EIO
	}
	return done, err
}

func (p *platter) Zero(off, n int64) error {
	if p.boot.dead.Load() {
		return errNoPower
	}
	if f, ok := p.faults[WriteErr]; ok && int64(f.Number) >= off && int64(f.Number) < off+n {
		return unix.EIO
	}
	return p.Target.Zero(off, n)
}

// pass lets n bytes through: at the speed of a slow disk, and not without
// power.
func (p *platter) pass(n int64) error {
	if err := p.move(n); err != nil {
		return err
	}
	if p.dieAt > 0 {
		p.mu.Lock()
		fails := p.written+n >= p.dieAt
		p.mu.Unlock()
		if fails {
			p.boot.node.die(p.boot)
		}
	}
	if p.boot.dead.Load() {
		return errNoPower
	}
	return nil
}

// move waits as long as a slow disk takes for n bytes.
func (p *platter) move(n int64) error {
	if f, ok := p.faults[SlowDisk]; ok {
		clock := p.boot.node.sim.cfg.Clock
		p.mu.Lock()
		now := clock.Now()
		if p.ready.Before(now) {
			p.ready = now
		}
		p.ready = p.ready.Add(time.Duration(float64(n) / f.Number * float64(time.Second)))
		wait := p.ready.Sub(now)
		p.mu.Unlock()
		select {
		case <-clock.After(wait):
		case <-p.boot.ctx.Done():
		}
	}
	if p.boot.dead.Load() {
		return errNoPower
	}
	return nil
}

// note counts what was written, and picks the place for damage: the same one
// in whatever order chunks arrive.
func (p *platter) note(off int64, n int) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written += int64(n)
	if rank := mix(p.seed ^ uint64(off)); !p.some || rank < p.chosen {
		p.some, p.chosen = true, rank
		p.place = off + int64(rank%uint64(n))
	}
}

func (p *platter) Sync() error {
	if p.dieAt > 0 {
		p.boot.node.die(p.boot) // at the latest: an image that hardly writes
	}
	if p.boot.dead.Load() {
		return errNoPower
	}
	if err := p.Target.Sync(); err != nil {
		return err
	}
	if p.faults.has(Flip) {
		return p.flip()
	}
	return nil
}

// Uncache passes on, so that read-back reads the medium.
func (p *platter) Uncache() error {
	if u, ok := p.Target.(interface{ Uncache() error }); ok {
		return u.Uncache()
	}
	return nil
}

func (p *platter) Close() error {
	if p.faults.has(Lie) && !p.boot.dead.Load() {
		if err := p.flip(); err != nil {
			p.Target.Close()
			return err
		}
	}
	return p.Target.Close()
}

// flip damages one bit of what was written, once.
func (p *platter) flip() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.some || p.flipped {
		return nil
	}
	p.flipped = true
	var b [1]byte
	if _, err := p.Target.ReadAt(b[:], p.place); err != nil {
		return err
	}
	b[0] ^= 1 << (p.chosen >> 61)
	_, err := p.Target.WriteAt(b[:], p.place)
	return err
}

// pickup reads the disk of a node for a save, at the speed of the disk.
type pickup struct {
	disk.Target
	slow *platter
}

func (p *pickup) ReadAt(b []byte, off int64) (int, error) {
	if err := p.slow.move(int64(len(b))); err != nil {
		return 0, err
	}
	return p.Target.ReadAt(b, off)
}

// Seek passes on, so that holes need not be read.
func (p *pickup) Seek(off int64, whence int) (int64, error) {
	if s, ok := p.Target.(io.Seeker); ok {
		return s.Seek(off, whence)
	}
	return 0, errors.ErrUnsupported
}
