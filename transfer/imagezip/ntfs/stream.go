package ntfs

import (
	"encoding/binary"
	"fmt"
)

const (
	maxRuns = 1 << 20   // of an attribute; the memory for them is 24 MiB
	maxMap  = 1 << 40   // clusters of a run, and of those before it: bytes of them fit in 63 bits
	maxList = 256 << 10 // bytes of an attribute list, as Windows has it
)

// run is a run of clusters of an attribute.
type run struct {
	first uint64 // cluster within the attribute
	at    uint64 // cluster on the volume; noCluster: a hole
	n     uint64
}

const noCluster = ^uint64(0)

// stream is the content of an attribute.
type stream struct {
	v           *volume
	what        string
	flags       uint16
	resident    []byte
	runs        []run
	mapped      uint64 // clusters that the runs have
	size        uint64 // bytes
	initialized uint64 // bytes; what lies behind is zeros
	holes       bool
	started     bool // the first part is known
}

// open finds an attribute of a record, wherever its parts are. It is nil if there is none.
func (v *volume) open(rec *record, kind uint32, name string) (*stream, error) {
	s := &stream{v: v, what: fmt.Sprintf("attribute %#x of record %d of the MFT", kind, rec.number)}
	found, err := s.collect(rec, kind, name)
	if err != nil || !found {
		return nil, err
	}
	return s, s.complete()
}

// complete checks that the runs hold what the size says.
func (s *stream) complete() error {
	if s.resident == nil && s.mapped < (s.size+s.v.cluster-1)/s.v.cluster || s.initialized > s.size {
		return damaged("%s has %d bytes (%d initialised) in %d clusters: run chkdsk", s.what, s.size, s.initialized, s.mapped)
	}
	return nil
}

// plain says that the bytes lie in the clusters as they are.
func (s *stream) plain() bool { return s.resident == nil && s.flags == 0 && !s.holes }

// collect adds the parts of an attribute that a record and its attribute list name. Each part is usable when the next is
// looked for: so the MFT finds its own parts.
func (s *stream) collect(rec *record, kind uint32, name string) (found bool, err error) {
	var list *attribute
	for i, a := range rec.attrs {
		if a.kind == typeList {
			list = &rec.attrs[i]
		}
	}
	if list == nil {
		for _, a := range rec.attrs {
			if a.kind == kind && a.name == name {
				if err := s.add(a); err != nil {
					return false, err
				}
				found = true
			}
		}
		return found, nil
	}
	b, err := s.v.readList(rec, list)
	if err != nil {
		return false, err
	}
	le := binary.LittleEndian
	for len(b) > 0 {
		n := 0
		if len(b) >= 26 {
			n = int(le.Uint16(b[4:]))
		}
		if n < 26 || n > len(b) {
			return false, damaged("the attribute list of record %d of the MFT has an entry of %d bytes: run chkdsk", rec.number, n)
		}
		e := b[:n]
		b = b[n:]
		entryName, err := text(e, uint64(e[7]), uint64(e[6]))
		if err != nil {
			return false, damaged("the attribute list of record %d of the MFT has %v: run chkdsk", rec.number, err)
		}
		if le.Uint32(e) != kind || entryName != name {
			continue
		}
		if err := s.addFrom(rec, le.Uint64(e[16:]), le.Uint64(e[8:]), kind, name); err != nil {
			return false, err
		}
		found = true
	}
	return found, nil
}

// readList returns the content of an attribute list.
func (v *volume) readList(rec *record, a *attribute) ([]byte, error) {
	l := &stream{v: v, what: fmt.Sprintf("the attribute list of record %d of the MFT", rec.number)}
	if err := l.add(*a); err != nil {
		return nil, err
	}
	if err := l.complete(); err != nil {
		return nil, err
	}
	if l.size > maxList || l.flags != 0 || l.holes {
		return nil, damaged("%s has %d bytes and flags %#x", l.what, l.size, l.flags)
	}
	b := make([]byte, l.size)
	return b, l.read(b, 0, l.what)
}

// addFrom adds the part of an attribute that starts with cluster first, from the record that ref names.
func (s *stream) addFrom(base *record, ref, first uint64, kind uint32, name string) error {
	rec := base
	if number, sequence := reference(ref); number != base.number {
		var err error
		if rec, err = s.v.readRecord(number); err != nil {
			return err
		}
		if owner, _ := reference(rec.base); owner != base.number || rec.sequence != sequence {
			return damaged("record %d of the MFT is no extension of record %d: run chkdsk", number, base.number)
		}
	}
	for _, a := range rec.attrs {
		if a.kind == kind && a.name == name && (a.extent == nil || binary.LittleEndian.Uint64(a.extent[16:]) == first) {
			return s.add(a)
		}
	}
	return damaged("%s has no part in record %d of the MFT: run chkdsk", s.what, rec.number)
}

// add appends a part, which must follow the part before.
func (s *stream) add(a attribute) error {
	if a.extent == nil {
		if s.started {
			return damaged("%s is there twice: run chkdsk", s.what)
		}
		s.resident, s.flags, s.started = a.resident, a.flags, true
		s.size, s.initialized = uint64(len(a.resident)), uint64(len(a.resident))
		return nil
	}
	le := binary.LittleEndian
	first, last := le.Uint64(a.extent[16:]), le.Uint64(a.extent[24:])
	switch {
	case s.resident != nil || first != s.mapped || s.started != (first > 0) || first > 0 && a.flags != s.flags:
		return damaged("%s has a part at cluster %d, after %d clusters: run chkdsk", s.what, first, s.mapped)
	case first == 0:
		s.flags, s.size, s.initialized, s.started = a.flags, le.Uint64(a.extent[48:]), le.Uint64(a.extent[56:]), true
		if s.size > 1<<62 { // sums of it do not overflow then
			return damaged("%s has %d bytes: run chkdsk", s.what, s.size)
		}
	}
	if err := s.decode(a.extent, first); err != nil {
		return damaged("%s: %v: run chkdsk", s.what, err)
	}
	if s.mapped != last+1 {
		return damaged("%s has %d clusters, its header says %d: run chkdsk", s.what, s.mapped, last+1)
	}
	return nil
}

// decode appends the runs of a part: for each a length, and the distance from the start of the run before.
func (s *stream) decode(b []byte, first uint64) error {
	at := int(binary.LittleEndian.Uint16(b[32:]))
	if at < 64 || at > len(b) {
		return fmt.Errorf("runs from byte %d", at)
	}
	s.mapped = first
	lcn := int64(0)
	for b = b[at:]; len(b) > 0 && b[0] != 0; {
		lengthSize, offsetSize := int(b[0]&0xF), int(b[0]>>4)
		if lengthSize == 0 || lengthSize > 8 || offsetSize > 8 || 1+lengthSize+offsetSize > len(b) {
			return fmt.Errorf("a run of form %#x", b[0])
		}
		n := signed(b[1 : 1+lengthSize])
		next := run{first: s.mapped, at: noCluster, n: uint64(n)}
		if offsetSize > 0 {
			delta := signed(b[1+lengthSize : 1+lengthSize+offsetSize])
			if delta < -maxMap || delta > maxMap {
				return fmt.Errorf("a run %d clusters away", delta)
			}
			lcn += delta
			next.at = uint64(lcn)
		}
		switch {
		case n <= 0 || n > maxMap || s.mapped > maxMap:
			return fmt.Errorf("a run of %d clusters", n)
		case offsetSize > 0 && (lcn < 0 || uint64(lcn) >= s.v.clusters || uint64(n) > s.v.clusters-uint64(lcn)):
			return fmt.Errorf("a run of %d clusters at cluster %d, the volume has %d", n, lcn, s.v.clusters)
		case len(s.runs) == maxRuns:
			return fmt.Errorf("more than %d runs", maxRuns)
		}
		s.holes = s.holes || offsetSize == 0
		s.runs = append(s.runs, next)
		s.mapped += uint64(n)
		b = b[1+lengthSize+offsetSize:]
	}
	return nil
}

// signed is a little-endian number with a sign, of up to eight bytes.
func signed(b []byte) int64 {
	v := int64(0)
	for i, c := range b {
		v |= int64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return v << shift >> shift
}

// read fills p from byte off of the content. What lies behind the initialised part is zeros.
func (s *stream) read(p []byte, off uint64, what string) error {
	if end := off + uint64(len(p)); end > s.size {
		return damaged("%s ends behind byte %d of %s: run chkdsk", what, s.size, s.what)
	}
	if s.resident != nil {
		copy(p, s.resident[off:])
		return nil
	}
	if s.flags&^flagSparse != 0 {
		return damaged("%s is compressed or encrypted", s.what)
	}
	i := s.find(off / s.v.cluster)
	for len(p) > 0 {
		if off >= s.initialized {
			clear(p)
			return nil
		}
		if i >= len(s.runs) {
			return damaged("%s lies in a part of %s that is not known yet: run chkdsk", what, s.what)
		}
		r := s.runs[i]
		skip := off - r.first*s.v.cluster
		n := min(uint64(len(p)), r.n*s.v.cluster-skip, s.initialized-off)
		if r.at == noCluster {
			clear(p[:n])
		} else if err := s.v.readClusters(p[:n], r.at*s.v.cluster+skip, what); err != nil {
			return err
		}
		p, off = p[n:], off+n
		if skip+n == r.n*s.v.cluster {
			i++
		}
	}
	return nil
}

// find is the run with a cluster of the content.
func (s *stream) find(cluster uint64) int {
	lo, hi := 0, len(s.runs)
	for lo < hi {
		mid := (lo + hi) / 2
		if s.runs[mid].first+s.runs[mid].n <= cluster {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

const flagSparse = 0x8000
