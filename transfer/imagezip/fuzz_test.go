package imagezip

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/free"
)

// scattered is a disk of zeros with some bytes at some places, which is what fuzzing changes.
func scattered(size int, at int, b []byte) memory {
	disk := make(memory, size)
	if at >= 0 && at < size {
		copy(disk[at:], b)
	}
	return disk
}

// Whatever is on a disk, it is captured or refused, and what is captured is what the plan says, in parts that leave
// nothing out.
func FuzzCapture(f *testing.F) {
	disk := testDisk(f)
	f.Add(disk[:512], extAt*512, disk[extAt*512:][:4096], uint16(4000), byte(0))
	f.Add(disk[:512], insideAt*512, disk[insideAt*512:][:512], uint16(20000), byte(1))
	f.Add([]byte("garbage"), 1024, disk[extAt*512+1024:][:1024], uint16(2048), byte(2))
	f.Add(disk[:512], swapAt*512, disk[swapAt*512:][:4096], uint16(16000), byte(7))
	f.Fuzz(func(t *testing.T, first []byte, at int, b []byte, sectors uint16, flags byte) {
		size := (int(sectors)%20000 + 1) * 512
		src := scattered(size, at, b)
		copy(src, first)
		o := Options{Level: 1, Workers: 1, MinFree: uint64(flags>>4) * 8, OnlyFS: flags&1 != 0, Unclean: flags&2 != 0,
			SkipErrors: flags&4 != 0, ZeroShort: flags&8 != 0}
		var image bytes.Buffer
		stats, err := Capture(context.Background(), src, &image, o)
		if err != nil {
			return
		}
		at64 := uint64(0)
		for _, p := range stats.Parts {
			require.Equal(t, at64, p.Start)
			at64 += p.Sectors
		}
		require.Equal(t, stats.Sectors, at64)
		require.Equal(t, stats.Used, free.Total(stats.spans))
		require.Equal(t, stats.Sectors, stats.Used+stats.Free)
		out := expand(t, image.Bytes())
		for _, s := range stats.spans {
			want := bytes.Clone(src[s.Start*512 : s.End*512])
			for _, z := range free.Within(stats.zeroed, s) {
				clear(want[(z.Start-s.Start)*512 : (z.End-s.Start)*512])
			}
			require.True(t, bytes.Equal(want, out[s.Start*512:s.End*512]), "%v", s)
		}
	})
}
