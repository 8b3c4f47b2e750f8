package fat_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
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

func probe(s sparse, o free.Options) (*free.Filesystem, bool, error) {
	return fat.Probe(context.Background(), s, s.size, o)
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
