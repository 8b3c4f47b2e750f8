package ntfs_test

import (
	"strings"

	"pgregory.net/rapid"
)

// cut cuts n clusters into at most k runs, the first of at least least clusters.
func cut(rt *rapid.T, name string, n, least, k int) []piece {
	var list []piece
	for n > 0 {
		size := n
		if len(list) < k-1 {
			size = rapid.IntRange(min(least, n), n).Draw(rt, name)
		}
		list, n, least = append(list, piece{n: size}), n-size, 1
	}
	return list
}

// place gives all runs their clusters, in any order and with gaps, and returns the number of clusters needed.
func place(rt *rapid.T, from int, lists ...[]piece) int {
	var all []*piece
	for _, l := range lists {
		for i := range l {
			all = append(all, &l[i])
		}
	}
	at := from
	for _, p := range rapid.Permutation(all).Draw(rt, "order") {
		at += rapid.SampledFrom([]int{0, 0, 1, 2, 7, 8, 9, 130}).Draw(rt, "gap")
		p.at = at
		at += p.n
	}
	return at
}

func (v *volume) need(bytes int) int { return (bytes + v.cluster - 1) / v.cluster }

func drawVolume(rt *rapid.T) *volume {
	v := &volume{
		sector: rapid.SampledFrom([]int{512, 1024, 4096}).Draw(rt, "sector"),
		record: rapid.SampledFrom([]int{1024, 4096}).Draw(rt, "record"),
		label:  rapid.SampledFrom([]string{"", "Daten", "größer"}).Draw(rt, "label"),
	}
	v.cluster = v.sector * rapid.SampledFrom([]int{1, 2, 8}).Draw(rt, "cluster")
	v.spare = rapid.IntRange(0, v.cluster/v.sector-1).Draw(rt, "spare")
	v.splitMFT = rapid.Bool().Draw(rt, "split MFT")
	v.splitBitmap = rapid.Bool().Draw(rt, "split bitmap")
	v.resident = rapid.Bool().Draw(rt, "resident")
	// The second part of the MFT is found in the first.
	first := v.need(14 * v.record)
	all := v.need(records * v.record)
	v.mft = cut(rt, "mft", first, v.need(v.record), 4)
	v.mft = append(v.mft, cut(rt, "mft", all-first+1, 1, 1)...)
	if v.splitMFT { // parts of about equal numbers of runs
		v.mft = append(cut(rt, "mft", first, first, 1), cut(rt, "mft", all-first+1, 1, 1)...)
	}
	v.log = cut(rt, "log", v.need(8192), 1, 4)
	v.index = cut(rt, "index", v.need(2*indexBlock), 1, 3)
	v.lists = []piece{{n: 1}, {n: 1}}
	v.bitmap = cut(rt, "bitmap", max(2, v.need(512)), 1, 5)
	if len(v.bitmap) == 1 {
		v.bitmap = []piece{{n: 1}, {n: v.bitmap[0].n - 1}}
	}
	v.unusedBlock = rapid.Bool().Draw(rt, "unused")
	v.behind = rapid.Uint64().Draw(rt, "behind")
	keep := v.need(64 << 10)
	for _, name := range rapid.SampledFrom([][]string{nil, {"pagefile.sys"}, {"PAGEFILE.SYS", "hiberfil.sys"}, {"Hiberfil.sys"}, {"others.sys"}}).Draw(rt, "files") {
		f := file{name: name, system: true, inBlock: rapid.Bool().Draw(rt, "in block")}
		n := max(1, keep+rapid.IntRange(-3, 20).Draw(rt, "more"))
		f.pieces = cut(rt, "file", n, 1, 5)
		f.size = n*v.cluster - rapid.IntRange(0, v.cluster-8).Draw(rt, "tail") // not less than the head of hiberfil.sys
		if strings.EqualFold(name, "hiberfil.sys") {
			f.content = []byte(rapid.SampledFrom([]string{"", "wake", "WAKE..."}).Draw(rt, "resumed"))
		}
		v.files = append(v.files, f)
	}
	mirror := []piece{{n: 1}}
	lists := [][]piece{v.mft, v.log, v.index, v.lists, v.bitmap, mirror}
	for _, f := range v.files {
		lists = append(lists, f.pieces)
	}
	v.clusters = place(rt, max(1, 8192/v.cluster), lists...) + rapid.IntRange(1, 200).Draw(rt, "behind")
	if room := total(v.bitmap) * v.cluster * 8; v.clusters > room {
		rt.Skip("the bitmap is too small")
	}
	v.mirror = mirror[0].at
	v.free = make([]bool, v.clusters)
	for at := 0; at < v.clusters; { // runs of all lengths
		n := rapid.SampledFrom([]int{1, 2, 7, 8, 9, 16, 64, 100, 600}).Draw(rt, "run")
		isFree := rapid.Bool().Draw(rt, "free")
		for ; n > 0 && at < v.clusters; n, at = n-1, at+1 {
			v.free[at] = isFree
		}
	}
	for at := range max(1, 8192/v.cluster) {
		v.free[at] = false
	}
	for _, l := range lists {
		for _, p := range l {
			for k := range p.n {
				v.free[p.at+k] = false
			}
		}
	}
	return v
}

// wanted is what should be called free, by cluster.
func (v *volume) wanted() []bool {
	want := append([]bool(nil), v.free...)
	keep := v.need(64 << 10)
	for _, f := range v.files {
		if strings.HasPrefix(strings.ToLower(f.name), "others") {
			continue
		}
		n := 0
		for _, p := range f.pieces {
			for k := range p.n {
				want[p.at+k] = n >= keep
				n++
			}
		}
	}
	return want
}

// plain is a volume of 500 clusters of 4 KiB, of which the second half is free. Its $Bitmap has more than one cluster only
// in order to have two parts.
func plain() *volume {
	v := &volume{
		sector: 512, cluster: 4096, record: 1024, clusters: 500, mirror: 60,
		mft: []piece{{10, 4}, {20, 2}}, bitmap: []piece{{30, 1}, {33, 1}}, log: []piece{{40, 2}, {50, 2}}, index: []piece{{70, 2}},
		lists: []piece{{80, 1}, {81, 1}},
		free:  make([]bool, 500),
	}
	for i := 250; i < 500; i++ {
		v.free[i] = true
	}
	return v
}

// page is a file of 20 clusters, of which 16 are kept.
func page(name string) file {
	return file{name: name, pieces: []piece{{100, 10}, {130, 10}}, size: 20 * 4096, system: true}
}

const pageLeftOut = 4
