package fat_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/fat"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
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

func probe(s sparse, o free.Options) (*free.Filesystem, bool, error) {
	return fat.Probe(context.Background(), s, s.size, o)
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

// What is free, sector by sector, against a model that does it the slow way.
func TestFreeSectors(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawModel(rt)
		fs, found, err := probe(m.image(), free.Options{})
		require.NoError(rt, err)
		require.True(rt, found)
		require.Equal(rt, fmt.Sprintf("fat%d", m.bits), fs.Kind)
		require.False(rt, fs.Unclean)
		want := m.free()
		require.EqualValues(rt, len(want), fs.Sectors)
		sector := uint64(0)
		same := func(end uint64, isFree bool) {
			for ; sector < end; sector++ {
				if want[sector] != isFree {
					require.Fail(rt, "wrong", "sector %d: free is %v", sector, isFree)
				}
			}
		}
		for _, s := range fs.Free.Spans() {
			require.LessOrEqual(rt, s.End, fs.Sectors)
			same(s.Start, false)
			same(s.End, true)
		}
		same(fs.Sectors, false)
		// Differences between the copies are told.
		differ := false
		for _, list := range m.entries[1:] {
			for k := 2; k < len(list); k++ {
				differ = differ || (list[k]^m.entries[0][k])&m.mask() != 0
			}
		}
		told := false
		for _, n := range fs.Notes {
			told = told || bytes.Contains([]byte(n), []byte("the copies of the FAT differ"))
		}
		require.Equal(rt, differ, told)
	})
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

func TestUnclean(t *testing.T) {
	for _, c := range []struct {
		name   string
		bits   int
		change func(m *model)
		after  func(b []byte)
		want   bool
	}{
		{"clean 12", 12, nil, nil, false},
		{"clean 16", 16, nil, nil, false},
		{"clean 32", 32, nil, nil, false},
		{"not ended 16", 16, func(m *model) { m.entries[0][1] = 0x7FFF }, nil, true},
		{"not ended 32", 32, func(m *model) { m.entries[0][1] = 0x07FFFFFF }, nil, true},
		{"errors 16", 16, func(m *model) { m.entries[0][1] = 0xBFFF }, nil, true},
		{"errors 32", 32, func(m *model) { m.entries[1][1] = 0x0BFFFFFF }, nil, true},
		{"upper bits 32", 32, func(m *model) { m.entries[0][1] = 0xFFFFFFFF }, nil, false},
		{"not in 12", 12, func(m *model) { m.entries[0][1] = 0x3FF }, nil, false},
		{"mounted 12", 12, nil, func(b []byte) { b[37] = 1 }, true},
		{"mounted 16", 16, nil, func(b []byte) { b[37] = 1 }, true},
		{"mounted 32", 32, nil, func(b []byte) { b[65] = 1 }, true},
		{"to be tested 16", 16, nil, func(b []byte) { b[37] = 2 }, true},
		{"a place that is not 32", 32, nil, func(b []byte) { b[36+4] = 0x80 }, false}, // the first copy is in use
		{"second copy not in use", 32, func(m *model) { m.entries[1][1] = 0 }, func(b []byte) { b[40] = 0x80 }, false},
		{"second copy in use", 32, func(m *model) { m.entries[1][1] = 0 }, func(b []byte) { b[40] = 0x81 }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := simple(c.bits)
			if c.change != nil {
				c.change(m)
			}
			s := m.image()
			if c.after != nil {
				c.after(s.head)
			}
			fs, found, err := probe(s, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, c.want, fs.Unclean)
			require.Equal(t, c.want, len(fs.Notes) > 0, fs.Notes)
			require.EqualValues(t, (m.clusters-3)*2, fs.Free.Total())
		})
	}
}

func TestNotes(t *testing.T) {
	for _, c := range []struct {
		name   string
		bits   int
		change func(m *model)
		after  func(b []byte)
		says   string
		free   int // clusters fewer than usual
	}{
		{"copies differ", 16, func(m *model) { m.entries[1][100] = 0xFFFF }, nil, "differ in 1 entries", 1},
		{"copies differ the other way", 16, func(m *model) { m.entries[0][100] = 0xFFFF }, nil, "differ in 1 entries", 1},
		{"free in a chain", 12, func(m *model) { m.entries[0][4], m.entries[1][4] = 50, 50 }, nil, "1 clusters are part of a file and free", 1},
		{"behind the end", 32, func(m *model) { m.entries[0][4], m.entries[1][4] = 5000, 5000 }, nil, "1 entries of the FAT lead to", 0},
		{"root directory free", 32, func(m *model) { m.rootCluster = 77 }, nil, "1 clusters are part of a file", 1},
		{"FSInfo", 32, nil, func(b []byte) {
			copy(b[512:], "RRaA")
			copy(b[512+484:], "rrAa\x05\x00\x00\x00")
		}, "FSInfo counts 5 free clusters, the FAT 197", 0},
		{"FSInfo does not know", 32, nil, func(b []byte) {
			copy(b[512:], "RRaA")
			copy(b[512+484:], "rrAa\xff\xff\xff\xff")
		}, "", 0},
		{"FSInfo is right", 32, nil, func(b []byte) {
			copy(b[512:], "RRaA")
			copy(b[512+484:], "rrAa\xc5\x00\x00\x00")
		}, "", 0},
		{"copies need not be equal", 32, func(m *model) { m.entries[1][100] = 5000000 }, func(b []byte) { b[40] = 0x80 }, "1 entries of the FAT lead to", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := simple(c.bits)
			if c.change != nil {
				c.change(m)
			}
			s := m.image()
			if c.after != nil {
				c.after(s.head)
			}
			fs, found, err := probe(s, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			require.EqualValues(t, (m.clusters-3-c.free)*2, fs.Free.Total())
			if c.says == "" {
				require.Empty(t, fs.Notes)
				return
			}
			require.Len(t, fs.Notes, 1)
			require.Contains(t, fs.Notes[0], c.says)
		})
	}
}

func TestRefuses(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) }
	}
	put32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	for _, c := range []struct {
		name   string
		bits   int
		change func(b []byte)
		says   string // empty: it is no FAT at all
	}{
		{"no signature", 16, func(b []byte) { b[510] = 0 }, ""},
		{"no jump", 16, func(b []byte) { b[0] = 0x33 }, ""},
		{"NTFS", 16, func(b []byte) { copy(b[3:], "NTFS    ") }, ""},
		{"exFAT", 16, func(b []byte) { copy(b[3:], "EXFAT   ") }, ""},
		{"BitLocker", 16, func(b []byte) { copy(b[3:], "-FVE-FS-") }, ""},
		{"BitLocker To Go", 32, func(b []byte) { copy(b[424:], "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01") }, ""},
		{"sectors of 256", 16, put16(11, 256), ""},
		{"sectors of 8192", 16, put16(11, 8192), ""},
		{"sectors of 513", 16, put16(11, 513), ""},
		{"no cluster", 16, func(b []byte) { b[13] = 0 }, ""},
		{"clusters of 3", 16, func(b []byte) { b[13] = 3 }, ""},
		{"nothing reserved", 16, put16(14, 0), ""},
		{"no FAT", 16, func(b []byte) { b[16] = 0 }, ""},
		{"five FATs", 16, func(b []byte) { b[16] = 5 }, ""},
		{"medium", 16, func(b []byte) { b[21] = 0xF1 }, ""},
		{"no medium in the FAT", 16, func(b []byte) { b[4*512] = 0 }, ""},
		{"FAT elsewhere", 16, put16(14, 60000), ""},
		{"head of the FAT", 16, func(b []byte) { b[4*512+1] = 0x0F }, "copy 1 of the FAT starts with 0xff8"},
		{"head of the second", 16, func(b []byte) { copy(b[(4+20)*512:], "\xf8\x00") }, "copy 2 of the FAT starts with 0xf8"},
		{"root entries", 16, put16(17, 65), "root directory of 65 entries"},
		{"no root directory", 16, put16(17, 0), "no root directory"},
		{"truncated", 16, put16(19, 10200), "is it truncated?"},
		{"too small", 16, put16(19, 20), "but the data starts at sector 48"},
		{"one sector behind the end", 16, put16(19, 10049), "is it truncated?"},
		{"FAT just too short", 16, put16(19, 48+5119*2), "too few for 5119 clusters"},
		{"FAT just long enough", 16, put16(19, 48+5118*2), "is it truncated?"},
		{"FAT too short", 16, put16(22, 19), "too few for"},
		{"too many for 16 bits", 16, func(b []byte) { put16(22, 2000)(b); put16(19, 0)(b); put32(32, 1<<20)(b) }, "too many for entries of 16 bits"},
		{"too many for 28 bits", 32, func(b []byte) { b[13] = 1; put32(36, 1)(b); put32(32, 0xFFFFFFFF)(b) }, "too many for entries of 28 bits"},
		{"version", 32, put16(42, 1), "unknown version 0x1"},
		{"root entries in 32", 32, put16(17, 16), "1 sectors of a root directory"},
		{"no FAT size", 32, put32(36, 0), "a FAT of 0 sectors"},
		{"copy in use", 32, put16(40, 0x82), "copy 2 of the FAT is in use"},
		{"root cluster", 32, put32(44, 1), "root directory is at cluster 1"},
		{"root cluster behind", 32, put32(44, 202), "root directory is at cluster 202"},
		{"FSInfo", 32, put16(48, 4), "at sector 4, but only 4 sectors are reserved"},
		{"backup", 32, put16(50, 600), "at sector 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := simple(c.bits).image()
			_, found, err := probe(s, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			c.change(s.head)
			_, found, err = probe(s, free.Options{})
			if c.says == "" {
				require.NoError(t, err)
				require.False(t, found)
				return
			}
			require.True(t, found)
			require.ErrorIs(t, err, free.ErrFilesystem)
			require.ErrorContains(t, err, c.says)
		})
	}
	// The number of clusters alone tells 12 from 16 bits.
	for clusters, kind := range map[int]string{4084: "fat12", 4085: "fat16", 65524: "fat16"} {
		m := simple(map[string]int{"fat12": 12, "fat16": 16}[kind])
		m.clusters = clusters
		for i := range m.entries {
			m.entries[i] = append(m.entries[i][:5:5], make([]uint32, clusters-3)...)
		}
		fs, _, err := probe(m.image(), free.Options{})
		require.NoError(t, err)
		require.Equal(t, kind, fs.Kind)
	}
	for _, size := range []int64{0, 1, 511, 512, 2048} {
		_, found, err := probe(sparse{head: simple(16).image().head, size: size}, free.Options{})
		require.NoError(t, err)
		require.False(t, found)
	}
}

func TestReadErrors(t *testing.T) {
	m := simple(16)
	m.clusters = 30000
	for i := range m.entries {
		m.entries[i] = append(m.entries[i], make([]uint32, 25000)...)
	}
	s := m.image()
	for name, at := range map[string]int64{"boot": 100, "head": 4 * 512, "second": 4*512 + 20000, "second copy": int64(4+m.fatSectors())*512 + 20000} {
		t.Run(name, func(t *testing.T) {
			broken := s
			broken.fail = at
			_, _, err := probe(broken, free.Options{})
			require.ErrorIs(t, err, errBroken)
			fs, _, err := probe(broken, free.Options{SkipBad: true})
			if at <= 4*512 {
				require.ErrorIs(t, err, errBroken)
				return
			}
			// The second chunk of 8192 entries is not known.
			require.NoError(t, err)
			require.EqualValues(t, (30000-3-8192)*2, fs.Free.Total())
			require.Len(t, fs.Notes, 1)
			require.Contains(t, fs.Notes[0], "8192 entries of the FAT could not be read")
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := fat.Probe(ctx, s, s.size, free.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

// Small EFI system partitions are FAT32 with fewer clusters than FAT32 needs. mtools takes them for FAT16, so the
// files are laid out here, in every third cluster, and fsck.fat follows them.
func TestFAT32OfFewClusters(t *testing.T) {
	for _, args := range [][]string{{"-s", "8"}, {"-S", "2048", "-s", "1", "-R", "40", "-b", "39"}} {
		path := filepath.Join(roundtrip.Dir(t), "fs")
		roundtrip.Sparse(t, path, 9<<20)
		tool.Run(t, "mkfs.fat", append(append([]string{"-F", "32"}, args...), path)...)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		le := binary.LittleEndian
		sector := int(le.Uint16(b[11:]))
		cluster := int(b[13]) * sector
		reserved, fatSize := int(le.Uint16(b[14:])), int(le.Uint32(b[36:]))
		data := (reserved + 2*fatSize) * sector
		next := 5
		for i := range 20 {
			content := bytes.Repeat([]byte{byte('a' + i), byte(i), 0xE5}, 3000*i+1)
			name := "FILE" + string(rune('A'+i))
			entry := b[data+32*i:]
			copy(entry, name+"      ")
			le.PutUint16(entry[24:], 0x21) // a date is needed
			le.PutUint16(entry[26:], uint16(next))
			le.PutUint32(entry[28:], uint32(len(content)))
			for len(content) > 0 {
				n := copy(b[data+(next-2)*cluster:][:cluster], content)
				content = content[n:]
				link := uint32(next + 3)
				if len(content) == 0 {
					link = 0x0FFFFFFF
				}
				for k := range 2 {
					le.PutUint32(b[(reserved+k*fatSize)*sector+4*next:], link)
				}
				next += 3
			}
		}
		le.PutUint32(b[sector+488:], 0xFFFFFFFF)
		require.NoError(t, os.WriteFile(path, b, 0o644))
		tool.Exit(t, "fsck.fat", "-a", path) // counts the free clusters
		result := roundtrip.Check(t, path, fat.Probe, fsck)
		require.Equal(t, "fat32", result.Filesystem.Kind)
		require.Empty(t, result.Filesystem.Notes)
		require.Equal(t, freeBytes(t, path), result.Filesystem.Free.Total()*free.SectorSize)
		require.Greater(t, len(result.Filesystem.Free.Spans()), 200)
		listed := regexp.MustCompile(`(?m)^Checking file /FILE[A-T]`).FindAllString(tool.Run(t, "fsck.fat", "-nvl", result.Path), -1)
		require.Len(t, listed, 20)
	}
}

func FuzzProbe(f *testing.F) {
	for _, bits := range []int{12, 16, 32} {
		f.Add(simple(bits).image().head, int64(20<<20), bits == 12)
	}
	f.Add(make([]byte, 512), int64(512), false)
	f.Fuzz(func(t *testing.T, head []byte, size int64, skip bool) {
		s := sparse{head: head, size: min(max(size, 0), 64<<20)}
		fs, found, err := probe(s, free.Options{SkipBad: skip})
		if err != nil || !found {
			require.Nil(t, fs)
			return
		}
		require.LessOrEqual(t, fs.Sectors, uint64(s.size)/free.SectorSize)
		end := uint64(1) // of the span before; the boot sector is never free
		for _, span := range fs.Free.Spans() {
			require.True(t, span.Start >= end && span.Start < span.End && span.End <= fs.Sectors)
			end = span.End + 1
		}
	})
}
