package imagezip

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/ndz"
)

// Captured again, a filesystem of the original tool's image gives the same regions as the original tool found.
func TestSameRegionsAsOriginal(t *testing.T) {
	original := vectors.Read(t, "ndz/v3-ext4.ndz")
	unit := expand(t, original)
	var image bytes.Buffer
	stats, err := Capture(context.Background(), memory(unit), &image, Options{MinFree: DefaultMinFree})
	require.NoError(t, err)
	require.Equal(t, "ext4", stats.Kind)
	want, err := ndz.ParseHeader(original)
	require.NoError(t, err)
	got, err := ndz.ParseHeader(image.Bytes())
	require.NoError(t, err)
	require.Equal(t, want.Regions, got.Regions)
	require.Equal(t, want.Last, got.Last)
	require.True(t, bytes.Equal(unit, expand(t, image.Bytes())))
}

// Whole disks of the original tool's images, captured again: the regions it documents (ndz-format §8.2, §10), what is
// saved here besides, and what is not for being free beyond doubt.
func TestDisksOfOriginal(t *testing.T) {
	large.Test(t)
	// The original takes the start of a group without bitmap for free, where the backup of the superblock lies, and
	// saves as many sectors at its end instead (§8.4).
	backup, misplaced := free.Span{Start: 18434, End: 18628}, free.Span{Start: 34624, End: 34818}
	for _, c := range []struct {
		name, kind string
		documented []ndz.Region
		more, less []free.Span
	}{
		{"disk-mbr.ndz", "mbr", []ndz.Region{{Start: 0, Size: 63}, {Start: 2048, Size: 3962}, {Start: 34624, Size: 2242}, {Start: 51200, Size: 64},
			{Start: 67584, Size: 172}, {Start: 100352, Size: 3906}, {Start: 116738, Size: 1158}},
			[]free.Span{{Start: 63, End: 2048}, backup}, []free.Span{misplaced}},
		{"disk-gpt.ndz", "gpt", []ndz.Region{{Start: 0, Size: 6010}, {Start: 34624, Size: 2242}, {Start: 51200, Size: 64}, {Start: 67584, Size: 32768},
			{Start: 196575, Size: 33}},
			// Partition 3 was saved whole for its type, and is FAT16.
			[]free.Span{backup}, []free.Span{misplaced, {Start: 67756, End: 100352}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			original := vectors.Read(t, "ndz/"+c.name)
			h, err := ndz.ParseHeader(original)
			require.NoError(t, err)
			require.Equal(t, c.documented, h.Regions)
			disk := expand(t, original)
			plan, err := Examine(context.Background(), memory(disk), Options{MinFree: DefaultMinFree})
			require.NoError(t, err)
			require.Equal(t, c.kind, plan.Kind)
			require.Equal(t, h.Last, plan.Sectors)
			var want free.List
			for _, r := range c.documented {
				c.more = append(c.more, free.Span{Start: r.Start, End: r.End()})
			}
			for _, s := range free.Merge(c.more) {
				want.Add(s)
			}
			want.Subtract(c.less)
			require.Equal(t, want.Spans(), plan.spans)
		})
	}
}
