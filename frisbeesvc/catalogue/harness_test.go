package catalogue

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// makeImage writes an image with so many MiB of data that do not compress.
func makeImage(t testing.TB, seed byte, mib int) []byte {
	t.Helper()
	data := ndztest.Noise(uint64(seed), mib<<20)
	return ndztest.Image(t, uint64(64+len(data)/ndz.SectorSize), ndztest.Run{Sector: 64, Data: data})
}

// recorder keeps what an Observer is told.
type recorder struct {
	mu      sync.Mutex
	added   []string
	damaged []*DamagedError
}

func (r *recorder) Added(im Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.added = append(r.added, im.Name)
}

func (r *recorder) Damaged(d *DamagedError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.damaged = append(r.damaged, d)
}

func (r *recorder) counts() (added, damaged int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.added), len(r.damaged)
}

func openDir(t testing.TB, dir string, change ...func(*Config)) (*Catalogue, *recorder) {
	t.Helper()
	rec := &recorder{}
	cfg := Config{Dir: dir, Observer: rec}
	for _, f := range change {
		f(&cfg)
	}
	c, err := Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c, rec
}

func put(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
	require.NoError(t, os.WriteFile(p, data, 0o644))
	return p
}

// flip changes one bit of a file. With quietly, the modification time is set
// back afterwards.
func flip(t testing.TB, path string, off int64, quietly bool) {
	t.Helper()
	fi, err := os.Stat(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], off)
	require.NoError(t, err)
	b[0] ^= 4
	_, err = f.WriteAt(b[:], off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	if quietly {
		require.NoError(t, os.Chtimes(path, fi.ModTime(), fi.ModTime()))
	}
}

func visible(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
		}
		return err
	}))
	return names
}
