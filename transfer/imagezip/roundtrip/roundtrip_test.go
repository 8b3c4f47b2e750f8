package roundtrip_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/ext"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
)

func e2fsck(t testing.TB, path string) { tool.Run(t, "e2fsck", "-fn", path) }

func TestFragmented(t *testing.T) {
	const ranges, run = 1500, 32
	dir := t.TempDir()
	apart, whole := filepath.Join(dir, "apart"), filepath.Join(dir, "whole")
	roundtrip.Fragmented(t, apart, ranges, run)
	roundtrip.Unfragmented(t, whole, ranges, run)
	e2fsck(t, apart)
	e2fsck(t, whole)
	a, b := roundtrip.Probe(t, apart, ext.Probe), roundtrip.Probe(t, whole, ext.Probe)
	require.Equal(t, b.Sectors, a.Sectors)
	require.InDelta(t, b.Free.Total(), a.Free.Total(), float64(b.Free.Total())/50)
	require.Less(t, len(b.Free.Spans()), 100)
	long := 0
	for _, s := range a.Free.Spans() {
		if s.Sectors() >= run*2 {
			long++
		}
	}
	require.GreaterOrEqual(t, long, ranges)
}

// watched is a test that may fail.
type watched struct {
	testing.TB
	said string
}

func (w *watched) Errorf(format string, args ...any) { w.said += fmt.Sprintf(format, args...) }
func (w *watched) FailNow()                          { runtime.Goexit() }
func (w *watched) Helper()                           {}

// A copy that lacks one sector in use, or has one that is free, is found out; and so is a probe that Capture does not
// agree with.
func TestFindsFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fs")
	files := t.TempDir()
	roundtrip.Fill(t, files, 1<<20, true)
	roundtrip.Sparse(t, path, 8<<20)
	tool.Run(t, "mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", files, path)
	for _, name := range []string{"/d1/e1/f1", "/d3/e0/f3", "/d5/e2/f5", "/d2/e0/f9"} {
		tool.Run(t, "debugfs", "-w", "-R", "rm "+name, path)
	}
	result := roundtrip.Check(t, path, ext.Probe, e2fsck)
	good, err := os.ReadFile(result.Path)
	require.NoError(t, err)
	spans := result.Filesystem.Free.Spans()
	require.Greater(t, len(spans), 1)
	all := &free.List{}
	all.Add(free.Span{Start: 0, End: result.Filesystem.Sectors})
	for _, c := range []struct {
		name   string
		sector uint64
		free   *free.List
		says   string
	}{
		{"nothing", 0, nil, ""},
		{"superblock", 2, nil, "differ"},
		{"before free space", spans[0].Start - 1, nil, "differ"},
		{"behind free space", spans[0].End, nil, "differ"},
		{"free space", spans[0].Start, nil, "free space is in the image"},
		{"end of free space", spans[0].End - 1, nil, "free space is in the image"},
		{"capture", 0, all, "Not equal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &watched{TB: t}
			var done sync.WaitGroup
			done.Go(func() {
				fs := *result.Filesystem
				if c.free != nil {
					fs.Free = c.free
					roundtrip.Image(w, path, &fs)
					return
				}
				bad := bytes.Clone(good)
				if c.sector > 0 {
					bad[c.sector*free.SectorSize+100] ^= 1
				}
				copied := filepath.Join(t.TempDir(), "copy")
				require.NoError(w, os.WriteFile(copied, bad, 0o644))
				roundtrip.Compare(w, path, copied, &fs)
			})
			done.Wait()
			if c.says == "" {
				require.Empty(t, w.said)
			} else {
				require.Contains(t, w.said, c.says)
			}
		})
	}
}

// Age is only worth something if it leaves holes.
func TestAge(t *testing.T) {
	dir := t.TempDir()
	roundtrip.Fill(t, dir, 1<<20, true)
	before := roundtrip.Files(t, dir)
	roundtrip.Age(t, dir, 600000)
	after := roundtrip.Files(t, dir)
	require.Greater(t, len(after), len(before)+40)
	for name, is := range before {
		require.Equal(t, is, after[name])
	}
	require.Contains(t, after["link"], "d0/e0")
}
