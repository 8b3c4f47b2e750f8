package ndz

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkBuildManifest is what adding an image costs: two digests and inflating, on all cores.
func BenchmarkBuildManifest(b *testing.B) {
	data := corpus(b)
	for len(data) < 128<<20 { // so many chunks that the last one does not count
		data = append(data, data...)
	}
	var image bytes.Buffer
	w, err := NewWriter(WriterConfig{Output: &image, Level: 4})
	require.NoError(b, err)
	require.NoError(b, w.Append(0, data))
	require.NoError(b, w.Finish(uint64(len(data)/SectorSize), 0))
	for _, cores := range []int{1, 2} {
		b.Run(fmt.Sprintf("cores=%d", cores), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			b.SetBytes(int64(len(data)))
			before := cpuTime()
			for b.Loop() {
				_, err := BuildManifest(context.Background(), bytes.NewReader(image.Bytes()), int64(image.Len()))
				require.NoError(b, err)
			}
			// On a machine with other work this says more than the time.
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/float64(image.Len()/ChunkSize)/1e6, "cpu-ms/chunk")
		})
	}
}

// cpuTime is what this process has used so far, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
