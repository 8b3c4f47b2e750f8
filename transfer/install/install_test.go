package install

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"loadnode/internal/vectors"
	"loadnode/transfer/disk"
	"loadnode/transfer/internal/large"
	"loadnode/transfer/ndz"
)

func TestMain(m *testing.M) {
	// Each case moves megabytes; -rapid.checks on the command line asks for more.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// installAll hands over all chunks from several goroutines, in a shuffled order.
func installAll(t require.TestingT, in *Installer, image []byte) {
	order := rand.New(rand.NewPCG(3, 4)).Perm(len(image) / ndz.ChunkSize)
	work := make(chan int)
	errs := make(chan error, len(order))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for i := range work {
				errs <- in.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize])
			}
		})
	}
	for _, i := range order {
		work <- i
	}
	close(work)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
}

func TestInstall(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		u := randomUnit(rapid.SampledFrom([]int{1, 100, 700, 5000}).Draw(rt, "sectors"), rapid.Uint64().Draw(rt, "seed"))
		image, m := u.image(rt, rapid.SampledFrom([]int{ndz.Stored, 4}).Draw(rt, "level"))
		fill := rapid.SampledFrom([]Fill{Skip, Zero, Pattern}).Draw(rt, "fill")
		off := 512 * rapid.SampledFrom([]int{0, 0, 63, 1000}).Draw(rt, "offset sectors")
		after := 512 * rapid.IntRange(0, 20).Draw(rt, "sectors after")
		target := newMemory(off + len(u.data) + after)
		before := bytes.Clone(target.data)
		cfg := Config{Target: target, Offset: int64(off), Fill: fill, Pattern: 0xcafe1234,
			ReadBack: rapid.Bool().Draw(rt, "readback"), FillRest: rapid.Bool().Draw(rt, "rest")}
		if rapid.Bool().Draw(rt, "manifest") {
			cfg.Manifest = m
		}
		in, err := New(cfg)
		require.NoError(rt, err)
		installAll(rt, in, image)
		res, err := in.Finish(context.Background())
		require.NoError(rt, err)

		want := u.over(before, off, someFill(fill))
		if cfg.FillRest {
			someFill(fill)(want[off+len(u.data):])
		}
		require.True(rt, bytes.Equal(want, target.data))
		require.Equal(rt, m.DataBytes, res.BytesWritten)
		require.EqualValues(rt, len(u.data), res.BytesDescribed)
		require.Equal(rt, 1, target.syncs)
		require.Equal(rt, map[bool]string{true: "readback", false: "written"}[cfg.ReadBack], res.Assurance)
		if cfg.Manifest != nil {
			require.Equal(rt, m.DataDigest(), res.DataDigest)
		}
		s := in.Stats()
		require.Equal(rt, len(m.Chunks), s.Chunks)
		require.EqualValues(rt, len(u.data), s.BytesCovered)
	})
}

// Images of the original tools must come out as the original tools write them.
func TestInstallVectors(t *testing.T) {
	large.Test(t)
	for _, v := range []struct {
		name, sum   string
		size        int64
		undescribed bool
	}{
		{"v1-ext4.ndz", "2543aa4fc94c9f05ed647d65e1bb3f9be33eb56af9721ca04414935fecf77413", 1039360, true},
		{"v2-ext2.ndz", "26c553c5651e39bcea45edc7fa01ca967890ba54fabd3ddbe00e6d92c9f5f1ae", 1036288, false},
		{"v3-ext4.ndz", "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275", 8388608, false},
		{"v4-uuid-ext4.ndz", "36c681d81ddcdd89f1976f56d980804149c9826f0ca91215897445294bad2275", 8388608, false},
		{"v3-short-sector.ndz", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 5, false},
		{"disk-mbr.ndz", "e0ed19cebcda8eac84f528b81965786577c3d263784fbbb9f99a6f21d173361b", 100663296, false},
		{"disk-gpt.ndz", "8d1c27b791c1304f1f86b6faff1e02b7d1e957ea107c5e2aa78c8e31a142411a", 100663296, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			image := vectors.Read(t, "ndz/"+v.name)
			m, err := ndz.BuildManifest(context.Background(), bytes.NewReader(image), int64(len(image)))
			require.NoError(t, err)
			path := filepath.Join(t.TempDir(), "out")
			target, err := disk.Open(path, disk.Options{Create: true})
			require.NoError(t, err)
			defer target.Close()
			in, err := New(Config{Target: target, Manifest: m, Fill: Zero, ReadBack: true})
			require.NoError(t, err)
			installAll(t, in, image)
			res, err := in.Finish(context.Background())
			require.NoError(t, err)
			require.Equal(t, v.size, res.BytesDescribed)
			require.Equal(t, v.undescribed, res.Undescribed)
			out, err := os.Open(path)
			require.NoError(t, err)
			defer out.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, out)
			require.NoError(t, err)
			require.Equal(t, v.size, n)
			require.Equal(t, v.sum, ndz.Digest(sum.Sum(nil)).String())

			sum.Reset()
			s := NewStream(sum, 0, true)
			require.NoError(t, s.Install(context.Background(), 0, image))
			res, err = s.Finish()
			require.NoError(t, err)
			require.Equal(t, v.size, res.BytesDescribed)
			require.Equal(t, v.sum, ndz.Digest(sum.Sum(nil)).String())
		})
	}
}

// asV1 rewrites a V3 chunk as V1: no description of free space around the regions (§2).
func asV1(chunk []byte) []byte {
	c := bytes.Clone(chunk)
	c[0] = 0x69
	n := int(c[20]) * 8
	copy(c[24:], chunk[36:36+n])
	clear(c[24+n : 36+n])
	return c
}

// V1 chunks describe what is free between their regions, not what lies between chunks or at the end.
func TestV1LeavesWhatItDoesNotDescribe(t *testing.T) {
	u := unit{data: bytes.Repeat([]byte{0x11}, 1000*512), inUse: make([]bool, 1000)}
	images := [][]byte{}
	for _, used := range [][]int{{10, 20}, {100, 110}} {
		one := unit{data: u.data, inUse: make([]bool, 1000)}
		for _, i := range used {
			one.inUse[i], u.inUse[i] = true, true
		}
		image, _ := one.image(t, 4)
		require.Len(t, image, ndz.ChunkSize)
		images = append(images, asV1(image))
	}
	target := newMemory(1000 * 512)
	before := bytes.Clone(target.data)
	in, err := New(Config{Target: target, Fill: Zero, ReadBack: true})
	require.NoError(t, err)
	require.NoError(t, in.Install(context.Background(), 1, images[1]))
	require.NoError(t, in.Install(context.Background(), 0, images[0]))
	res, err := in.Finish(context.Background())
	require.NoError(t, err)
	require.True(t, res.Undescribed)
	require.EqualValues(t, 111*512, res.BytesDescribed)
	for i := range 1000 {
		got, want := target.data[i*512:(i+1)*512], before[i*512:(i+1)*512]
		switch {
		case u.inUse[i]:
			want = u.data[:512]
		case i > 10 && i < 20 || i > 100 && i < 110:
			want = make([]byte, 512)
		}
		require.Equal(t, want, got, "sector %d", i)
	}
}

// A damaged chunk must be noticed before a single byte is written, with and without a manifest, small or large.
func TestCorruptChunkWritesNothing(t *testing.T) {
	large.Test(t)
	random, rm := randomUnit(5000, 1).image(t, 4)
	var zeros bytes.Buffer // one chunk that inflates to more than is held in memory
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &zeros, Level: 4})
	require.NoError(t, err)
	const sectors = (wholeInflate + 3*pieceSize/2) / 512
	require.NoError(t, w.Append(0, make([]byte, sectors*512)))
	require.NoError(t, w.Finish(sectors, 0))
	zm, err := ndz.BuildManifest(context.Background(), bytes.NewReader(zeros.Bytes()), int64(zeros.Len()))
	require.NoError(t, err)
	payload := func(image []byte) int {
		h, err := ndz.ParseHeader(image)
		require.NoError(t, err)
		return ndz.HeaderSize + h.PayloadSize
	}
	for _, c := range []struct {
		name  string
		image []byte
		m     *ndz.Manifest
	}{
		{"random", random[:ndz.ChunkSize], nil}, {"random with manifest", random[:ndz.ChunkSize], rm},
		{"zeros", zeros.Bytes(), nil}, {"zeros with manifest", zeros.Bytes(), zm},
	} {
		places := []int{0, 5, ndz.HeaderSize, payload(c.image) / 2, payload(c.image) - 1}
		if c.m != nil { // a wrong sector number, and the padding: only a manifest can tell
			places = append(places, 36, ndz.ChunkSize-1)
		}
		for _, at := range places {
			t.Run(fmt.Sprintf("%s byte %d", c.name, at), func(t *testing.T) {
				target := newMemory(wholeInflate + 2*pieceSize)
				before := bytes.Clone(target.data)
				in, err := New(Config{Target: target, Manifest: c.m, Fill: Zero})
				require.NoError(t, err)
				bad := bytes.Clone(c.image)
				bad[at] ^= 0xff
				err = in.Install(context.Background(), 0, bad)
				var corrupt *ndz.CorruptError
				require.ErrorAs(t, err, &corrupt)
				require.Equal(t, 0, corrupt.Chunk)
				require.True(t, bytes.Equal(before, target.data), "something was written")
				require.Zero(t, in.Stats())
				if c.m != nil {
					require.NoError(t, in.Install(context.Background(), 0, c.image), "the right chunk must be taken afterwards")
				}
			})
		}
	}
}

// Bytes that are right and inflate to something else: a machine with bad memory must not write that.
func TestWrongDataWritesNothing(t *testing.T) {
	u := randomUnit(100, 1)
	image, m := u.image(t, 4)
	m.Chunks[0].DataSHA256[5] ^= 1
	target := newMemory(len(u.data))
	before := bytes.Clone(target.data)
	in, err := New(Config{Target: target, Manifest: m})
	require.NoError(t, err)
	err = in.Install(context.Background(), 0, image)
	var corrupt *ndz.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.ErrorContains(t, err, "inflates to data")
	require.Equal(t, before, target.data)
}

// A chunk that is larger than memory allows is written in pieces.
func TestLargeChunk(t *testing.T) {
	var image bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &image, Level: 4})
	require.NoError(t, err)
	data := bytes.Repeat([]byte("0123456789abcdef"), (wholeInflate+3*pieceSize/2)/16)
	half := len(data)/512/2 + 77
	require.NoError(t, w.Append(3, data[:half*512]))
	require.NoError(t, w.Append(uint64(half+10), data[half*512:]))
	end := len(data)/512 + 10
	require.NoError(t, w.Finish(uint64(end), 0))
	require.Equal(t, ndz.ChunkSize, image.Len())

	target := newMemory(end * 512)
	want := bytes.Clone(target.data)
	copy(want[3*512:], data[:half*512])
	copy(want[(half+10)*512:], data[half*512:])
	clear(want[:3*512])
	clear(want[(half+3)*512 : (half+10)*512])
	in, err := New(Config{Target: target, Fill: Zero, ReadBack: true})
	require.NoError(t, err)
	require.NoError(t, in.Install(context.Background(), 0, image.Bytes()))
	_, err = in.Finish(context.Background())
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, target.data))
}

func TestWriteErrors(t *testing.T) {
	u := randomUnit(5000, 5)
	image, m := u.image(t, 4)
	used, free := -1, -1
	for i := 3000; i < len(u.inUse) && (used < 0 || free < 0); i++ {
		if u.inUse[i] {
			used = i
		} else {
			free = i
		}
	}
	for _, c := range []struct {
		name string
		at   int64
		fill Fill
		err  error
	}{
		{"data", int64(used)*512 + 100, Skip, syscall.EIO},
		{"zeroing", int64(free)*512 + 100, Zero, syscall.EIO},
		{"pattern", int64(free)*512 + 100, Pattern, syscall.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := newMemory(len(u.data))
			target.failAt, target.fail = c.at, c.err
			in, err := New(Config{Target: target, Manifest: m, Fill: c.fill})
			require.NoError(t, err)
			var first error
			for i := range m.Chunks {
				if err := in.Install(context.Background(), i, image[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize]); err != nil && first == nil {
					first = err
				}
			}
			var we *WriteError
			require.ErrorAs(t, first, &we)
			require.ErrorIs(t, first, c.err)
			require.LessOrEqual(t, we.Off, c.at)
			require.Greater(t, we.Off+we.Len, c.at, "the range must contain the bad byte")
			_, err = in.Finish(context.Background())
			require.ErrorIs(t, err, ErrIncomplete)
		})
	}
}

// The disk changes between writing and the end: read-back must say where.
func TestReadBackFindsOneBit(t *testing.T) {
	large.Test(t)
	u := randomUnit(5000, 6)
	image, m := u.image(t, 4)
	require.Greater(t, len(m.Chunks), 1)
	r := rand.New(rand.NewPCG(8, 9))
	for range 40 {
		fill := []Fill{Skip, Zero, Pattern}[r.IntN(3)]
		path := filepath.Join(t.TempDir(), "disk")
		target, err := disk.Open(path, disk.Options{Create: true})
		require.NoError(t, err)
		in, err := New(Config{Target: target, Manifest: m, Fill: fill, Pattern: 0xcafe1234, ReadBack: true, Offset: 512 * 5})
		require.NoError(t, err)
		installAll(t, in, image)

		sector := r.IntN(len(u.inUse))
		at := int64(512*5 + sector*512 + r.IntN(512))
		var b [1]byte
		if _, err := target.ReadAt(b[:], at); err != nil { // free space behind the last data, not there yet
			require.False(t, u.inUse[sector])
		}
		b[0] ^= 1 << r.IntN(8)
		_, err = target.WriteAt(b[:], at)
		require.NoError(t, err)

		_, err = in.Finish(context.Background())
		if !u.inUse[sector] && fill == Skip {
			require.NoError(t, err, "free space that was not written is not looked at")
			require.NoError(t, target.Close())
			continue
		}
		var bad *ReadBackError
		require.ErrorAs(t, err, &bad)
		require.LessOrEqual(t, bad.First, at)
		require.Greater(t, bad.Last, at)
		require.LessOrEqual(t, bad.Last-bad.First, int64(readBackSize))
		require.Equal(t, 1, bad.Ranges)
		c := m.Chunks[bad.Chunk]
		require.GreaterOrEqual(t, uint64(sector), c.First)
		require.Less(t, uint64(sector), c.Last)
		require.NoError(t, target.Close())
	}
}

func TestReadBackReportsTheFirstOfMany(t *testing.T) {
	u := randomUnit(9000, 6)
	for i := range u.inUse {
		u.inUse[i] = true
	}
	image, m := u.image(t, 4)
	target := newMemory(len(u.data))
	in, err := New(Config{Target: target, Manifest: m, ReadBack: true})
	require.NoError(t, err)
	installAll(t, in, image)
	for _, at := range []int{4000000, 300000, 1000000, 300001} {
		target.data[at] ^= 0x80
	}
	_, err = in.Finish(context.Background())
	var bad *ReadBackError
	require.ErrorAs(t, err, &bad)
	require.Equal(t, 3, bad.Ranges)
	require.EqualValues(t, 300000/readBackSize*readBackSize, bad.First)
	require.ErrorContains(t, err, "2 more ranges")
}

func TestDuplicatesAndIncomplete(t *testing.T) {
	u := randomUnit(5000, 2)
	image, m := u.image(t, 4)
	target := newMemory(len(u.data))
	in, err := New(Config{Target: target, Manifest: m})
	require.NoError(t, err)
	ctx := context.Background()
	_, err = in.Finish(ctx)
	require.ErrorIs(t, err, ErrIncomplete)
	require.NoError(t, in.Install(ctx, 1, image[ndz.ChunkSize:2*ndz.ChunkSize]))
	target.data = bytes.Clone(target.data)
	for range 3 {
		require.NoError(t, in.Install(ctx, 1, image[ndz.ChunkSize:2*ndz.ChunkSize]))
	}
	require.Equal(t, 3, in.Stats().Duplicates)
	require.Equal(t, 1, in.Stats().Chunks)
	_, err = in.Finish(ctx)
	require.ErrorIs(t, err, ErrIncomplete)
	require.ErrorContains(t, err, fmt.Sprintf("%d of %d chunks are missing, the first is 0", len(m.Chunks)-1, len(m.Chunks)))
	require.Error(t, in.Install(ctx, len(m.Chunks), image[:ndz.ChunkSize]))
	require.Error(t, in.Install(ctx, -1, image[:ndz.ChunkSize]))
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, in.Install(canceled, 0, image[:ndz.ChunkSize]), context.Canceled)
}

func TestTooLarge(t *testing.T) {
	u := randomUnit(100, 2)
	image, m := u.image(t, 4)
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"disk", Config{Target: newMemory(99 * 512)}},
		{"disk with offset", Config{Target: newMemory(100 * 512), Offset: 512}},
		{"offset behind the disk", Config{Target: newMemory(100 * 512), Offset: 1 << 20}},
		{"slice", Config{Target: newMemory(200 * 512), Limit: 99 * 512}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := bytes.Clone(c.cfg.Target.(*memory).data)
			in, err := New(c.cfg)
			require.NoError(t, err)
			require.ErrorIs(t, in.Install(context.Background(), 0, image), ErrTooLarge)
			require.Equal(t, before, c.cfg.Target.(*memory).data)
			c.cfg.Manifest = m
			_, err = New(c.cfg)
			require.ErrorIs(t, err, ErrTooLarge)
		})
	}
}

// An output file becomes as long as the image describes, also when free space at its end is skipped.
func TestExtend(t *testing.T) {
	u := unit{data: make([]byte, 1000*512), inUse: make([]bool, 1000)}
	u.inUse[3] = true
	image, _ := u.image(t, 4)
	for _, c := range []struct {
		noExtend bool
		size     int
	}{{false, 1000 * 512}, {true, 4 * 512}} {
		target := newMemory(0)
		target.fixed = false
		in, err := New(Config{Target: target, NoExtend: c.noExtend})
		require.NoError(t, err)
		require.NoError(t, in.Install(context.Background(), 0, image))
		_, err = in.Finish(context.Background())
		require.NoError(t, err)
		require.Len(t, target.data, c.size)
	}
}

func TestStreamRefusesDisorder(t *testing.T) {
	image, _ := randomUnit(5000, 3).image(t, 4)
	s := NewStream(new(bytes.Buffer), 0, true)
	ctx := context.Background()
	_, err := s.Finish()
	require.ErrorIs(t, err, ErrIncomplete)
	require.NoError(t, s.Install(ctx, 1, image[ndz.ChunkSize:2*ndz.ChunkSize]))
	require.ErrorContains(t, s.Install(ctx, 0, image[:ndz.ChunkSize]), "positioned")
}
