package ntfs

import (
	"encoding/binary"
	"errors"
	"strings"

	"loadnode/transfer/imagezip/free"
)

// Flags of the volume that say that it is not in order.
const (
	flagDirty     = 0x0001 // chkdsk is to run at the next start
	flagInChkdsk  = 0x4000 // chkdsk did not come to its end
	volumeUnclean = flagDirty | flagInChkdsk
)

// state reads the label of the volume, and whether it is marked dirty.
func (v *volume) state() (label string, dirty bool, err error) {
	rec, err := v.readRecord(fileVolume)
	if err != nil {
		return "", false, err
	}
	info := rec.resident(typeVolumeInfo, "")
	if len(info) < 12 {
		return "", false, damaged("$Volume does not say in which state the volume is: run chkdsk")
	}
	if name := rec.resident(typeVolumeName, ""); len(name) > 0 {
		if label, err = text(name, 0, uint64(len(name)/2)); err != nil {
			return "", false, damaged("label: %v", err)
		}
		label = strings.TrimRight(label, "\x00")
	}
	return label, binary.LittleEndian.Uint16(info[10:])&volumeUnclean != 0, nil
}

// Sizes of the pages that start $LogFile.
const (
	minLogPage = 512
	maxLogPage = 64 << 10
	maxLogHead = 1 << 20 // bytes of a log that are looked at to see that it is empty
)

// logClosed says whether the log has nothing to be done again: it is empty, or nobody has it open.
func (v *volume) logClosed() (bool, *stream, error) {
	rec, err := v.readRecord(fileLog)
	if err != nil {
		return false, nil, err
	}
	s, err := v.open(rec, typeData, "")
	if err != nil {
		return false, nil, err
	}
	if s == nil || !s.plain() || s.size < 2*4096 {
		return false, nil, damaged("$LogFile has no content: run chkdsk")
	}
	b := make([]byte, min(s.size, maxLogHead))
	if err := s.read(b, 0, "$LogFile"); err != nil {
		return false, nil, err
	}
	if strings.Count(string(b), "\xff") == len(b) {
		return true, s, nil
	}
	// There are two pages that say what state the log is in, written in turn. The newer counts.
	second := uint64(4096)
	if size := uint64(binary.LittleEndian.Uint32(b[16:])); string(b[:4]) == "RSTR" && size >= minLogPage && size <= maxLogPage {
		second = size
	}
	var newest uint64
	known, closed := false, false
	for _, at := range []uint64{0, second} {
		number, isClosed, err := restartPage(s, at)
		switch {
		case errors.Is(err, free.ErrFilesystem):
			continue
		case err != nil:
			return false, nil, err
		case !known || number > newest:
			known, newest, closed = true, number, isClosed
		}
	}
	return known && closed, s, nil
}

// restartPage reads a page that says what state the log is in. number tells the newer from the older.
func restartPage(s *stream, at uint64) (number uint64, closed bool, err error) {
	le := binary.LittleEndian
	b := make([]byte, minLogPage)
	if err := s.read(b, at, "$LogFile"); err != nil {
		return 0, false, err
	}
	magic, size := string(b[:4]), le.Uint32(b[16:])
	if magic != "RSTR" && magic != "CHKD" || size < minLogPage || size > maxLogPage || size%512 != 0 {
		return 0, false, damaged("$LogFile has no page of its state at byte %d", at)
	}
	b = make([]byte, size)
	if err := s.read(b, at, "$LogFile"); err != nil {
		return 0, false, err
	}
	if err := fixup(b, magic); err != nil {
		return 0, false, damaged("$LogFile: %v", err)
	}
	area := int(le.Uint16(b[24:]))
	if area < 30 || area+16 > 510 { // within the first sector, so that no fixup cuts it
		return 0, false, damaged("$LogFile has its state at byte %d of a page", area)
	}
	const nobody, volumeClean = 0xFFFF, 2
	return le.Uint64(b[area:]), le.Uint16(b[area+12:]) == nobody || le.Uint16(b[area+14:])&volumeClean != 0, nil
}
