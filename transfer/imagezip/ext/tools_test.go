package ext_test

import (
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
)

// mke2fs makes a filesystem in a new sparse file, with the files below dir unless it is empty.
func mke2fs(t testing.TB, kb int64, dir string, args ...string) string {
	t.Helper()
	path := filepath.Join(roundtrip.Dir(t), "fs")
	roundtrip.Sparse(t, path, kb<<10)
	if dir != "" {
		args = append(args, "-d", dir)
	}
	tool.Run(t, "mke2fs", append(append([]string{"-q", "-F", "-E", "nodiscard"}, args...), path)...)
	return path
}

func e2fsck(t testing.TB, path string) { tool.Run(t, "e2fsck", "-fn", path) }

var backupLine = regexp.MustCompile(`Backup superblock at (\d+)`)

// told is what dumpe2fs tells of a filesystem.
type told struct {
	blockSize, blocks, cluster uint64
	free                       []free.Span
	backups                    []string
	out                        string
}

// number finds a line like "Block count:  1024". It is 0 if there is none.
func (d told) number(t testing.TB, name string) uint64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `: +(\d+)`).FindStringSubmatch(d.out)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	require.NoError(t, err)
	return n
}

// truth asks dumpe2fs. With bigalloc it names the first blocks of free clusters.
func truth(t testing.TB, path string) told {
	t.Helper()
	d := told{out: tool.Run(t, "dumpe2fs", path)}
	d.blockSize, d.blocks, d.cluster = d.number(t, "Block size"), d.number(t, "Block count"), 1
	if size := d.number(t, "Cluster size"); size > 0 {
		d.cluster = size / d.blockSize
	}
	per := d.blockSize / free.SectorSize
	var all []free.Span
	for _, run := range tool.FreeBlocks(t, d.out) {
		all = append(all, free.Span{Start: run[0] * per, End: min(run[1]+d.cluster, d.blocks) * per})
	}
	d.free = free.Merge(all)
	for _, m := range backupLine.FindAllStringSubmatch(d.out, -1) {
		d.backups = append(d.backups, m[1])
	}
	return d
}
