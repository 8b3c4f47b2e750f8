package fat_test

import (
	"encoding/binary"
	"errors"
	"io"

	"pgregory.net/rapid"
)

// sparse is a source of which only the head has content.
type sparse struct {
	head []byte
	size int64
	fail int64 // reads of this byte fail, if it is not zero
}

var errBroken = errors.New("broken")

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	n := int(max(0, min(int64(len(p)), s.size-off)))
	if off < int64(len(s.head)) {
		copy(p[:n], s.head[off:])
	}
	switch {
	case s.fail > 0 && off <= s.fail && s.fail < off+int64(n):
		return int(s.fail - off), errBroken
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// model is a filesystem as the test understands it.
type model struct {
	bits, sector, cluster, reserved, fats, rootEntries, clusters, tail int
	rootCluster, info, backup                                          int
	entries                                                            [][]uint32 // of each copy, from entry 0 on
}

func (m *model) fatSectors() int {
	return ((m.clusters+2)*m.bits + m.sector*8 - 1) / (m.sector * 8)
}

func (m *model) data() int { return m.reserved + m.fats*m.fatSectors() + m.rootEntries*32/m.sector }

func (m *model) total() int { return m.data() + m.clusters*m.cluster + m.tail }

// image writes boot sector and tables, entries of 12 bits bit by bit.
func (m *model) image() sparse {
	le := binary.LittleEndian
	b := make([]byte, m.data()*m.sector)
	copy(b, "\xeb\x3c\x90loadnode")
	le.PutUint16(b[11:], uint16(m.sector))
	b[13] = byte(m.cluster)
	le.PutUint16(b[14:], uint16(m.reserved))
	b[16] = byte(m.fats)
	le.PutUint16(b[17:], uint16(m.rootEntries))
	b[21] = 0xF8
	if m.total() < 1<<16 && m.bits != 32 {
		le.PutUint16(b[19:], uint16(m.total()))
	} else {
		le.PutUint32(b[32:], uint32(m.total()))
	}
	if m.bits == 32 {
		le.PutUint32(b[36:], uint32(m.fatSectors()))
		le.PutUint32(b[44:], uint32(m.rootCluster))
		le.PutUint16(b[48:], uint16(m.info))
		le.PutUint16(b[50:], uint16(m.backup))
	} else {
		le.PutUint16(b[22:], uint16(m.fatSectors()))
	}
	b[510], b[511] = 0x55, 0xAA
	for i, list := range m.entries {
		table := b[(m.reserved+i*m.fatSectors())*m.sector:]
		for k, e := range list {
			switch m.bits {
			case 32:
				le.PutUint32(table[4*k:], e)
			case 16:
				le.PutUint16(table[2*k:], uint16(e))
			default:
				for n := 12 * k; e != 0; n, e = n+1, e>>1 {
					table[n/8] |= byte(e&1) << (n % 8)
				}
			}
		}
	}
	return sparse{head: b, size: int64(m.total()) * int64(m.sector)}
}

// mask is the part of an entry that counts.
func (m *model) mask() uint32 { return uint32(1)<<min(m.bits, 28) - 1 }

// free is what the filesystem has in no use, a flag for each sector of 512 bytes.
func (m *model) free() []bool {
	used := make([]bool, m.clusters+2)
	for _, list := range m.entries {
		for k, e := range list {
			e &= m.mask()
			if k < 2 || e == 0 {
				continue
			}
			used[k] = true
			if e >= 2 && e < m.mask()-8 && int(e) < len(used) {
				used[e] = true
			}
		}
	}
	if m.bits == 32 {
		used[m.rootCluster] = true
	}
	per := m.sector / 512
	flags := make([]bool, m.total()*per)
	for k := 2; k < len(used); k++ {
		for s := range m.cluster * per {
			flags[m.data()*per+(k-2)*m.cluster*per+s] = !used[k]
		}
	}
	return flags
}

func drawModel(rt *rapid.T) *model {
	m := &model{
		bits:     rapid.SampledFrom([]int{12, 16, 32}).Draw(rt, "bits"),
		sector:   rapid.SampledFrom([]int{512, 1024, 2048, 4096}).Draw(rt, "sector"),
		cluster:  rapid.SampledFrom([]int{1, 2, 8}).Draw(rt, "cluster"),
		reserved: rapid.IntRange(2, 40).Draw(rt, "reserved"),
		fats:     rapid.IntRange(1, 4).Draw(rt, "fats"),
	}
	// Around what decides how many bits an entry has, and around the number of entries that are read at once.
	switch m.bits {
	case 12:
		m.clusters = rapid.SampledFrom([]int{1, 2, 61, 62, 63, 300, 4083, 4084}).Draw(rt, "clusters")
	case 16:
		m.clusters = rapid.SampledFrom([]int{4085, 4086, 4200, 8189, 8190, 8191, 16382, 16383}).Draw(rt, "clusters")
	case 32:
		m.clusters = rapid.SampledFrom([]int{1, 2, 62, 300, 8189, 8190, 8191, 8300, 20000}).Draw(rt, "clusters")
		m.rootCluster = rapid.IntRange(2, m.clusters+1).Draw(rt, "root")
		m.info = rapid.SampledFrom([]int{0, 1, 0xFFFF}).Draw(rt, "info")
		m.backup = rapid.SampledFrom([]int{0, m.reserved - 1, 0xFFFF}).Draw(rt, "backup")
	}
	if m.bits != 32 {
		m.rootEntries = m.sector / 32 * rapid.IntRange(1, 5).Draw(rt, "root")
	}
	if m.clusters < 1000 && rapid.Bool().Draw(rt, "large clusters") {
		m.cluster = 128
	}
	m.tail = rapid.IntRange(0, m.cluster-1).Draw(rt, "tail")
	ones := m.mask()
	list := make([]uint32, m.clusters+2)
	list[0], list[1] = ones&^0xFF|0xF8, ones
	// Runs of entries of one kind, so that there are long ones too.
	for k := 2; k < len(list); {
		kind, run := rapid.IntRange(0, 6).Draw(rt, "kind"), rapid.SampledFrom([]int{1, 2, 3, 61, 64, 65, 3000, 20000}).Draw(rt, "run")
		value := rapid.Uint32Range(2, uint32(m.clusters+1)).Draw(rt, "link")
		for ; run > 0 && k < len(list); run, k = run-1, k+1 {
			list[k] = []uint32{0, 0, ones, ones - 8, uint32(k+1)%uint32(len(list)) | 2, value, 1}[kind]
		}
	}
	for range m.fats {
		own := append([]uint32(nil), list...)
		for range rapid.IntRange(0, 2).Draw(rt, "differences") {
			own[rapid.IntRange(2, len(own)-1).Draw(rt, "at")] = rapid.SampledFrom([]uint32{0, ones, 2}).Draw(rt, "other")
		}
		if m.bits == 32 { // the upper bits are anything
			for k := 0; k < len(own); k += 3 {
				own[k] |= 0xA0000000
			}
		}
		m.entries = append(m.entries, own)
	}
	return m
}

// simple is a small filesystem in which clusters 2, 3 and 4 are one file.
func simple(bits int) *model {
	m := &model{bits: bits, sector: 512, cluster: 2, reserved: 4, fats: 2, rootEntries: 64, clusters: map[int]int{12: 200, 16: 5000, 32: 200}[bits]}
	if bits == 32 {
		m.rootEntries, m.rootCluster, m.info, m.backup = 0, 2, 1, 3
	}
	for range m.fats {
		list := make([]uint32, m.clusters+2)
		list[0], list[1] = m.mask()&^0xFF|0xF8, m.mask()
		list[2], list[3], list[4] = 3, 4, m.mask()
		m.entries = append(m.entries, list)
	}
	return m
}
