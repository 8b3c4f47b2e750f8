package catalogue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/events"
	"loadnode/internal/vectors"
	"loadnode/transfer/ndz"
)

var update = flag.Bool("update", false, "write the golden files anew")

var captured = Capture{Owner: "mike", Provenance: Provenance{Lease: "01hzzzzzzzzzzzzzzzzzzzzzz1:1", Provenance: events.Provenance{
	Testbed: "default", Job: "01hzzzzzzzzzzzzzzzzzzzzzz1", Node: "n1-1", Disk: "/dev/sda", Requester: "mike",
	Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}}

func withCheck(err error) Capture {
	c := captured
	c.Check = func(int64, ndz.Digest) error { return err }
	return c
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 2)
	now := func(c *Config) { c.Now = func() time.Time { return time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC) } }
	c, rec := openDir(t, dir, now)
	checked := captured
	var size int64
	var digest ndz.Digest
	checked.Check = func(n int64, d ndz.Digest) error { size, digest = n, d; return nil }
	im, err := c.Save(t.Context(), "lab/a.ndz", checked, bytes.NewReader(data))
	require.NoError(t, err)
	require.EqualValues(t, len(data), size)
	require.Equal(t, *digestOf(data), digest)
	require.Equal(t, OriginSave, im.Origin)
	require.Equal(t, &checked.Provenance, im.Provenance)
	require.Equal(t, []string{"lab/a.ndz", "lab/a.ndz.manifest.json"}, visible(t, dir))
	require.NotNil(t, c.fresh("lab/a.ndz"), "it is not read again")
	require.Equal(t, []string{"lab/a.ndz"}, rec.added)
	_, err = c.Save(t.Context(), "lab/a.ndz", checked, bytes.NewReader(data))
	require.ErrorIs(t, err, ErrExists)
	require.ErrorIs(t, c.Vacant("lab/a.ndz"), ErrExists)
	require.ErrorIs(t, c.Vacant("lab"), ErrExists)
	require.NoError(t, c.Vacant("lab/b.ndz"))

	// The golden manifest: what is beside the image, without the stamp of the file.
	raw, err := os.ReadFile(filepath.Join(dir, "lab/a.ndz.manifest.json"))
	require.NoError(t, err)
	var beside map[string]any
	require.NoError(t, json.Unmarshal(raw, &beside))
	delete(beside, "file")
	got, err := json.MarshalIndent(beside, "", " ")
	require.NoError(t, err)
	golden := filepath.Join("testdata", "saved.manifest.json")
	if *update {
		require.NoError(t, os.WriteFile(golden, append(got, '\n'), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.JSONEq(t, string(want), string(got))
	_, err = ndz.DecodeManifest(bytes.NewReader(raw))
	require.NoError(t, err, "it is a manifest for everybody else")

	require.NoError(t, c.Close())
	c, _ = openDir(t, dir)
	again, err := c.Get(t.Context(), "lab/a.ndz")
	require.NoError(t, err)
	require.Equal(t, im, again, "it is known again after a restart")
}

func TestSaveLeavesNothing(t *testing.T) {
	data := makeImage(t, 1, 2)
	broken := errors.New("broken")
	full := func(c *Config) { c.Free = func() (int64, error) { return 64 << 20, nil } }
	for name, tc := range map[string]struct {
		what   Capture
		body   io.Reader
		change func(*Config)
		want   error
	}{
		"broken off":          {withCheck(nil), io.MultiReader(bytes.NewReader(data[:999]), iotest.ErrReader(broken)), nil, ErrIncomplete},
		"not what was sent":   {withCheck(broken), bytes.NewReader(data), nil, broken},
		"garbage":             {withCheck(nil), bytes.NewReader(make([]byte, 1<<20)), nil, ErrInvalid},
		"a full disk":         {withCheck(nil), bytes.NewReader(data), full, ErrSpace},
		"truncated":           {captured, bytes.NewReader(data[:1<<20]), nil, ErrTruncated},
		"truncated in chunks": {captured, bytes.NewReader(data[:1<<20+1]), nil, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c, rec := openDir(t, dir, func(cfg *Config) {
				if tc.change != nil {
					tc.change(cfg)
				}
			})
			_, err := c.Save(t.Context(), "a.ndz", tc.what, tc.body)
			require.ErrorIs(t, err, tc.want)
			list, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Empty(t, list)
			require.Empty(t, rec.added)
		})
	}
}

// A crash between record and name leaves a record that Scan tidies up; one
// after the name leaves an image that knows where it comes from.
func TestSaveAndCrashes(t *testing.T) {
	dir := t.TempDir()
	data := makeImage(t, 1, 2)
	c, _ := openDir(t, dir)
	saved, err := c.Save(t.Context(), "a.ndz", withCheck(nil), bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	image, hidden := filepath.Join(dir, "a.ndz"), filepath.Join(dir, ".a.ndz.saving")

	require.NoError(t, os.Link(image, hidden)) // after the new name, before the old one went
	c, _ = openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	im, err := c.Get(t.Context(), "a.ndz")
	require.NoError(t, err)
	require.Equal(t, saved.Provenance, im.Provenance)
	require.Equal(t, saved.Digest, im.Digest)
	require.Equal(t, []string{"a.ndz", "a.ndz.manifest.json"}, visible(t, dir))
	require.NoFileExists(t, hidden)
	require.NoError(t, c.Close())

	require.NoError(t, os.Rename(image, hidden)) // before the new name
	c, _ = openDir(t, dir)
	require.NoError(t, c.Scan(t.Context()))
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, list)
}

// writeImage makes an image of runs of sectors with data that do not compress.
func writeImage(t *testing.T, version int, end uint64, runs map[uint64][]byte, order ...uint64) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	defer f.Close()
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: f, Level: 1, Version: version, Totals: f})
	require.NoError(t, err)
	for _, at := range order {
		require.NoError(t, w.Append(at, runs[at]))
	}
	require.NoError(t, w.Finish(end, 0))
	data, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	return data
}

// mbr is a boot sector with partitions given by start and length.
func mbr(parts ...[2]uint32) []byte {
	b := make([]byte, 512)
	for i, p := range parts {
		e := b[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], p[0])
		binary.LittleEndian.PutUint32(e[12:], p[1])
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestTruncated(t *testing.T) {
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	disk := func(parts ...[2]uint32) []byte {
		return writeImage(t, 3, 20000, map[uint64][]byte{0: mbr(parts...), 64: noise}, 0, 64)
	}
	first := func(data []byte) []byte { return data[:ndz.ChunkSize] }
	vector := func(name string) []byte { return vectors.Read(t, "ndz/"+name) }
	described := func(data []byte) uint64 {
		h, err := ndz.ParseHeader(data)
		require.NoError(t, err)
		return h.Last
	}
	cut := described(disk([2]uint32{64, 9000}))
	for name, c := range map[string]struct {
		data []byte
		says string // "" if it is whole
	}{
		"whole":                      {disk([2]uint32{64, 9000}), ""},
		"V1, whole":                  {writeImage(t, 1, 9000, map[uint64][]byte{64: noise}, 64), ""},
		"V1, cut":                    {first(writeImage(t, 1, 9000, map[uint64][]byte{64: noise}, 64)), "chunks"},
		"V3 without a table, cut":    {first(writeImage(t, 3, 9000, map[uint64][]byte{64: noise}, 64)), "nothing in it says"},
		"a partition is missing":     {first(disk([2]uint32{64, 100}, [2]uint32{6000, 1000})), "partition 2 begins"},
		"a partition is cut":         {first(disk([2]uint32{64, 9000})), "nothing in it says"},
		"all partitions are there":   {first(disk([2]uint32{64, uint32(cut) - 64})), ""},
		"partitions over each other": {first(disk([2]uint32{64, 1000}, [2]uint32{100, 1000})), "partition table"},
		"vector: MBR":                {vector("disk-mbr.ndz"), ""},
		"vector: GPT":                {vector("disk-gpt.ndz"), ""},
		"vector: V1":                 {vector("v1-ext4.ndz"), ""},
		"vector: V2 of the OMF era":  {vector("v2-ext2.ndz"), ""},
		"vector: V4":                 {vector("v4-uuid-ext4.ndz"), ""},
		"vector: short last sector":  {vector("v3-short-sector.ndz"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(c.data), int64(len(c.data)))
			require.NoError(t, err)
			err = Truncated(t.Context(), bytes.NewReader(c.data), m)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrTruncated)
			require.ErrorContains(t, err, c.says)
		})
	}
}

// Cut after any chunk, an image of a real filesystem is never taken for whole
// as long as a used block is missing.
func TestTruncatedFilesystem(t *testing.T) {
	data := vectors.Read(t, "ndz/v3-ext4.ndz")
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	u := &unit{r: bytes.NewReader(data), m: m}
	require.NoError(t, missing(t.Context(), u, m.Sectors))
	for n := 1; n < len(m.Chunks); n++ {
		require.ErrorIs(t, missing(t.Context(), u, m.Chunks[n-1].Last), ErrTruncated, "after chunk %d", n)
	}
	require.ErrorContains(t, missing(t.Context(), u, 100), "in use up to")
	require.NoError(t, missing(t.Context(), u, usedEnd(t, m, data)), "as the OMF era writes it")

	// What the unit gives is what the image holds.
	want := make([]byte, m.Bytes())
	for i := range m.Chunks {
		chunk := data[i*ndz.ChunkSize:][:ndz.ChunkSize]
		h, err := ndz.ParseHeader(chunk)
		require.NoError(t, err)
		inflated, err := ndz.Inflate(chunk, h, nil)
		require.NoError(t, err)
		for _, r := range h.Regions {
			inflated = inflated[copy(want[r.Start*512:r.End()*512], inflated):]
		}
	}
	got := make([]byte, len(want))
	for at := 0; at < len(got); at += 777_777 {
		_, err := u.ReadAt(got[at:min(at+777_777, len(got))], int64(at))
		require.NoError(t, err)
	}
	require.True(t, bytes.Equal(want, got))
}

// usedEnd is the end of the last region of an image.
func usedEnd(t *testing.T, m *ndz.Manifest, data []byte) (end uint64) {
	t.Helper()
	for i := range m.Chunks {
		h, err := ndz.ParseHeader(data[i*ndz.ChunkSize:])
		require.NoError(t, err)
		end = max(end, h.Regions[len(h.Regions)-1].End())
	}
	return end
}
