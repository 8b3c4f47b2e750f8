package install

import (
	"context"
	"crypto/sha256"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/transfer/disk"
	"loadnode/transfer/ndz"
)

// BenchmarkInflate is the floor of an installation: one core, nothing but inflating.
func BenchmarkInflate(b *testing.B) {
	image, m := textImage(b, 32<<20)
	buf := make([]byte, 0, wholeInflate)
	b.SetBytes(m.DataBytes)
	for b.Loop() {
		for i := range m.Chunks {
			chunk := image[i*ndz.ChunkSize : (i+1)*ndz.ChunkSize]
			h, err := ndz.ParseHeader(chunk)
			require.NoError(b, err)
			_, err = ndz.Inflate(chunk, h, buf)
			require.NoError(b, err)
		}
	}
}

// BenchmarkInstall is the whole way to a file: digests, inflating, writing, from as many goroutines as there are cores.
func BenchmarkInstall(b *testing.B) {
	image, m := textImage(b, 32<<20)
	path := filepath.Join(b.TempDir(), "disk")
	b.SetBytes(m.DataBytes)
	for b.Loop() {
		target, err := disk.Open(path, disk.Options{Create: true})
		require.NoError(b, err)
		in, err := New(Config{Target: target, Manifest: m})
		require.NoError(b, err)
		installAll(b, in, image)
		_, err = in.Finish(context.Background())
		require.NoError(b, err)
		require.NoError(b, target.Close())
	}
}

// null is a disk that takes everything and keeps nothing.
type null struct{ size int64 }

func (null) ReadAt(p []byte, _ int64) (int, error)  { clear(p); return len(p), nil }
func (null) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (n null) Size() int64                          { return n.size }
func (null) Fixed() bool                            { return true }
func (null) Extend(int64) error                     { return nil }
func (null) Zero(int64, int64) error                { return nil }
func (null) Sync() error                            { return nil }
func (null) Close() error                           { return nil }

// treeImage is an image of the files of the Go tree, each at a multiple of 4096, made at level 4: what chunks of an
// operating system are like.
func treeImage(b *testing.B, size int) ([]byte, *ndz.Manifest) {
	root := build.Default.GOROOT
	program, err := os.ReadFile(filepath.Join(root, "bin", "go"))
	if err != nil {
		b.Skipf("no Go tree to make an image of: %v", err)
	}
	u := unit{data: program[:min(len(program), size/3)&^4095], inUse: make([]bool, size/ndz.SectorSize)}
	require.NoError(b, filepath.WalkDir(filepath.Join(root, "src"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if len(u.data) >= size {
			return fs.SkipAll
		}
		p, err := os.ReadFile(path)
		u.data = append(append(u.data, p...), make([]byte, -len(p)&4095)...)
		return err
	}))
	for i := range u.inUse {
		u.inUse[i] = i*ndz.SectorSize < len(u.data)
	}
	return u.image(b, 4)
}

// cpuTime is what this process has used so far, in nanoseconds.
func cpuTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkPipeline is the whole way of a chunk from memory to a disk that costs nothing - digest of the chunk,
// inflating, digest of the data, writing - with as many cores as workers.
func BenchmarkPipeline(b *testing.B) {
	// So many times the same image that it does not matter whose chunk is the last one.
	const rounds = 5
	image, m := treeImage(b, 32<<20)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers))
			in, err := New(Config{Target: null{1 << 40}, Manifest: m})
			require.NoError(b, err)
			b.SetBytes(rounds * m.DataBytes)
			b.ReportAllocs()
			pass := func() {
				var next atomic.Int64
				var wg sync.WaitGroup
				for range workers {
					wg.Go(func() {
						for {
							i := int(next.Add(1)) - 1
							if i >= rounds*len(m.Chunks) {
								return
							}
							i %= len(m.Chunks)
							in.mu.Lock()
							delete(in.chunks, i) // it comes again
							in.mu.Unlock()
							if err := in.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize]); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			}
			pass() // makes the buffers, which stay for as long as an installation
			before := cpuTime()
			for b.Loop() {
				pass()
			}
			// On a machine with other work this says more than the time.
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/float64(rounds*len(m.Chunks))/1e6, "cpu-ms/chunk")
		})
	}
}

// BenchmarkStages are the parts of the pipeline one by one, on one core.
func BenchmarkStages(b *testing.B) {
	image, m := treeImage(b, 32<<20)
	chunk := func(i int) []byte { return image[i*ndz.ChunkSize : (i+1)*ndz.ChunkSize] }
	buf := make([]byte, 0, wholeInflate)
	var datas [][]byte
	for i := range m.Chunks {
		h, err := ndz.ParseHeader(chunk(i))
		require.NoError(b, err)
		data, err := ndz.Inflate(chunk(i), h, nil)
		require.NoError(b, err)
		datas = append(datas, data)
	}
	for _, s := range []struct {
		name string
		do   func(i int)
	}{
		{"chunk digest", func(i int) { _ = m.CheckChunk(i, chunk(i)) }},
		{"inflate", func(i int) {
			h, _ := ndz.ParseHeader(chunk(i))
			_, _ = ndz.Inflate(chunk(i), h, buf)
		}},
		{"data digest", func(i int) { _ = sha256.Sum256(datas[i]) }},
	} {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(m.DataBytes)
			before := cpuTime()
			for b.Loop() {
				for i := range m.Chunks {
					s.do(i)
				}
			}
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N)/float64(len(m.Chunks))/1e6, "cpu-ms/chunk")
		})
	}
}
