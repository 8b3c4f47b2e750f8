package xfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
)

// mkfs makes a filesystem in a new sparse file, with the files below dir unless it is empty.
func mkfs(t testing.TB, mb int64, dir string, args ...string) string {
	t.Helper()
	path := filepath.Join(roundtrip.Dir(t), "fs")
	roundtrip.Sparse(t, path, mb<<20)
	if dir != "" {
		proto := filepath.Join(t.TempDir(), "proto")
		require.NoError(t, os.WriteFile(proto, []byte("/boot\n0 0\n"+protoOf(t, dir, "d--755 0 0")+"$\n"), 0o644))
		args = append(args, "-p", proto)
	}
	tool.Run(t, "mkfs.xfs", append(append([]string{"-q", "-f"}, args...), path)...)
	return path
}

// protoOf describes a folder as mkfs.xfs -p reads it.
func protoOf(t testing.TB, dir, mode string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var b strings.Builder
	fmt.Fprintln(&b, mode)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.IsDir():
			fmt.Fprintf(&b, "%s %s", e.Name(), protoOf(t, path, "d--755 0 0"))
		case e.Type().IsRegular():
			fmt.Fprintf(&b, "%s ---644 0 0 %s\n", e.Name(), path)
		}
	}
	fmt.Fprintln(&b, "$")
	return b.String()
}

func repair(t testing.TB, path string) {
	tool.Run(t, "xfs_repair", "-n", "-f", "-o", "force_geometry", path)
}

// db asks xfs_db for a number.
func db(t testing.TB, path string, commands ...string) string {
	t.Helper()
	args := []string{"-r", "-f"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return tool.Run(t, "xfs_db", append(args, path)...)
}

func number(t testing.TB, path string, commands ...string) uint64 {
	t.Helper()
	out := db(t, path, commands...)
	_, value, ok := strings.Cut(strings.TrimSpace(out), " = ")
	require.True(t, ok, out)
	n, err := strconv.ParseUint(value, 0, 64)
	require.NoError(t, err)
	return n
}

var extentLine = regexp.MustCompile(`(?m)^ *(\d+) +(\d+) +(\d+) *$`)

// truth is the free space by xfs_db: what freesp tells without the blocks of the free lists (AGFL), which are kept for
// the B+trees.
func truth(t testing.TB, path string) []free.Span {
	t.Helper()
	out := db(t, path, "freesp -d")
	per := number(t, path, "sb 0", "p blocksize") / free.SectorSize
	group := number(t, path, "sb 0", "p agblocks")
	var spans, lists []free.Span
	n := map[[3]uint64]bool{}
	for _, m := range extentLine.FindAllStringSubmatch(out, -1) {
		var v [3]uint64
		for i := range v {
			var err error
			v[i], err = strconv.ParseUint(m[i+1], 10, 64)
			require.NoError(t, err)
		}
		require.False(t, n[v])
		n[v] = true
		s := free.Span{Start: (v[0]*group + v[1]) * per, End: (v[0]*group + v[1] + v[2]) * per}
		spans = append(spans, s)
	}
	require.NotEmpty(t, spans, out)
	for g := range number(t, path, "sb 0", "p agcount") {
		for _, at := range freeList(t, path, g) {
			lists = append(lists, free.Span{Start: (g*group + at) * per, End: (g*group + at + 1) * per})
		}
	}
	var l free.List
	for _, s := range free.Merge(spans) {
		l.Add(s)
	}
	l.Subtract(free.Merge(lists))
	return l.Spans()
}

var listEntry = regexp.MustCompile(`(\d+):(\d+|null)`)

// freeList reads the AGFL of a group.
func freeList(t testing.TB, path string, g uint64) (blocks []uint64) {
	t.Helper()
	agf := fmt.Sprintf("agf %d", g)
	first, count := number(t, path, agf, "p flfirst"), number(t, path, agf, "p flcount")
	out := db(t, path, fmt.Sprintf("agfl %d", g), "p bno")
	_, out, _ = strings.Cut(out, "=")
	entries := listEntry.FindAllStringSubmatch(out, -1)
	for i := range count {
		at, err := strconv.ParseUint(entries[(first+i)%uint64(len(entries))][2], 10, 64)
		require.NoError(t, err)
		blocks = append(blocks, at)
	}
	return blocks
}
