package ntfs_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/ntfs"
)

func probe(m memory, o free.Options) (*free.Filesystem, bool, error) {
	return ntfs.Probe(context.Background(), m, int64(len(m.b)), o)
}

// requireFree compares what was found with a flag for each cluster.
func requireFree(t require.TestingT, v *volume, want []bool, fs *free.Filesystem) {
	per := uint64(v.cluster / 512)
	at := uint64(0)
	same := func(end uint64, isFree bool) {
		if end > uint64(len(want)) {
			require.Fail(t, "free space behind the clusters")
		}
		for ; at < end; at++ {
			if want[at] != isFree {
				require.Fail(t, "wrong", "cluster %d: free is %v", at, isFree)
			}
		}
	}
	for _, s := range fs.Free.Spans() {
		require.Zero(t, s.Start%per)
		require.Zero(t, s.End%per)
		same(s.Start/per, false)
		same(s.End/per, true)
	}
	same(uint64(len(want)), false)
}

// What is free, cluster by cluster, whatever the pieces of the MFT, of $Bitmap and of the attribute lists.
func TestFreeClusters(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		v := drawVolume(rt)
		b := v.build()
		fs, found, err := probe(memory{b: b}, free.Options{})
		require.NoError(rt, err)
		require.True(rt, found)
		require.Equal(rt, "ntfs", fs.Kind)
		require.Equal(rt, v.label, fs.Label)
		require.False(rt, fs.Unclean)
		require.EqualValues(rt, len(b)/512, fs.Sectors)
		requireFree(rt, v, v.wanted(), fs)
		left := 0
		for _, n := range fs.Notes {
			require.Contains(rt, n, "left out")
			left++
		}
		require.LessOrEqual(rt, left, len(v.files))
	})
}

// A $Bitmap that is read in several goes.
func TestLargeBitmap(t *testing.T) {
	v := plain()
	v.cluster, v.clusters = 512, 140000
	v.mft, v.mirror = []piece{{20, 50}}, 80
	v.log, v.index, v.bitmap = []piece{{90, 32}}, []piece{{130, 16}}, []piece{{1000, 20}, {600, 15}}
	v.free = make([]bool, v.clusters)
	for i := 2000; i < v.clusters; i++ {
		v.free[i] = i/100%3 > 0 || i > 131000 && i < 131100 // a run over the end of what is read first
	}
	fs, found, err := probe(memory{b: v.build()}, free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	requireFree(t, v, v.free, fs)
}

func TestUnclean(t *testing.T) {
	hiber := func(content string) func(v *volume) {
		return func(v *volume) {
			f := page("hiberfil.sys")
			f.content = []byte(content)
			v.files = []file{f}
		}
	}
	log := func(pages ...func(log []byte)) func(v *volume) {
		return func(v *volume) {
			v.logPages = func(log []byte) {
				for _, p := range pages {
					p(log)
				}
			}
		}
	}
	at := func(at int, lsn uint64, client, flags uint16) func([]byte) {
		return func(log []byte) { restart(log[at:at+4096], lsn, client, flags) }
	}
	const nobody = 0xFFFF
	for _, c := range []struct {
		name   string
		change func(v *volume)
		says   string // empty: it is clean
		left   int
	}{
		{"clean", func(v *volume) {}, "", 0},
		{"dirty", func(v *volume) { v.state = 1 }, "marked dirty", 0},
		{"in chkdsk", func(v *volume) { v.state = 0x4000 }, "marked dirty", 0},
		{"other flags", func(v *volume) { v.state = 0x8080 }, "", 0},
		{"log closed", log(at(0, 5, nobody, 0), at(4096, 4, nobody, 0)), "", 0},
		{"log marked clean", log(at(0, 5, 0, 2), at(4096, 4, 0, 2)), "", 0},
		{"log open", log(at(0, 5, 0, 0), at(4096, 4, 0, 0)), "log of the volume is open", 0},
		{"older page was open", log(at(0, 5, nobody, 0), at(4096, 4, 0, 0)), "", 0},
		{"newer page is open", log(at(0, 5, nobody, 0), at(4096, 6, 0, 0)), "log of the volume is open", 0},
		{"newer page is closed", log(at(0, 5, 0, 0), at(4096, 6, nobody, 0)), "", 0},
		{"one page", log(at(0, 5, nobody, 0)), "", 0},
		{"one page, open", log(at(0, 5, 0, 0)), "log of the volume is open", 0},
		{"second page only", log(at(4096, 5, nobody, 0)), "", 0},
		{"second page only, open", log(at(4096, 5, 0, 1)), "log of the volume is open", 0},
		{"pages of 8 KiB", log(func(log []byte) { restart(log[:8192], 5, nobody, 0); restart(log[8192:], 9, 0, 0) }), "log of the volume is open", 0},
		{"checked by chkdsk", log(at(0, 5, nobody, 0), func(log []byte) { copy(log, "CHKD") }), "", 0},
		{"torn page", log(at(0, 5, nobody, 0), func(log []byte) { log[1023]++ }), "log of the volume is open", 0},
		{"newer page torn", log(at(0, 5, nobody, 0), at(4096, 6, 0, 0), func(log []byte) { log[4096+511]++ }), "", 0},
		{"log of zeros", log(func(log []byte) { clear(log) }), "log of the volume is open", 0},
		{"log nearly empty", log(func(log []byte) { log[8000] = 0 }), "log of the volume is open", 0},
		{"hibernated", hiber("hibr"), "Windows is hibernated", 0},
		{"hibernated, newer", hiber("HIBR"), "Windows is hibernated", 0},
		{"restoring", hiber("RSTR"), "Windows is hibernated", 0},
		{"not zeros", hiber(strings.Repeat("\x00", 4095) + "x"), "Windows is hibernated", 0},
		{"resumed", hiber("wake"), "", pageLeftOut},
		{"resumed, newer", hiber("WAKE"), "", pageLeftOut},
		{"never hibernated", hiber(""), "", pageLeftOut},
		{"never written", func(v *volume) {
			hiber("hibr")(v) // what was in the clusters before
			v.files[0].fresh = true
		}, "", pageLeftOut},
		{"compressed", func(v *volume) {
			hiber("")(v)
			v.files[0].flags = 1
		}, "Windows is hibernated", 0},
		{"another name", func(v *volume) {
			hiber("hibr")(v)
			v.files[0].name = "hiberfil.syx"
		}, "", 0},
		{"dirty with a page file", func(v *volume) {
			v.files, v.state = []file{page("pagefile.sys")}, 1
		}, "marked dirty", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := plain()
			v.log = []piece{{40, 2}, {50, 2}}
			c.change(v)
			fs, found, err := probe(memory{b: v.build()}, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, c.says != "", fs.Unclean)
			if c.says != "" {
				require.Len(t, fs.Notes, 1)
				require.Contains(t, fs.Notes[0], c.says)
			}
			require.EqualValues(t, (250+c.left)*8, fs.Free.Total())
		})
	}
}

// A page file is only left out if there is no doubt about it.
func TestPageFiles(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *file)
		left   int
	}{
		{"page file", func(f *file) {}, pageLeftOut},
		{"in an index block", func(f *file) { f.inBlock = true }, pageLeftOut},
		{"upper case", func(f *file) { f.name = "PageFile.SYS" }, pageLeftOut},
		{"not of the system", func(f *file) { f.system = false }, 0},
		{"another name", func(f *file) { f.name = "pagefile.sy" }, 0},
		{"compressed", func(f *file) { f.flags = 1 }, 0},
		{"encrypted", func(f *file) { f.flags = 0x4000 }, 0},
		{"reparse point", func(f *file) { f.reparse = true }, 0},
		{"two names", func(f *file) { f.links = 2 }, 0},
		{"two streams", func(f *file) { f.stream = true }, 0},
		{"short", func(f *file) { f.pieces, f.size = []piece{{100, 16}}, 16*4096 }, 0},
		{"one cluster more", func(f *file) { f.pieces, f.size = []piece{{100, 16}, {200, 1}}, 17*4096 }, 1},
		{"in free clusters", func(f *file) { f.pieces = []piece{{100, 17}, {400, 3}} }, 0},
		{"in the MFT", func(f *file) { f.pieces = []piece{{100, 17}, {21, 3}} }, 0},
		{"on the boot sector", func(f *file) { f.pieces = []piece{{100, 17}, {0, 3}} }, 0},
		{"twice on the same", func(f *file) { f.pieces = []piece{{100, 17}, {110, 3}} }, 0},
		{"clusters that are not there", func(f *file) { f.pieces = []piece{{100, 17}, {499, 3}} }, 0},
		{"larger than its clusters", func(f *file) { f.size = 50 * 4096 }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := plain()
			f := page("pagefile.sys")
			c.change(&f)
			v.files = []file{f}
			fs, found, err := probe(memory{b: v.build()}, free.Options{})
			require.NoError(t, err)
			require.True(t, found)
			require.False(t, fs.Unclean)
			require.EqualValues(t, (250+c.left)*8, fs.Free.Total())
			require.Equal(t, c.left > 0, len(fs.Notes) == 1)
		})
	}
	// Two that claim the same clusters: only the first is believed.
	v := plain()
	v.files = []file{page("pagefile.sys"), page("hiberfil.sys")}
	fs, _, err := probe(memory{b: v.build()}, free.Options{})
	require.NoError(t, err)
	require.EqualValues(t, (250+pageLeftOut)*8, fs.Free.Total())
	require.Len(t, fs.Notes, 1)
	// The first 64 KiB are part of one cluster.
	v = plain()
	v.cluster = 128 << 10
	v.files = []file{page("pagefile.sys")}
	v.files[0].size = 20 * v.cluster
	fs, _, err = probe(memory{b: v.build()}, free.Options{})
	require.NoError(t, err)
	require.EqualValues(t, (250+19)*256, fs.Free.Total())
}

func TestRefuses(t *testing.T) {
	const mft = 10 * 4096
	rec := func(n int) int { return mft + n*1024 }
	for _, c := range []struct {
		name   string
		volume func(v *volume)
		change func(b []byte)
		says   string // empty: it is no NTFS at all
	}{
		{"no signature", nil, func(b []byte) { b[510] = 0 }, ""},
		{"another name", nil, func(b []byte) { b[3] = 'M' }, ""},
		{"sector size", nil, func(b []byte) { le.PutUint16(b[11:], 768) }, "sectors of 768 bytes"},
		{"small sectors", nil, func(b []byte) { le.PutUint16(b[11:], 256) }, "sectors of 256 bytes"},
		{"no cluster", nil, func(b []byte) { b[13] = 0 }, "clusters of 0x0 sectors"},
		{"cluster of three", nil, func(b []byte) { b[13] = 3 }, "clusters of 0x3 sectors"},
		{"large cluster", nil, func(b []byte) { b[13] = 0xF3 }, "clusters of 0xf3 sectors"},
		{"no cluster at all", nil, func(b []byte) { b[13] = 200 }, "clusters of 0xc8 sectors"},
		{"record size", nil, func(b []byte) { b[64] = 0xF8 }, "records of the MFT of 0xf8"},
		{"no record size", nil, func(b []byte) { b[64] = 0 }, "records of the MFT of 0x0"},
		{"huge record", nil, func(b []byte) { b[64] = 100 }, "records of the MFT of 0x64"},
		{"truncated", nil, func(b []byte) { le.PutUint64(b[40:], 5000) }, "is it truncated?"},
		{"sectors overflow", nil, func(b []byte) { le.PutUint64(b[40:], 1<<63+5) }, "is it truncated?"},
		{"too small", nil, func(b []byte) { le.PutUint64(b[40:], 16) }, "2 clusters"},
		{"MFT behind the end", nil, func(b []byte) { le.PutUint64(b[48:], 500) }, "with the MFT at 500"},
		{"mirror behind the end", nil, func(b []byte) { le.PutUint64(b[56:], 500) }, "mirror at 500"},
		{"MFT elsewhere", nil, func(b []byte) { le.PutUint64(b[48:], 12) }, "record 0 of the MFT"},
		{"torn record", nil, func(b []byte) { b[rec(6)+1023]++ }, "record 6 of the MFT: sector 1 does not have"},
		{"magic", nil, func(b []byte) { copy(b[rec(3):], "BAAD") }, `record 3 of the MFT: it starts with "BAAD"`},
		{"not in use", nil, func(b []byte) { b[rec(2)+22] = 0 }, "record 2 of the MFT: it is not in use"},
		{"another record", nil, func(b []byte) { b[rec(6)+44]++ }, "it says that it is record 7"},
		{"update sequence", nil, func(b []byte) { b[rec(6)+6]++ }, "an update sequence of 4 values"},
		{"update sequence place", nil, func(b []byte) { b[rec(6)+5] = 2 }, "an update sequence of 3 values at byte 560"},
		{"attributes start", nil, func(b []byte) { b[rec(6)+20] = 57 }, "attributes from byte 57"},
		{"attributes end", nil, func(b []byte) { b[rec(6)+25] = 5 }, "attributes from byte"},
		{"no end", nil, func(b []byte) { b[rec(6)+24] = 56 }, "its attributes have no end"},
		{"attribute size", nil, func(b []byte) { b[rec(6)+56+4] = 25 }, "an attribute of 25 bytes"},
		{"attribute too small", nil, func(b []byte) { b[rec(6)+56+4] = 16 }, "an attribute of 16 bytes"},
		{"attribute behind", nil, func(b []byte) { b[rec(6)+56+5] = 2 }, "an attribute of 5"},
		{"name behind", nil, func(b []byte) { b[rec(6)+56+9] = 99 }, "a name of 99 characters"},
		{"value behind", nil, func(b []byte) { b[rec(3)+56+16] = 250 }, "a value of 250 bytes"},
		{"runs start", nil, func(b []byte) { b[rec(6)+56+32] = 200 }, "runs from byte 200"},
		{"run form", nil, func(b []byte) { b[rec(6)+56+64] = 0x19 }, "a run of form 0x19"},
		{"run form, distance", nil, func(b []byte) { b[rec(6)+56+64] = 0x91 }, "a run of form 0x91"},
		{"run without length", nil, func(b []byte) { b[rec(6)+56+64] = 0x10 }, "a run of form 0x10"},
		{"run cut", nil, func(b []byte) { b[rec(6)+56+64] = 0x88 }, "a run of form 0x88"},
		{"run of negative length", nil, func(b []byte) { b[rec(6)+56+65] = 0xFF }, "a run of -1 clusters"},
		{"run before the start", nil, func(b []byte) { b[rec(6)+56+66] = 0xFF }, "at cluster -1"},
		{"run behind the end", nil, func(b []byte) { b[rec(6)+56+65] = 127; b[rec(6)+56+66] = 127; b[rec(6)+56+67] = 0 }, "header says 2"},
		{"run too long", func(v *volume) { v.bitmap = []piece{{400, 1}, {450, 51}}; v.clusters = 501; v.free = make([]bool, 501) },
			func(b []byte) { le.PutUint64(b[40:], 500*8) }, "a run of 51 clusters at cluster 450, the volume has 500"},
		{"last cluster", nil, func(b []byte) { b[rec(6)+56+24]++ }, "has 2 clusters, its header says 3"},
		{"first cluster", nil, func(b []byte) { b[rec(6)+56+16]++ }, "has a part at cluster 1, after 0 clusters"},
		{"hole in $Bitmap", nil, func(b []byte) { copy(b[rec(6)+56+64:], "\x01\x01\x11\x01\x21\x00") }, "$Bitmap does not cover"},
		{"hole in the MFT", nil, func(b []byte) { copy(b[rec(0)+56+64:], "\x11\x04\x0a\x01\x02\x00") }, "$MFT does not say where it lies"},
		{"$Bitmap compressed", nil, func(b []byte) { b[rec(6)+56+12] = 1 }, "$Bitmap does not cover"},
		{"$Bitmap too short", nil, func(b []byte) { b[rec(6)+56+48] = 62; b[rec(6)+56+56] = 62 }, "$Bitmap does not cover 500 clusters"},
		{"$Bitmap not initialised", nil, func(b []byte) { b[rec(6)+56+56] = 62 }, "$Bitmap does not cover 500 clusters"},
		{"more initialised than there is", nil, func(b []byte) { b[rec(6)+56+56] = 65 }, "has 64 bytes (65 initialised)"},
		{"more than its clusters", nil, func(b []byte) { b[rec(6)+56+49] = 0x21; b[rec(6)+56+57] = 0x21 }, "in 2 clusters"},
		{"size overflows", nil, func(b []byte) { b[rec(6)+56+48+7] = 0x7F }, "run chkdsk"},
		{"$Bitmap free", func(v *volume) { v.free[33] = true }, nil, "$Bitmap says that attribute 0x80 of record 6"},
		{"MFT free", func(v *volume) { v.free[21] = true }, nil, "$Bitmap says that $MFT is free"},
		{"log free", func(v *volume) { v.free[51] = true }, nil, "$Bitmap says that attribute 0x80 of record 2"},
		{"root free", func(v *volume) { v.free[71] = true }, nil, "$Bitmap says that attribute 0xa0 of record 5"},
		{"boot free", func(v *volume) { v.free[1] = true }, nil, "$Bitmap says that the boot sector is free"},
		{"mirror free", func(v *volume) { v.free[60] = true }, nil, "$Bitmap says that the mirror of the MFT is free"},
		{"no state", nil, func(b []byte) { b[rec(3)+56+24] = 0x71 }, "$Volume does not say"},
		{"log too short", func(v *volume) { v.log = []piece{{40, 1}} }, nil, "$LogFile has no content"},
		{"no root", nil, func(b []byte) { b[rec(5)+22] = 1 }, "the root directory has no index"},
		{"index block torn", nil, func(b []byte) { b[70*4096+511]++ }, "block 0 of the index of the root directory: sector 0"},
		{"index block size", nil, func(b []byte) { b[rec(5)+56+32+8] = 1 }, "in blocks of 4097"},
		{"index end", nil, func(b []byte) { b[70*4096+28+1] = 0x20 }, "an index of the root directory ends at byte"},
		{"index has no end", nil, func(b []byte) { b[70*4096+28] = 40; b[70*4096+29] = 0 }, "an index of the root directory has no end"},
		{"index entry", nil, func(b []byte) { b[70*4096+64+8] = 8 }, "an entry of 8 bytes"},
		{"index entry name", nil, func(b []byte) { b[70*4096+64+16+64] = 200 }, "a name of 200 characters"},
		{"index entry key", nil, func(b []byte) { b[70*4096+64+10] = 20 }, "a file name in 20 bytes"},
		{"index block not initialised", nil, func(b []byte) {
			i := bytes.Index(b[rec(5):], []byte{0xA0, 0, 0, 0})
			clear(b[rec(5)+i+56 : rec(5)+i+64])
		}, "block 0 of the index of the root directory: it starts with"},
		{"hiberfil is another file", func(v *volume) { v.files = []file{page("hiberfil.sys")} }, func(b []byte) { b[20*4096+16]++ }, "record 16 of the MFT"},
		{"list entry", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+4] = 0 }, "entry of 0 bytes"},
		{"list entry behind", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+64+4] = 40 }, "entry of 40 bytes"},
		{"list to another record", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+64+16] = 3; b[81*4096+64+22] = 4 }, "record 3 of the MFT is no extension of record 6"},
		{"list to a reused record", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+64+22] = 99 }, "record 13 of the MFT is no extension of record 6"},
		{"list without the part", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+64+8] = 7 }, "has no part in record 13"},
		{"gap before a part", func(v *volume) { v.splitBitmap = true }, func(b []byte) { b[81*4096+64+8], b[rec(13)+56+16], b[rec(13)+56+24] = 5, 5, 5 }, "has a part at cluster 5, after 1 clusters"},
		{"part missing", func(v *volume) { v.splitMFT, v.mft = true, []piece{{10, 5}, {20, 2}} }, func(b []byte) { b[80*4096+64] = 0x90 }, "in 5 clusters"},
		{"part twice", func(v *volume) { v.splitBitmap = true }, func(b []byte) { copy(b[81*4096+64:], b[81*4096+32:81*4096+64]) }, "has a part at cluster 0, after 1 clusters"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := plain()
			if c.volume != nil {
				c.volume(v)
			}
			b := v.build()
			if c.volume == nil {
				_, found, err := probe(memory{b: b}, free.Options{})
				require.NoError(t, err)
				require.True(t, found)
			}
			if c.change != nil {
				c.change(b)
			}
			fs, found, err := probe(memory{b: b}, free.Options{})
			require.Nil(t, fs)
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
	for _, size := range []int{0, 1, 511} {
		_, found, err := probe(memory{b: plain().build()[:size]}, free.Options{})
		require.NoError(t, err)
		require.False(t, found)
	}
	// Without the copy of the boot sector, in a file that is a little short.
	b := plain().build()
	fs, found, err := probe(memory{b: b[:len(b)-512]}, free.Options{})
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 4000, fs.Sectors)
}

func TestReadErrors(t *testing.T) {
	v := plain()
	b := v.build()
	for name, at := range map[string]int{"boot": 100, "MFT": 10*4096 + 3*1024, "$Bitmap": 30 * 4096, "log": 40 * 4096, "root": 70 * 4096} {
		t.Run(name, func(t *testing.T) {
			m := memory{b: b, fail: int64(at) + 10}
			_, _, err := probe(m, free.Options{})
			require.ErrorIs(t, err, errBroken)
			fs, _, err := probe(m, free.Options{SkipBad: true})
			if name != "$Bitmap" {
				require.ErrorIs(t, err, errBroken)
				return
			}
			require.NoError(t, err)
			require.Zero(t, fs.Free.Total())
			require.Equal(t, []string{"$Bitmap could not be read for 500 clusters, which were saved"}, fs.Notes)
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := ntfs.Probe(ctx, memory{b: b}, int64(len(b)), free.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

func FuzzProbe(f *testing.F) {
	for _, split := range []bool{false, true} {
		v := &volume{
			sector: 512, cluster: 512, record: 1024, clusters: 300, mirror: 30, splitMFT: split, splitBitmap: split,
			mft: []piece{{31, 30}, {62, 18}}, bitmap: []piece{{20, 1}, {22, 1}}, log: []piece{{82, 16}}, index: []piece{{100, 16}},
			lists: []piece{{80, 1}, {81, 1}}, free: make([]bool, 300), files: []file{{name: "pagefile.sys", pieces: []piece{{120, 140}}, size: 70000, system: true}},
		}
		if split {
			v.files[0].name = "hiberfil.sys"
			v.logPages = func(log []byte) { restart(log[:4096], 1, 0xFFFF, 0) }
		}
		f.Add(v.build()[:117*512])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b), make([]byte, max(0, 301*512-len(b)))...)
		fs, found, err := probe(memory{b: b}, free.Options{})
		if err != nil || !found {
			require.Nil(t, fs)
			return
		}
		require.LessOrEqual(t, fs.Sectors, uint64(len(b))/free.SectorSize)
		end := uint64(1) // of the span before; the boot sector is never free
		for _, span := range fs.Free.Spans() {
			require.True(t, span.Start >= end && span.Start < span.End && span.End <= fs.Sectors)
			end = span.End + 1
		}
	})
}
