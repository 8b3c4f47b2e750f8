package install

import (
	"context"
	"path/filepath"
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
