package ndz

import (
	"compress/zlib"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/vectors"
	"loadnode/transfer/internal/large"
)

// corpus is what compression is measured with: the file that NDZ_CORPUS names, or the restored disk of a vector.
func corpus(t testing.TB) []byte {
	if name := os.Getenv("NDZ_CORPUS"); name != "" {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		return data[:len(data)/SectorSize*SectorSize]
	}
	return restore(t, vectors.Read(t, "ndz/v3-ext4.ndz"))
}

// counter counts what is written.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// zlibSize is what the zlib of the standard library makes of data, flushed as the original writer does (§3).
func zlibSize(t testing.TB, data []byte, level int) int {
	var out counter
	w, err := zlib.NewWriterLevel(&out, level)
	require.NoError(t, err)
	for p := data; len(p) > 0; {
		n := min(len(p), 128<<10)
		_, err := w.Write(p[:n])
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		p = p[n:]
	}
	require.NoError(t, w.Close())
	return out.n
}

// Each level gives what its name promises: not more than zlib makes of the same data. Its implementation in the standard
// library is not that of the original, and a little better or worse.
func TestLevels(t *testing.T) {
	large.Test(t)
	data := corpus(t)
	data = data[:min(len(data), 1<<20)]
	last := len(data)
	for _, level := range []int{1, 4, 6, 9} {
		w, err := NewWriter(WriterConfig{Output: io.Discard, Level: level})
		require.NoError(t, err)
		require.NoError(t, w.Append(0, data))
		require.NoError(t, w.Finish(uint64(len(data)/SectorSize), 0))
		size := int(w.Stats().PayloadSize)
		require.LessOrEqual(t, size, zlibSize(t, data, level)*1005/1000, "level %d", level)
		require.LessOrEqual(t, size, last, "level %d is not worse than the one before", level)
		last = size
	}
}

// BenchmarkLevels shows what each level makes of a corpus (payload bytes, without headers and padding), beside what
// the zlib of the standard library does.
func BenchmarkLevels(b *testing.B) {
	data := corpus(b)
	for level := 1; level <= 9; level++ {
		b.Run(fmt.Sprintf("ndz=%d", level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			var stats WriterStats
			for b.Loop() {
				w, err := NewWriter(WriterConfig{Output: io.Discard, Level: level, Workers: 1})
				require.NoError(b, err)
				require.NoError(b, w.Append(0, data))
				require.NoError(b, w.Finish(uint64(len(data)/SectorSize), 0))
				stats = w.Stats()
			}
			b.ReportMetric(float64(stats.PayloadSize), "payload-bytes")
			b.ReportMetric(float64(stats.Chunks), "chunks")
		})
		b.Run(fmt.Sprintf("zlib=%d", level), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			n := 0
			for b.Loop() {
				n = zlibSize(b, data, level)
			}
			b.ReportMetric(float64(n), "payload-bytes")
		})
	}
}
