package ntfs_test

import (
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf16"
)

var le = binary.LittleEndian

// memory is a source.
type memory struct {
	b    []byte
	fail int64 // reads of this byte fail, if it is not zero
}

var errBroken = errors.New("broken")

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(m.b)) {
		n = copy(p, m.b[off:])
	}
	switch {
	case m.fail > 0 && off <= m.fail && m.fail < off+int64(n):
		return int(m.fail - off), errBroken
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// piece is a run of clusters.
type piece struct{ at, n int }

func total(pieces []piece) (n int) {
	for _, p := range pieces {
		n += p.n
	}
	return n
}

// file is what is in a root directory, besides what always is.
type file struct {
	name    string
	pieces  []piece
	content []byte // of the first piece
	size    int
	system  bool // has the attributes system and hidden
	flags   uint16
	links   int // names; 0: one
	stream  bool
	reparse bool // its content is elsewhere
	fresh   bool // nothing was ever written: the content is not initialised
	inBlock bool // its entry is in an index block, not in the record of the root directory
}

// volume is an NTFS as the tests understand it: just what a reader of free space may look at.
type volume struct {
	sector, cluster, record, clusters, spare int // spare: sectors behind the last cluster, without the copy of the boot sector

	mft, bitmap, log, index, lists []piece
	mirror                         int
	free                           []bool // by cluster; what the volume itself needs is not
	splitMFT, splitBitmap          bool   // the attribute is in two records
	resident                       bool   // attribute lists are within the record
	state                          uint16 // flags of the volume
	label                          string
	logPages                       func(log []byte)
	files                          []file
	behind                         uint64 // bits of $Bitmap behind the last cluster
	unusedBlock                    bool   // an index block that is not in use holds rubbish

	b []byte
}

const (
	extraMFT    = 12 // records of second parts
	extraBitmap = 13
	firstFile   = 16
	records     = 24
)

func (v *volume) at(cluster int) []byte { return v.b[cluster*v.cluster:] }

// put writes content to pieces.
func (v *volume) put(pieces []piece, content []byte) {
	for _, p := range pieces {
		if len(content) == 0 {
			return
		}
		n := copy(v.at(p.at)[:p.n*v.cluster], content)
		content = content[n:]
	}
	if len(content) > 0 {
		panic("no room")
	}
}

// number is a little-endian number of the fewest bytes that keep its sign.
func number(n int) []byte {
	var b []byte
	for {
		b = append(b, byte(n))
		n >>= 8
		if last := int8(b[len(b)-1]); n == 0 && last >= 0 || n == -1 && last < 0 {
			return b
		}
	}
}

func runs(pieces []piece) []byte {
	var b []byte
	last := 0
	for _, p := range pieces {
		length, distance := number(p.n), number(p.at-last)
		b = append(b, byte(len(length)|len(distance)<<4))
		b = append(append(b, length...), distance...)
		last = p.at
	}
	return append(b, 0)
}

func utf(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, u)
	}
	return b
}

// attr makes an attribute: a head of fixed bytes, the name, and what body appends.
func attr(kind uint32, name string, flags uint16, body func(b []byte) []byte, fixed int) []byte {
	b := make([]byte, fixed)
	le.PutUint32(b, kind)
	b[9] = byte(len(name))
	le.PutUint16(b[10:], uint16(fixed))
	le.PutUint16(b[12:], flags)
	b = append(b, utf(name)...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b = body(b)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	le.PutUint32(b[4:], uint32(len(b)))
	return b
}

func residentAttr(kind uint32, name string, value []byte) []byte {
	return attr(kind, name, 0, func(b []byte) []byte {
		le.PutUint32(b[16:], uint32(len(value)))
		le.PutUint16(b[20:], uint16(len(b)))
		return append(b, value...)
	}, 24)
}

// extent is an attribute, or a part of one from cluster first on.
func (v *volume) extent(kind uint32, name string, flags uint16, pieces []piece, first, size, initialized int) []byte {
	return attr(kind, name, flags, func(b []byte) []byte {
		b[8] = 1
		le.PutUint64(b[16:], uint64(first))
		le.PutUint64(b[24:], uint64(first+total(pieces)-1))
		le.PutUint16(b[32:], uint16(len(b)))
		if first == 0 {
			le.PutUint64(b[40:], uint64((size+v.cluster-1)/v.cluster*v.cluster))
			le.PutUint64(b[48:], uint64(size))
			le.PutUint64(b[56:], uint64(initialized))
		}
		return append(b, runs(pieces)...)
	}, 64)
}

func seal(b []byte, at int) {
	le.PutUint16(b[4:], uint16(at))
	le.PutUint16(b[6:], uint16(len(b)/512+1))
	const sequence = 0x4321
	le.PutUint16(b[at:], sequence)
	for i := 1; i <= len(b)/512; i++ {
		copy(b[at+2*i:], b[512*i-2:512*i])
		le.PutUint16(b[512*i-2:], sequence)
	}
}

// write makes a record of attributes, which are in the order of their types.
func (v *volume) write(n int, flags uint16, base uint64, attrs ...[]byte) {
	b := make([]byte, v.record)
	copy(b, "FILE")
	le.PutUint16(b[16:], uint16(n+1)) // sequence number
	le.PutUint16(b[18:], 1)
	start := 48 + (2*(v.record/512+1)+7)&^7
	le.PutUint16(b[20:], uint16(start))
	le.PutUint16(b[22:], flags)
	le.PutUint64(b[32:], base)
	le.PutUint32(b[44:], uint32(n))
	used := b[:start]
	for _, a := range attrs {
		used = append(used, a...)
	}
	used = le.AppendUint64(used, 0xFFFFFFFF)
	if len(used) > len(b) {
		panic("record is full")
	}
	le.PutUint32(b[24:], uint32(len(used)))
	seal(b, 48)
	// Record by record, because fragments of the MFT need not hold whole ones.
	off := n * v.record
	for _, p := range v.mft {
		size := p.n * v.cluster
		if off < size {
			k := copy(v.at(p.at)[off:size], b)
			b = b[k:]
			off = 0
			continue
		}
		off -= size
	}
	if len(b) > 0 {
		panic("the MFT is too short")
	}
}

func ref(n int) uint64 { return uint64(n) | uint64(n+1)<<48 }

// list is an attribute list: kinds with the first cluster and the record of each part.
func (v *volume) list(kind uint32, first []int, in []int) []byte {
	var b []byte
	entry := func(kind uint32, first, in int) {
		e := make([]byte, 32)
		le.PutUint32(e, kind)
		le.PutUint16(e[4:], 32)
		e[7] = 26
		le.PutUint64(e[8:], uint64(first))
		le.PutUint64(e[16:], ref(in))
		b = append(b, e...)
	}
	entry(0x10, 0, in[0])
	for i := range first {
		entry(kind, first[i], in[i])
	}
	return b
}

// split writes a record whose data is in two parts.
func (v *volume) split(n, extra int, pieces []piece, size int, listAt []piece) {
	half := len(pieces) / 2
	if half == 0 {
		panic("nothing to split")
	}
	first := total(pieces[:half])
	list := v.list(0x80, []int{0, first}, []int{n, extra})
	listAttr := residentAttr(0x20, "", list)
	if !v.resident {
		v.put(listAt, list)
		listAttr = v.extent(0x20, "", 0, listAt, 0, len(list), len(list))
	}
	v.write(n, 1, 0, residentAttr(0x10, "", make([]byte, 48)), listAttr, v.extent(0x80, "", 0, pieces[:half], 0, size, size))
	v.write(extra, 1, ref(n), v.extent(0x80, "", 0, pieces[half:], first, 0, 0))
}

func nameKey(name string) []byte {
	b := make([]byte, 66)
	le.PutUint64(b, ref(5))
	b[64] = byte(len(name))
	b[65] = 3
	return append(b, utf(name)...)
}

// entries is an index from its header on.
func entries(names map[string]int, order []string, room int) []byte {
	b := make([]byte, 16)
	le.PutUint32(b, 16)
	for _, name := range order {
		key := nameKey(name)
		e := make([]byte, 16, 16+len(key)+8)
		le.PutUint64(e, ref(names[name]))
		le.PutUint16(e[10:], uint16(len(key)))
		e = append(e, key...)
		for len(e)%8 != 0 {
			e = append(e, 0)
		}
		le.PutUint16(e[8:], uint16(len(e)))
		b = append(b, e...)
	}
	last := make([]byte, 16)
	le.PutUint16(last[8:], 16)
	last[12] = 2
	b = append(b, last...)
	le.PutUint32(b[4:], uint32(len(b)))
	le.PutUint32(b[8:], uint32(max(room, len(b))))
	return b
}

const indexBlock = 4096

// build writes the volume.
func (v *volume) build() []byte {
	per := v.cluster / v.sector
	sectors := v.clusters*per + v.spare
	v.b = make([]byte, (sectors+1)*v.sector)
	b := v.b
	copy(b, "\xeb\x52\x90NTFS    ")
	le.PutUint16(b[11:], uint16(v.sector))
	b[13] = byte(per)
	if per > 128 {
		b[13] = byte(-log2(per))
	}
	b[21] = 0xF8
	le.PutUint64(b[40:], uint64(sectors))
	le.PutUint64(b[48:], uint64(v.mft[0].at))
	le.PutUint64(b[56:], uint64(v.mirror))
	b[64] = byte(v.record / v.cluster)
	if v.record < v.cluster {
		b[64] = byte(-log2(v.record))
	}
	b[510], b[511] = 0x55, 0xAA
	copy(b[sectors*v.sector:], b[:512])

	mftSize := total(v.mft) * v.cluster / v.record * v.record
	if v.splitMFT {
		v.split(0, extraMFT, v.mft, mftSize, v.lists[:1])
	} else {
		v.write(0, 1, 0, v.extent(0x80, "", 0, v.mft, 0, mftSize, mftSize))
	}
	log := make([]byte, total(v.log)*v.cluster)
	for i := range log {
		log[i] = 0xFF
	}
	if v.logPages != nil {
		v.logPages(log)
	}
	v.put(v.log, log)
	v.write(2, 1, 0, v.extent(0x80, "", 0, v.log, 0, len(log), len(log)))
	info := make([]byte, 12)
	info[8], info[9] = 3, 1
	le.PutUint16(info[10:], v.state)
	v.write(3, 1, 0, residentAttr(0x60, "", utf(v.label)), residentAttr(0x70, "", info))

	bits := make([]byte, (v.clusters+63)/64*8)
	for i := range len(bits) * 8 {
		if i >= v.clusters && v.behind>>(i%64)&1 == 1 || i < v.clusters && !v.free[i] {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	v.put(v.bitmap, bits)
	if v.splitBitmap {
		v.split(6, extraBitmap, v.bitmap, len(bits), v.lists[1:2])
	} else {
		v.write(6, 1, 0, v.extent(0x80, "", 0, v.bitmap, 0, len(bits), len(bits)))
	}
	v.root()
	return v.b
}

func log2(n int) int {
	for i := 0; ; i++ {
		if 1<<i == n {
			return i
		}
	}
}

// root writes the root directory and its files.
func (v *volume) root() {
	names := map[string]int{".": 5, "$MFT": 0}
	inRoot, inBlock := []string{"$MFT", "."}, []string{"$MFT", "."}
	for i, f := range v.files {
		names[f.name] = firstFile + i
		if f.inBlock {
			inBlock = append(inBlock, f.name)
		} else {
			inRoot = append(inRoot, f.name)
		}
		standard := make([]byte, 48)
		if f.system {
			le.PutUint32(standard[32:], 0x26)
		}
		if f.reparse {
			standard[33] |= 4
		}
		attrs := [][]byte{residentAttr(0x10, "", standard)}
		for range max(f.links, 1) {
			attrs = append(attrs, residentAttr(0x30, "", nameKey(f.name)))
		}
		v.put(f.pieces, f.content)
		initialized := f.size
		if f.fresh {
			initialized = 0
		}
		attrs = append(attrs, v.extent(0x80, "", f.flags, f.pieces, 0, f.size, initialized))
		if f.stream {
			attrs = append(attrs, residentAttr(0x80, "other", []byte("stream")))
		}
		v.write(firstFile+i, 1, 0, attrs...)
	}
	root := make([]byte, 16)
	le.PutUint32(root, 0x30)
	le.PutUint32(root[4:], 1)
	le.PutUint32(root[8:], indexBlock)
	root = append(root, entries(names, inRoot, 0)...)
	attrs := [][]byte{residentAttr(0x90, "$I30", root)}
	if len(v.index) > 0 {
		block := make([]byte, indexBlock)
		copy(block, "INDX")
		copy(block[24:], entries(names, inBlock, indexBlock-24))
		// Entries lie behind the update sequence.
		list := append([]byte(nil), block[40:40+indexBlock-24-16-64]...)
		copy(block[40+24:], list)
		le.PutUint32(block[24:], 40)
		le.PutUint32(block[28:], le.Uint32(block[28:])+24)
		seal(block, 40)
		content := block
		size := total(v.index) * v.cluster / indexBlock * indexBlock
		used := make([]byte, 8)
		used[0] = 1
		if v.unusedBlock { // first comes one that was given up
			rubbish := append([]byte("INDX"), block[4:]...)
			le.PutUint16(rubbish[510:], 1)
			content = append(rubbish, block...)
			used[0] = 2
		}
		v.put(v.index, content)
		attrs = append(attrs, v.extent(0xA0, "$I30", 0, v.index, 0, size, size), residentAttr(0xB0, "$I30", used))
	}
	v.write(5, 3, 0, attrs...)
}

// restart writes a page of $LogFile that says in which state the log is.
func restart(page []byte, lsn uint64, client, flags uint16) {
	clear(page)
	copy(page, "RSTR")
	le.PutUint32(page[16:], uint32(len(page)))
	le.PutUint32(page[20:], uint32(len(page)))
	at := 30 + (2*(len(page)/512+1)+7)&^7
	at = (at + 7) &^ 7
	le.PutUint16(page[24:], uint16(at))
	le.PutUint64(page[at:], lsn)
	le.PutUint16(page[at+12:], client)
	le.PutUint16(page[at+14:], flags)
	seal(page, 30)
}
