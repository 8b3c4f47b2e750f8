package ntfs

import (
	"encoding/binary"
	"strings"
)

const (
	indexName    = "$I30"   // of the index of file names
	maxRootIndex = 64 << 20 // bytes; more than 300,000 names
)

// lookUp finds names in the root directory, given in lower case, and returns references to their records. It looks at
// every entry of every block in use rather than follow the tree: nothing depends on the order of names then.
func (v *volume) lookUp(names ...string) (map[string]uint64, *stream, error) {
	rec, err := v.readRecord(fileRoot)
	if err != nil {
		return nil, nil, err
	}
	root := rec.resident(typeIndexRoot, indexName)
	if rec.flags&recordDirectory == 0 || len(root) < 32 {
		return nil, nil, damaged("the root directory has no index: run chkdsk")
	}
	found := make(map[string]uint64)
	if err := entries(root, 16, names, found); err != nil {
		return nil, nil, err
	}
	s, err := v.open(rec, typeIndexAlloc, indexName)
	if err != nil || s == nil {
		return found, nil, err
	}
	size := uint64(binary.LittleEndian.Uint32(root[8:]))
	if size < 512 || size > 64<<10 || size%512 != 0 || !s.plain() || s.size > maxRootIndex {
		return nil, nil, damaged("the index of the root directory has %d bytes in blocks of %d", s.size, size)
	}
	inUse, err := v.open(rec, typeBitmap, indexName)
	if err != nil {
		return nil, nil, err
	}
	blocks := s.size / size
	if inUse == nil || inUse.size < (blocks+7)/8 {
		return nil, nil, damaged("the index of the root directory has no bitmap: run chkdsk")
	}
	used, block := make([]byte, (blocks+7)/8), make([]byte, size)
	if err := inUse.read(used, 0, "the bitmap of the root directory"); err != nil {
		return nil, nil, err
	}
	for i := range blocks {
		if used[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if err := s.read(block, i*size, "the index of the root directory"); err != nil {
			return nil, nil, err
		}
		if err := fixup(block, "INDX"); err != nil {
			return nil, nil, damaged("block %d of the index of the root directory: %v: run chkdsk", i, err)
		}
		if err := entries(block, 24, names, found); err != nil {
			return nil, nil, err
		}
	}
	return found, s, nil
}

// entries goes through the entries behind the index header at a place.
func entries(b []byte, header uint64, names []string, found map[string]uint64) error {
	le := binary.LittleEndian
	at, end := header+uint64(le.Uint32(b[header:])), header+uint64(le.Uint32(b[header+4:]))
	if end > uint64(len(b)) {
		return damaged("an index of the root directory ends at byte %d of %d: run chkdsk", end, len(b))
	}
	for {
		if at+16 > end {
			return damaged("an index of the root directory has no end: run chkdsk")
		}
		size, key := uint64(le.Uint16(b[at+8:])), uint64(le.Uint16(b[at+10:]))
		const last = 2
		if le.Uint16(b[at+12:])&last != 0 {
			return nil
		}
		if size < 16 || size > end-at || 16+key > size {
			return damaged("an index of the root directory has an entry of %d bytes: run chkdsk", size)
		}
		name, err := decodeFileName(b[at+16 : at+16+key])
		if err != nil {
			return damaged("an index of the root directory has %v: run chkdsk", err)
		}
		for _, want := range names {
			if name.name == want {
				found[want] = le.Uint64(b[at:])
			}
		}
		at += size
	}
}

// file reads the record that an entry of the root directory names.
func (v *volume) file(ref uint64, name string) (*record, error) {
	number, sequence := reference(ref)
	rec, err := v.readRecord(number)
	if err != nil {
		return nil, err
	}
	if rec.sequence != sequence || rec.base != 0 {
		return nil, damaged("the root directory says that record %d of the MFT is %s, which it is not: run chkdsk", number, name)
	}
	return rec, nil
}

// hibernated says whether the content of hiberfil.sys is a system to be resumed. Zeros, and what a system leaves there
// when it has been resumed, are not; what is not known may be.
func (v *volume) hibernated(rec *record) (bool, error) {
	s, err := v.open(rec, typeData, "")
	switch {
	case err != nil:
		return false, err
	case s == nil || s.size == 0:
		return false, nil
	case s.flags&^flagSparse != 0:
		return true, nil
	}
	head := make([]byte, min(s.size, 4096))
	if err := s.read(head, 0, "hiberfil.sys"); err != nil {
		return false, err
	}
	if strings.Count(string(head), "\x00") == len(head) {
		return false, nil
	}
	return len(head) < 4 || !strings.EqualFold(string(head[:4]), "wake"), nil
}

// Attributes of a file, as the standard information has them.
const (
	attrHidden  = 0x2
	attrSystem  = 0x4
	attrReparse = 0x400
)

// worthless returns the content of a page file beyond its first 64 KiB, if it is one: made by Windows, known by one name,
// its bytes in clusters as they are. In doubt it is nil.
func (v *volume) worthless(rec *record, name string) (*stream, []run) {
	const links = 1
	names := 0
	for _, a := range rec.attrs {
		switch {
		case a.kind == typeList: // its names may be elsewhere
			return nil, nil
		case a.kind == typeFileName:
			n, err := decodeFileName(a.resident)
			if err != nil || n.parent != fileRoot || n.name != name {
				return nil, nil
			}
			names++
		case a.kind == typeData && a.name != "":
			return nil, nil
		}
	}
	standard := rec.resident(typeStandard, "")
	if names != links || rec.flags&recordDirectory != 0 || len(standard) < 36 {
		return nil, nil
	}
	if f := binary.LittleEndian.Uint32(standard[32:]); f&(attrHidden|attrSystem) != attrHidden|attrSystem || f&attrReparse != 0 {
		return nil, nil
	}
	s, err := v.open(rec, typeData, "")
	if err != nil || s == nil || !s.plain() {
		return nil, nil
	}
	keep := (uint64(64<<10) + v.cluster - 1) / v.cluster
	var runs []run
	for _, r := range s.runs {
		if r.first+r.n <= keep {
			continue
		}
		if r.first < keep {
			skip := keep - r.first
			r.first, r.at, r.n = keep, r.at+skip, r.n-skip
		}
		runs = append(runs, r)
	}
	return s, runs
}
