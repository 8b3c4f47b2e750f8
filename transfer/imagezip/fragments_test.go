package imagezip

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/ndz"
)

// fragments is the plan for runs of sectors in use with free sectors behind each.
func fragments(runs, used, empty uint64, o Options) Plan {
	e := examiner{o: o, plan: &Plan{Sectors: runs * (used + empty)}}
	for i := range runs {
		at := i * (used + empty)
		e.free.Add(free.Span{Start: at + used, End: at + used + empty})
	}
	e.plan.Parts = []Part{{Sectors: e.plan.Sectors, Kind: "ext4"}}
	e.settle()
	return *e.plan
}

// endless repeats its content, so that a disk of any size can be read.
type endless struct {
	memory
	size int64
}

func (e endless) Size() int64 { return e.size }

func (e endless) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], e.memory[(off+int64(n))%int64(len(e.memory)):])
	}
	return len(p), nil
}

// words is data that compresses as system disks do, to about two fifths.
func words(n int) memory {
	r := rand.New(rand.NewPCG(1, 2))
	dictionary := make([][]byte, 3000)
	for i := range dictionary {
		dictionary[i] = make([]byte, 3+r.IntN(9))
		for k := range dictionary[i] {
			dictionary[i][k] = byte(r.IntN(256))
		}
	}
	b := make(memory, 0, n+16)
	for len(b) < n {
		b = append(b, dictionary[int(r.ExpFloat64()*300)%len(dictionary)]...)
	}
	return b[:n]
}

// However many pieces, an image has no more than the chunks of its data and 2 KiB for each piece.
func TestManyFreeRanges(t *testing.T) {
	const runs, used = 3000, 2
	data := words(1 << 20)
	var chunks [2]int
	for i, empty := range []uint64{0, DefaultMinFree} {
		plan := fragments(runs, used, empty, Options{MinFree: DefaultMinFree})
		require.EqualValues(t, runs*used, plan.Used)
		stats, err := write(context.Background(), endless{data, int64(plan.Sectors) * 512}, io.Discard, Options{}, plan)
		require.NoError(t, err)
		chunks[i] = stats.Chunks
	}
	require.LessOrEqual(t, chunks[1], chunks[0]+runs/505+1)
	require.GreaterOrEqual(t, chunks[1], runs/505, "the case is one where the tables of regions are the limit")
	// Shorter runs are saved.
	require.Zero(t, fragments(runs, used, DefaultMinFree-1, Options{MinFree: DefaultMinFree}).Free)
}

// BenchmarkFragments captures the same amount of data in one piece and in 100,000: the time must not be much more.
func BenchmarkFragments(b *testing.B) {
	data := words(32 << 20)
	const used = 8 // sectors: blocks of 4 KiB, each with 32 KiB of free space behind it
	for _, c := range []struct{ runs, used, empty uint64 }{{1, 100000 * used, 0}, {100000, used, DefaultMinFree}} {
		b.Run(fmt.Sprintf("runs=%d", c.runs), func(b *testing.B) {
			b.SetBytes(100000 * used * ndz.SectorSize)
			for b.Loop() {
				plan := fragments(c.runs, c.used, c.empty, Options{MinFree: DefaultMinFree})
				stats, err := write(context.Background(), endless{data, int64(plan.Sectors) * 512}, io.Discard, Options{}, plan)
				require.NoError(b, err)
				b.ReportMetric(float64(stats.Chunks), "chunks")
			}
		})
	}
}

// BenchmarkCapture captures from memory with one and with two cores' worth of compression.
func BenchmarkCapture(b *testing.B) {
	data := words(64 << 20)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				_, err := Capture(context.Background(), data, io.Discard, Options{Kind: Raw, Workers: workers})
				require.NoError(b, err)
			}
		})
	}
}
