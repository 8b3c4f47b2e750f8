package roundtrip

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Fill makes files of all sorts below dir, about size bytes of them: empty, small, large, with holes, in folders, and a
// symbolic link unless links is false.
func Fill(t testing.TB, dir string, size int, links bool) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	for i := 0; size > 0; i++ {
		n := min(size, []int{0, 1, 700, 5000, 20000, 70000, 300000}[r.IntN(7)])
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%7), fmt.Sprintf("e%d", i%3))
		require.NoError(t, os.MkdirAll(sub, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", i)), content(uint64(i), n), 0o644))
		size -= n
	}
	f, err := os.Create(filepath.Join(dir, "holes"))
	require.NoError(t, err)
	for i := range int64(8) {
		_, err := f.WriteAt(content(uint64(i), 9000), i*70000)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	if links {
		require.NoError(t, os.Symlink("d0/e0", filepath.Join(dir, "link")))
	}
}

// content is n bytes that are the same each time.
func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1, byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b)
	return b
}

// Age changes what lies below dir as use does, with about twice size bytes: many files in two folders of which every other
// one is deleted, others that grow into the gaps, and files made shorter.
func Age(t testing.TB, dir string, size int) {
	t.Helper()
	const each = 6000
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("aged%d", i%2), fmt.Sprintf("n%d", i)) }
	for i := range 2 {
		require.NoError(t, os.MkdirAll(filepath.Dir(name(i)), 0o755))
	}
	n := size / each
	for i := range n {
		require.NoError(t, os.WriteFile(name(i), content(uint64(i), each+i%3*2000), 0o644))
	}
	for i := 0; i < n; i += 2 {
		if i%6 == 0 { // stays, and grows in two steps
			continue
		}
		require.NoError(t, os.Remove(name(i)))
	}
	for step := range 2 {
		for i := 0; i < n; i += 6 {
			f, err := os.OpenFile(name(i), os.O_WRONLY|os.O_APPEND, 0)
			require.NoError(t, err)
			_, err = f.Write(content(uint64(step), 2*each))
			require.NoError(t, err)
			require.NoError(t, f.Close())
		}
	}
	for i := 1; i < n; i += 10 {
		require.NoError(t, os.Truncate(name(i), 1000))
	}
}

// Files describes everything below dir: type, mode, size and a digest of the content or the target of a link, by path.
// lost+found and what is in it are left out.
func Files(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		if rel == "lost+found" {
			return fs.SkipDir
		}
		info, err := d.Info()
		require.NoError(t, err)
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			files[rel] = fmt.Sprintf("%v %d %x", info.Mode(), len(b), sha256.Sum256(b))
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			require.NoError(t, err)
			files[rel] = "link to " + to
		default:
			files[rel] = info.Mode().String()
		}
		return nil
	}))
	return files
}

// randomBytes are the mebibyte that noise repeats.
func randomBytes() []byte { return content(5, 1<<20) }

// noise makes a file of size random bytes.
func noise(t testing.TB, path string, size int64) {
	t.Helper()
	b := randomBytes()
	f, err := os.Create(path)
	require.NoError(t, err)
	for at := int64(0); at < size; at += int64(len(b)) {
		_, err := f.Write(b[:min(int64(len(b)), size-at)])
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
}

// sameAsNoise says whether a sector still holds what noise wrote.
func sameAsNoise(noise, sector []byte, number uint64) bool {
	at := number * uint64(len(sector)) % uint64(len(noise))
	return bytes.Equal(sector, noise[at:][:len(sector)])
}
