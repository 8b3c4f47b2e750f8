package ntfs

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Numbers of the files that every volume has.
const (
	fileMFT    = 0
	fileLog    = 2
	fileVolume = 3
	fileRoot   = 5
	fileBitmap = 6
)

// Types of attributes.
const (
	typeStandard   = 0x10
	typeList       = 0x20
	typeFileName   = 0x30
	typeVolumeName = 0x60
	typeVolumeInfo = 0x70
	typeData       = 0x80
	typeIndexRoot  = 0x90
	typeIndexAlloc = 0xA0
	typeBitmap     = 0xB0
	typeEnd        = 0xFFFFFFFF
)

const (
	recordInUse     = 1
	recordDirectory = 2
)

// fixup checks the update sequence of a record and puts the bytes back that it replaced: the last two of each 512, so
// that a record which was only written in part shows.
func fixup(b []byte, magic string) error {
	le := binary.LittleEndian
	if string(b[:4]) != magic {
		return fmt.Errorf("it starts with %q, not with %s", b[:4], magic)
	}
	at, n := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if n != len(b)/512+1 || at%2 != 0 || at < 8 || at+2*n > 510 {
		return fmt.Errorf("an update sequence of %d values at byte %d", n, at)
	}
	sequence := b[at : at+2*n]
	for i := 1; i < n; i++ {
		end := b[512*i-2 : 512*i]
		if string(end) != string(sequence[:2]) {
			return fmt.Errorf("sector %d does not have the update sequence number", i-1)
		}
		copy(end, sequence[2*i:])
	}
	return nil
}

// record is a checked record of the MFT.
type record struct {
	number   uint64
	sequence uint16
	flags    uint16
	base     uint64 // of an extension: reference to the record it belongs to
	attrs    []attribute
}

// attribute is one of a record.
type attribute struct {
	kind     uint32
	name     string
	flags    uint16 // compressed, encrypted, sparse
	resident []byte // nil if it is not
	extent   []byte // the header if it is not resident
}

// reference is a record number with the sequence number the record must have.
func reference(v uint64) (number uint64, sequence uint16) { return v & (1<<48 - 1), uint16(v >> 48) }

// readRecord reads a record in use.
func (v *volume) readRecord(number uint64) (*record, error) {
	b := make([]byte, v.record)
	what := fmt.Sprintf("record %d of the MFT", number)
	if number >= v.mft.initialized/v.record {
		return nil, damaged("%s does not exist: run chkdsk", what)
	}
	if err := v.mft.read(b, number*v.record, what); err != nil {
		return nil, err
	}
	return v.parseRecord(b, number)
}

func (v *volume) parseRecord(b []byte, number uint64) (*record, error) {
	rec, err := decodeRecord(b, number)
	if err != nil {
		return nil, damaged("record %d of the MFT: %v: run chkdsk", number, err)
	}
	return rec, nil
}

func decodeRecord(b []byte, number uint64) (*record, error) {
	if err := fixup(b, "FILE"); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	rec := &record{number: number, sequence: le.Uint16(b[16:]), flags: le.Uint16(b[22:]), base: le.Uint64(b[32:])}
	at, used := uint64(le.Uint16(b[20:])), uint64(le.Uint32(b[24:]))
	switch {
	case rec.flags&recordInUse == 0:
		return nil, fmt.Errorf("it is not in use")
	case used > uint64(len(b)) || at < 42 || at%8 != 0:
		return nil, fmt.Errorf("attributes from byte %d to %d", at, used)
	case le.Uint16(b[4:]) >= 48 && le.Uint32(b[44:]) != uint32(number): // before Windows XP it was not there
		return nil, fmt.Errorf("it says that it is record %d", le.Uint32(b[44:]))
	}
	for {
		if at+4 > used {
			return nil, fmt.Errorf("its attributes have no end")
		}
		if le.Uint32(b[at:]) == typeEnd {
			return rec, nil
		}
		if at+16 > used {
			return nil, fmt.Errorf("an attribute is cut")
		}
		size := uint64(le.Uint32(b[at+4:]))
		if size < 24 || size%8 != 0 || size > used-at {
			return nil, fmt.Errorf("an attribute of %d bytes at byte %d", size, at)
		}
		a, err := decodeAttribute(b[at : at+size])
		if err != nil {
			return nil, fmt.Errorf("the attribute at byte %d: %w", at, err)
		}
		rec.attrs = append(rec.attrs, a)
		at += size
	}
}

func decodeAttribute(b []byte) (attribute, error) {
	le := binary.LittleEndian
	a := attribute{kind: le.Uint32(b), flags: le.Uint16(b[12:])}
	name, err := text(b, uint64(le.Uint16(b[10:])), uint64(b[9]))
	if err != nil {
		return a, err
	}
	a.name = name
	if b[8] == 0 {
		n, at := uint64(le.Uint32(b[16:])), uint64(le.Uint16(b[20:]))
		if at+n > uint64(len(b)) {
			return a, fmt.Errorf("a value of %d bytes from byte %d", n, at)
		}
		a.resident = b[at : at+n : at+n]
		return a, nil
	}
	if len(b) < 64 {
		return a, fmt.Errorf("a header of %d bytes", len(b))
	}
	a.extent = b
	return a, nil
}

// text is n characters of UTF-16 at a place.
func text(b []byte, at, n uint64) (string, error) {
	if n == 0 {
		return "", nil
	}
	if at+2*n > uint64(len(b)) {
		return "", fmt.Errorf("a name of %d characters from byte %d", n, at)
	}
	units := make([]uint16, n)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[at+2*uint64(i):])
	}
	return string(utf16.Decode(units)), nil
}

// resident returns the value of an attribute that must be within the record, nil if it has none.
func (rec *record) resident(kind uint32, name string) []byte {
	for _, a := range rec.attrs {
		if a.kind == kind && a.name == name {
			return a.resident
		}
	}
	return nil
}

// fileName is what a name attribute or an entry of a directory says.
type fileName struct {
	parent uint64 // record number of the directory
	name   string
}

func decodeFileName(b []byte) (fileName, error) {
	if len(b) < 66 {
		return fileName{}, fmt.Errorf("a file name in %d bytes", len(b))
	}
	name, err := text(b, 66, uint64(b[64]))
	parent, _ := reference(binary.LittleEndian.Uint64(b))
	return fileName{parent: parent, name: strings.ToLower(name)}, err
}
