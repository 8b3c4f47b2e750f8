package ndz

import (
	"compress/zlib"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// corpus is what compression is measured with: the file that NDZ_CORPUS names, or the restored disk of a vector.
func corpus(b *testing.B) []byte {
	if name := os.Getenv("NDZ_CORPUS"); name != "" {
		data, err := os.ReadFile(name)
		require.NoError(b, err)
		return data[:len(data)/SectorSize*SectorSize]
	}
	return restore(b, vector(b, "v3-ext4.ndz"))
}

// counter counts what is written.
type counter struct{ n int }

func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// BenchmarkLevels shows what each level makes of a corpus (payload bytes, without headers and padding), beside what
// the zlib of the standard library does, flushed as the original writer does (§3).
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
			var out counter
			for b.Loop() {
				out = counter{}
				w, err := zlib.NewWriterLevel(&out, level)
				require.NoError(b, err)
				for p := data; len(p) > 0; {
					n := min(len(p), 128<<10)
					w.Write(p[:n])
					require.NoError(b, w.Flush())
					p = p[n:]
				}
				require.NoError(b, w.Close())
			}
			b.ReportMetric(float64(out.n), "payload-bytes")
		})
	}
}
