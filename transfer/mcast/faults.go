package mcast

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
)

// Faults is what WithFaults does to received datagrams. Probabilities are 0…1.
type Faults struct {
	Loss      float64
	Duplicate float64
	// Reorder is the probability that a datagram comes after some later ones.
	Reorder float64
	// FlipBit damages every n-th datagram in one bit, 0 none. A UDP checksum
	// does not protect from a broken network card or switch memory.
	FlipBit int
	// Match restricts all faults to datagrams for which it says true; nil means all.
	Match func(d []byte) bool
}

// WithFaults returns c with a bad receiving side. The same seed and the same
// datagrams give the same faults.
func WithFaults(c Conn, f Faults, seed uint64) Conn {
	return &faulty{Conn: c, faults: f, rand: rand.New(rand.NewPCG(seed, 0))}
}

// reorderDepth is by how many datagrams one can be late.
const reorderDepth = 8

// faulty is a Conn with faults. Besides what the inner Conn gave it delivers
// copies, which it owns.
type faulty struct {
	Conn
	faults Faults
	rand   *rand.Rand
	seen   int
	ready  []Datagram // duplicates and late ones, to be delivered next
	late   []Datagram // waiting until others have overtaken them
	wait   int        // how many datagrams still have to overtake
	lost   atomic.Uint64
}

// Lost counts the datagrams the decorator dropped, for tests which compare
// losses with repairs.
func (f *faulty) Lost() uint64 { return f.lost.Load() }

func (f *faulty) Receive(ds []Datagram) (int, error) {
	if len(ds) == 0 {
		return 0, nil
	}
	for {
		if len(f.ready) > 0 {
			n := copy(ds, f.ready)
			f.ready = append(f.ready[:0:0], f.ready[n:]...)
			return n, nil
		}
		n, err := f.Conn.Receive(ds)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && len(f.late) > 0 {
				f.release() // nothing overtakes them any more
				continue
			}
			return 0, err
		}
		out := 0
		for _, d := range ds[:n] {
			if f.keep(&d) {
				ds[out] = d
				out++
			}
		}
		if out > 0 {
			return out, nil
		}
	}
}

// keep applies the faults to one datagram and says whether it is delivered now.
func (f *faulty) keep(d *Datagram) bool {
	if f.wait > 0 {
		if f.wait--; f.wait == 0 {
			f.release()
		}
	}
	if f.faults.Match != nil && !f.faults.Match(d.Data) {
		return true
	}
	f.seen++
	if f.faults.Loss > 0 && f.rand.Float64() < f.faults.Loss {
		f.lost.Add(1)
		return false
	}
	if f.faults.FlipBit > 0 && f.seen%f.faults.FlipBit == 0 && len(d.Data) > 0 {
		*d = clone(*d)
		bit := f.rand.IntN(8 * len(d.Data))
		d.Data[bit/8] ^= 1 << (bit % 8)
	}
	if f.faults.Duplicate > 0 && f.rand.Float64() < f.faults.Duplicate {
		f.ready = append(f.ready, clone(*d))
	}
	if f.faults.Reorder > 0 && f.rand.Float64() < f.faults.Reorder {
		f.late = append(f.late, clone(*d))
		f.wait = 1 + f.rand.IntN(reorderDepth)
		return false
	}
	return true
}

// release lets the late ones arrive.
func (f *faulty) release() {
	f.ready = append(f.ready, f.late...)
	f.late = nil
}

func clone(d Datagram) Datagram {
	d.Data = append([]byte(nil), d.Data...)
	return d
}
