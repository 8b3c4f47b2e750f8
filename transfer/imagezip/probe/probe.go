package probe

import (
	"fmt"
	"io"
)

// Foreign names what a source of size bytes holds, for people: "LVM2 physical volume". It is to be saved whole. found is
// false if nothing is recognised.
//
// Foreign knows everything that [Member] knows, and marks so short that they may stand in any filesystem by chance: ask
// it only when no filesystem was recognised.
func Foreign(r io.ReaderAt, size int64) (name string, found bool) {
	if name, found = Member(r, size); found {
		return name, true
	}
	return (&source{r: r, size: size}).first(weak)
}

// Member names a container, or a filesystem with an unmistakable mark, that must be saved whole even if there seems to be
// a filesystem with known free space on the same sectors: that one is stale, or only a part of it is here. Ask Member
// before the probes of filesystems.
//
// size matters: md RAID with metadata 0.90 and 1.0, DDF and IMSM sit at the end of a source. Ask about each partition,
// and about a whole disk only if it has no partition table, because the end of its last partition can be the end of the
// disk; if it has one, ask [Disk].
func Member(r io.ReaderAt, size int64) (name string, found bool) {
	return (&source{r: r, size: size}).first(strong)
}

// Disk names what a disk with a partition table belongs to as a whole: the table may be that of a RAID array over several
// disks (firmware RAID), or be left over in front of a container that begins behind it. Then no partition is what it seems,
// and all of the disk must be saved.
func Disk(r io.ReaderAt, size int64) (name string, found bool) {
	return (&source{r: r, size: size}).first(whole)
}

// mark is a recognisable thing on a source.
type mark struct {
	name  string
	at    int64  // byte offset
	magic string // must stand there; empty: check decides alone
	check func(s *source) bool
}

// source reads the small pieces that marks look at.
type source struct {
	r       io.ReaderAt
	size    int64
	failed  bool
	failure int64 // byte offset of the first piece that could not be read

	block []byte // the sector read last
	start int64  // where it starts
}

// first returns the name of the first mark that is there. Something that cannot be read is a mark too: nothing can be
// ruled out then, and whatever else seems to be there must not be believed.
func (s *source) first(marks []mark) (string, bool) {
	for _, m := range marks {
		if m.magic != "" && string(s.at(m.at, len(m.magic))) != m.magic {
			continue
		}
		if m.check == nil || m.check(s) {
			return m.name, true
		}
	}
	if s.failed {
		return fmt.Sprintf("something that cannot be read at byte %d", s.failure), true
	}
	return "", false
}

// at returns n bytes from a place, nil if the source ends before or cannot be read. They are valid until the next call.
func (s *source) at(off int64, n int) []byte {
	if off < 0 || off > s.size-int64(n) {
		return nil
	}
	if i := off - s.start; i >= 0 && i+int64(n) <= int64(len(s.block)) {
		return s.block[i:][:n]
	}
	// Whole blocks of 4 KiB where they fit: a disk is read so, and the next mark is often close by.
	s.start = off &^ 4095
	end := min((off+int64(n)+4095)&^4095, s.size)
	if need := int(end - s.start); need <= cap(s.block) {
		s.block = s.block[:need]
	} else {
		s.block = make([]byte, need)
	}
	got, err := s.r.ReadAt(s.block, s.start)
	if got == len(s.block) {
		return s.block[off-s.start:][:n]
	}
	s.block = s.block[:0]
	if err != nil && !s.failed {
		s.failed, s.failure = true, s.start+int64(got)
	}
	return nil
}
