package xfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
	"loadnode/transfer/imagezip/xfs"
)

// disk is a filesystem in memory that is changed and put right again.
type disk struct {
	b     []byte
	block int // bytes
	group int // bytes
	log   int // byte
}

func newDisk(t testing.TB, args ...string) disk {
	t.Helper()
	b, err := os.ReadFile(mkfs(t, 33, "", args...))
	require.NoError(t, err)
	be := binary.BigEndian
	d := disk{b: b, block: int(be.Uint32(b[4:]))}
	d.group = int(be.Uint32(b[84:])) * d.block
	at := be.Uint64(b[48:])
	d.log = int(at>>b[124])*d.group + int(at&(1<<b[124]-1))*d.block
	return d
}

func (d disk) probe(o free.Options) (*free.Filesystem, bool, error) {
	return xfs.Probe(context.Background(), bytes.NewReader(d.b), int64(len(d.b)), o)
}

// agf is the header of a group.
func (d disk) agf(g int) []byte { return d.b[g*d.group+512:][:512] }

// tree is the root of the tree of a group.
func (d disk) tree(g int) []byte {
	return d.b[g*d.group+int(binary.BigEndian.Uint32(d.agf(g)[16:]))*d.block:][:d.block]
}

// sign calculates the checksum of a piece of metadata.
func sign(b []byte, at int) {
	clear(b[at : at+4])
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// signAll makes all checksums right that a test may have spoiled.
func (d disk) signAll() {
	sign(d.b[:512], 224)
	for g := range len(d.b) / d.group {
		if string(d.agf(g)[:4]) == "XAGF" {
			sign(d.agf(g), 216)
			if root := int(binary.BigEndian.Uint32(d.agf(g)[16:])); root < d.group/d.block {
				sign(d.tree(g), 52)
			}
		}
	}
}

func TestDamaged(t *testing.T) {
	d := newDisk(t, "-d", "agcount=2", "-L", "label", "-m", "reflink=0,rmapbt=0")
	be := binary.BigEndian
	whole, found, err := d.probe(free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "label", whole.Label)
	require.False(t, whole.Unclean)
	good := bytes.Clone(d.b)
	set32 := func(b []byte, v uint32) { be.PutUint32(b, v) }
	head := 56 // of a block of the tree
	for _, c := range []struct {
		name     string
		change   func()
		unsigned bool
		says     string
	}{
		{"version", func() { d.b[101] = d.b[101]&0xF0 | 6 }, false, "version 6"},
		{"incompatible", func() { d.b[216] = 0x80 }, false, "features 0x80000000"},
		{"read-only compatible", func() { d.b[212] = 0x40 }, false, "features 0x40000000"},
		{"zoned", func() { d.b[218] |= 2 }, false, "features 0x200"},
		{"in need of repair", func() { d.b[219] |= 0x10 }, false, "xfs_repair"},
		{"in progress", func() { d.b[126] = 1 }, false, "interrupted"},
		{"realtime", func() { d.b[23] = 1 }, false, "realtime"},
		{"block size", func() { set32(d.b[4:], 4095) }, false, "blocks of 4095"},
		{"block log", func() { d.b[120]++ }, false, "blocks of 4096"},
		{"sector log", func() { d.b[121]++ }, false, "sectors of 512"},
		{"groups", func() { d.b[91]++ }, false, "allocation groups"},
		{"no groups", func() { set32(d.b[88:], 0); be.PutUint64(d.b[8:], 0) }, false, "0 blocks in 0"},
		{"small groups", func() { set32(d.b[84:], 63) }, false, "allocation groups of 63"},
		{"group log", func() { d.b[124] = 33 }, false, "allocation groups"},
		{"large groups", func() { d.b[124] = 3 }, false, "allocation groups"},
		{"last group without a header", func() { be.PutUint64(d.b[8:], uint64(be.Uint32(d.b[84:]))+0); d.b[91] = 2 }, false, "allocation groups"},
		{"truncated", func() { be.PutUint64(d.b[8:], be.Uint64(d.b[8:])+1); set32(d.b[84:], be.Uint32(d.b[84:])+1) }, false, "truncated"},
		{"log outside", func() { set32(d.b[96:], 1<<20) }, false, "a log of 1048576"},
		{"log in the header", func() { be.PutUint64(d.b[48:], 1) }, false, "calls the log free"},
		{"log in no group", func() { be.PutUint64(d.b[48:], 1<<40) }, false, "a log of"},
		{"superblock", func() { d.b[110]++ }, true, "checksum of the superblock"},

		{"AGF", func() { d.agf(1)[0]++ }, false, "group 1: no header"},
		{"version of AGF", func() { d.agf(1)[7]++ }, false, "group 1: no header"},
		{"AGF of another group", func() { d.agf(1)[11] = 0 }, false, "that of group 0"},
		{"length in AGF", func() { d.agf(0)[15]-- }, false, "blocks"},
		{"UUID in AGF", func() { d.agf(0)[64]++ }, false, "another filesystem"},
		{"checksum of AGF", func() { d.agf(0)[217]++ }, true, "group 0: the checksum of its header"},
		{"no levels", func() { set32(d.agf(0)[28:], 0) }, false, "0 levels"},
		{"too many levels", func() { set32(d.agf(0)[28:], 17) }, false, "17 levels"},
		{"one level more", func() { set32(d.agf(0)[28:], 2) }, false, "has level 0 instead of 1"},
		{"free blocks", func() { d.agf(1)[55]++ }, false, "group 1: its header counts"},
		{"longest extent", func() { d.agf(1)[59]++ }, false, "group 1: its header counts"},
		{"root behind the end", func() { set32(d.agf(0)[16:], be.Uint32(d.agf(0)[12:])) }, true, "checksum"},
		{"root in the header", func() { set32(d.agf(0)[16:], 0); sign(d.agf(0), 216) }, true, "points to block 0"},
		{"root far behind the end", func() { set32(d.agf(0)[16:], 1<<31); sign(d.agf(0), 216) }, true, "points to block"},
		{"root elsewhere", func() { set32(d.agf(0)[16:], be.Uint32(d.agf(0)[20:])) }, true, "checksum"},

		{"magic of the tree", func() { d.tree(0)[0]++ }, false, "is not of its tree"},
		{"level", func() { d.tree(0)[5] = 1 }, false, "has level 1 instead of 0"},
		{"records", func() { d.tree(0)[6] = 0x7F }, false, "records"},
		{"place", func() { d.tree(0)[23]++ }, false, "belongs elsewhere"},
		{"owner", func() { d.tree(0)[51]++ }, false, "belongs elsewhere"},
		{"UUID", func() { d.tree(0)[32]++ }, false, "belongs elsewhere"},
		{"checksum", func() { d.tree(0)[52]++ }, true, "of its tree is wrong"},
		{"record behind the end", func() { set32(d.tree(0)[head+4:], 1<<31) }, false, "free blocks at"},
		{"record of no blocks", func() { set32(d.tree(0)[head+4:], 0) }, false, "has 0 free blocks"},
		{"record over the header", func() { set32(d.tree(0)[head:], 0) }, false, "overlap"},
		{"overlapping records", func() {
			b := d.tree(0)
			n := be.Uint16(b[6:])
			copy(b[head+8*int(n):], b[head:head+8])
			be.PutUint16(b[6:], n+1)
		}, false, "overlap"},
		{"free log", func() {
			g := d.log / d.group
			set32(d.tree(g)[head:], uint32(d.log%d.group/d.block))
			set32(d.tree(g)[head+4:], 1)
		}, false, "calls the log free"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer copy(d.b, good)
			c.change()
			if !c.unsigned {
				d.signAll()
			}
			_, found, err := d.probe(free.Options{})
			require.True(t, found)
			require.ErrorIs(t, err, free.ErrFilesystem)
			require.ErrorContains(t, err, c.says)
			if strings.Contains(err.Error(), "works): allocation group ") && !strings.Contains(c.name, "log in") { // only that group counts as used
				fs, _, err := d.probe(free.Options{SkipBad: true})
				require.NoError(t, err)
				require.Len(t, fs.Notes, 1)
				require.Contains(t, fs.Notes[0], "1 allocation groups")
				for _, s := range fs.Free.Spans() {
					require.NotEmpty(t, free.Within(whole.Free.Spans(), s))
				}
				require.Less(t, fs.Free.Total(), whole.Free.Total())
				require.Positive(t, fs.Free.Total())
			}
		})
	}
}

// A node of the tree that points to one leaf twice, and one that points to itself.
func TestCycles(t *testing.T) {
	d := newDisk(t, "-d", "agcount=2", "-m", "reflink=0,rmapbt=0")
	be := binary.BigEndian
	length := be.Uint32(d.agf(0)[12:])
	leaf, at := be.Uint32(d.agf(0)[16:]), length-1 // the last block is free
	build := func(level uint16, pointers ...uint32) {
		b := d.b[int(at)*d.block:][:d.block]
		copy(b, d.b[int(leaf)*d.block:][:56])
		be.PutUint16(b[4:], level)
		be.PutUint16(b[6:], uint16(len(pointers)))
		be.PutUint64(b[16:], uint64(at)*uint64(d.block)/512)
		for i, p := range pointers {
			be.PutUint32(b[56+8*i:], uint32(100+i*10000))
			be.PutUint32(b[56+(d.block-56)/12*8+4*i:], p)
		}
		be.PutUint32(d.agf(0)[16:], at)
		be.PutUint32(d.agf(0)[28:], uint32(level)+1)
		sign(b, 52)
		sign(d.agf(0), 216)
	}
	build(1, leaf, leaf)
	_, _, err := d.probe(free.Options{})
	require.ErrorIs(t, err, free.ErrFilesystem)
	require.Regexp(t, "keys out of order|overlap", err.Error())
	build(15, at)
	_, _, err = d.probe(free.Options{})
	require.ErrorContains(t, err, "has level 15 instead of 14")
	build(1)
	_, _, err = d.probe(free.Options{})
	require.ErrorContains(t, err, "is empty")
	build(1, leaf)
	_, _, err = d.probe(free.Options{}) // the node's own block is free as the leaf tells it, but for that it is right
	require.NoError(t, err)
}

// What the log must look like to be believed.
func TestLog(t *testing.T) {
	d := newDisk(t, "-d", "agcount=2", "-m", "reflink=0,rmapbt=0")
	good := bytes.Clone(d.b)
	be := binary.BigEndian
	log := d.b[d.log:]
	size := int(be.Uint32(d.b[96:])) * d.block
	for _, c := range []struct {
		name    string
		change  func()
		unclean bool
	}{
		{"new", func() {}, false},
		{"all zero", func() { clear(log[:size]) }, false},
		{"zero, with something at the end", func() { clear(log[:size]); log[size-509] = 1 }, true},
		{"zero, with something behind the start", func() { clear(log[:size]); log[512*3+3] = 1 }, true},
		{"no unmount record", func() { log[512+9] = 0 }, true},
		{"not of the log", func() { log[512+8] = 0x69 }, true},
		{"two operations", func() { log[43] = 2 }, true},
		{"another place", func() { log[23] = 2 }, true},
		{"another UUID", func() { log[304]++ }, true},
		{"another length", func() { log[14] = 4 }, true},
		{"no length", func() { be.PutUint32(log[12:], 0) }, true},
		{"checksum", func() { log[32]++ }, true},
		{"no record", func() { log[0] = 0; log[3] = 1 }, true},
		{"something after the head", func() { log[512*5+3] = 1 }, true},
		{"a later round after the head", func() { log[512*5+3] = 2 }, true},
		{"a later round at the start", func() { log[7] = 2 }, true},
		{"old round in the middle", func() { fillLog(log[:size], 1); log[size/2+3] = 0 }, true},
		{"old round near the end", func() { fillLog(log[:size], 1); log[size-512*9+3] = 0 }, true},
		{"full, without an unmount record at the end", func() { fillLog(log[:size], 1) }, true},
		{"full, unmount record at the end", func() { fillLog(log[:size], 7); unmountAt(d.b, log[:size], size-1024, 7) }, false},
		{"unmount record over the end", func() {
			fillLog(log[:size], 6)
			be.PutUint32(log, 7)
			unmountAt(d.b, log[:size], size-512, 6)
			copy(log[:512], unmountData(7))
		}, false},
		{"unmount record in the next round", func() { fillLog(log[:size], 6); unmountAt(d.b, log[:size], 0, 7) }, false},
		{"gap before the unmount record", func() {
			fillLog(log[:size], 6)
			for i := range 40 {
				be.PutUint32(log[i*512:], 7)
			}
			be.PutUint32(log[20*512:], 6)
			unmountAt(d.b, log[:size], 40*512, 7)
		}, true},
		{"gap before the start", func() {
			fillLog(log[:size], 6)
			be.PutUint32(log[size-512*30:], 5)
			unmountAt(d.b, log[:size], 0, 7)
		}, true},
		{"change behind the unmount record", func() {
			fillLog(log[:size], 6)
			unmountAt(d.b, log[:size], 0, 7)
			unmountAt(d.b, log[:size], 1024, 7)
			log[1536+9] = 0x10
		}, true},
		{"begun anew", func() { fillLog(log[:size], 6); clear(log[1024 : 512*512]); unmountAt(d.b, log[:size], 0, 7) }, false},
		{"begun anew, with a change", func() {
			fillLog(log[:size], 6)
			clear(log[1024 : 512*512])
			unmountAt(d.b, log[:size], 0, 7)
			log[512+9] = 0x10
		}, true},
		{"begun anew, with something among the zeros", func() {
			fillLog(log[:size], 6)
			clear(log[1024 : 512*512])
			unmountAt(d.b, log[:size], 0, 7)
			log[300*512+3] = 7
		}, true},
		{"begun anew, with a gap", func() {
			fillLog(log[:size], 6)
			clear(log[1024 : 512*512])
			unmountAt(d.b, log[:size], 0, 7)
			log[600*512+3] = 5
		}, true},
		{"two rounds apart", func() { fillLog(log[:size], 5); unmountAt(d.b, log[:size], 0, 7) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer copy(d.b, good)
			c.change()
			fs, _, err := d.probe(free.Options{})
			require.NoError(t, err)
			require.Equal(t, c.unclean, fs.Unclean)
			if c.unclean {
				require.Contains(t, fs.Notes[0], "its log")
			}
		})
	}
}

// fillLog writes a number of a round into each block.
func fillLog(log []byte, cycle uint32) {
	clear(log)
	for i := 0; i < len(log); i += 512 {
		binary.BigEndian.PutUint32(log[i:], cycle)
	}
}

// unmountAt writes a record of a clean unmount.
func unmountAt(fs, log []byte, at int, cycle uint32) {
	be := binary.BigEndian
	b := log[at:][:512]
	clear(b)
	be.PutUint32(b, 0xFEEDBABE)
	be.PutUint32(b[4:], cycle)
	be.PutUint32(b[8:], 2)
	be.PutUint32(b[12:], 512)
	be.PutUint64(b[16:], uint64(cycle)<<32|uint64(at/512))
	be.PutUint32(b[40:], 1)
	copy(b[304:320], fs[32:48])
	be.PutUint32(b[320:], 32768)
	if at+512 < len(log) {
		copy(log[at+512:][:512], unmountData(cycle))
	}
}

func unmountData(cycle uint32) []byte {
	b := make([]byte, 512)
	binary.BigEndian.PutUint32(b, cycle)
	copy(b[8:], "\xaa\x20\x00\x00\x6e\x55")
	return b
}

func TestReadErrors(t *testing.T) {
	d := newDisk(t, "-d", "agcount=2")
	for name, at := range map[string]int{"superblock": 100, "log": d.log + 100, "header": d.group + 600} {
		r := roundtrip.Broken(bytes.NewReader(d.b), int64(at))
		_, _, err := xfs.Probe(context.Background(), r, int64(len(d.b)), free.Options{})
		require.ErrorIs(t, err, roundtrip.ErrMedium)
		require.NotErrorIs(t, err, free.ErrFilesystem)
		fs, _, err := xfs.Probe(context.Background(), r, int64(len(d.b)), free.Options{SkipBad: true})
		if name == "superblock" {
			require.ErrorIs(t, err, roundtrip.ErrMedium)
			continue
		}
		require.NoError(t, err)
		require.NotEmpty(t, fs.Notes)
		require.Equal(t, name == "log", fs.Unclean)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := xfs.Probe(canceled, bytes.NewReader(d.b), int64(len(d.b)), free.Options{SkipBad: true})
	require.ErrorIs(t, err, context.Canceled)
}

// FuzzXFS: no superblock, header or tree may panic, and free space stays inside the filesystem, away from headers and
// log. The corpus is the first part of groups; checksums are made right.
func FuzzXFS(f *testing.F) {
	for _, args := range [][]string{{"-d", "agcount=2"}, {"-d", "agcount=1", "-m", "crc=0"}, {"-b", "size=1024", "-m", "reflink=0,rmapbt=0"}} {
		d := newDisk(f, args...)
		f.Add(d.b[:512], d.agf(0), d.tree(0))
	}
	d := newDisk(f, "-d", "agcount=2")
	good := bytes.Clone(d.b)
	f.Fuzz(func(t *testing.T, super, agf, tree []byte) {
		defer copy(d.b, good)
		copy(d.b[:512], super)
		copy(d.agf(0), agf)
		copy(d.b[8192:][:d.block], tree)
		d.signAll()
		for _, o := range []free.Options{{}, {SkipBad: true}} {
			fs, found, err := d.probe(o)
			require.True(t, found || err == nil)
			if err != nil || !found {
				continue
			}
			require.LessOrEqual(t, fs.Sectors, uint64(len(d.b)/512))
			var at uint64
			for _, s := range fs.Free.Spans() {
				require.True(t, s.Start >= at && s.End > s.Start && s.Start >= 4)
				at = s.End
			}
			require.LessOrEqual(t, at, fs.Sectors)
		}
	})
}
