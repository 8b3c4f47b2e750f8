package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"loadnode/events"
	"loadnode/transfer/ndz"
)

// Image is an .ndz image in memory, and what it holds.
type Image struct {
	File     []byte
	Manifest *ndz.Manifest
	regions  []region
}

type region struct {
	off  int64 // bytes of the disk
	data []byte
}

// NewImage makes an image of a disk with three stretches of data that do not
// compress, mib MiB in all, and free space between and behind them.
func NewImage(t testing.TB, mib int, seed uint64) *Image {
	t.Helper()
	random := rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, seed)))
	third := mib << 20 / 3 / ndz.SectorSize * ndz.SectorSize
	img := &Image{}
	var out bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &out, Level: 1})
	if err != nil {
		t.Fatal(err)
	}
	off := int64(0)
	for range 3 {
		r := region{off: off, data: make([]byte, third)}
		_, _ = random.Read(r.data) // never fails
		if err := w.Append(uint64(off/ndz.SectorSize), r.data); err != nil {
			t.Fatal(err)
		}
		img.regions = append(img.regions, r)
		off += int64(third) + 64<<10
	}
	if err := w.Finish(uint64(off/ndz.SectorSize), 0); err != nil {
		t.Fatal(err)
	}
	img.File = out.Bytes()
	img.Manifest, err = ndz.BuildManifest(t.Context(), bytes.NewReader(img.File), int64(len(img.File)))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// NewLargeImage makes an image of many chunks, all with the same data of about
// one MiB: it costs next to nothing, for tests in which only the size counts.
func NewLargeImage(t testing.TB, chunks int) *Image {
	t.Helper()
	const sectors = 2000
	data := make([]byte, sectors*ndz.SectorSize)
	_, _ = rand.NewChaCha8(sha256.Sum256(nil)).Read(data) // never fails
	var first bytes.Buffer
	w, err := ndz.NewWriter(ndz.WriterConfig{Output: &first, Level: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Append(0, data), w.Finish(sectors, 0)); err != nil {
		t.Fatal(err)
	}
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(first.Bytes()), ndz.ChunkSize)
	if err != nil {
		t.Fatal(err)
	}
	img := &Image{File: bytes.Repeat(first.Bytes(), chunks), Manifest: m}
	for i := range chunks {
		// The header says where the data belongs: sectors described, and the one region of them.
		chunk, at := img.File[i*ndz.ChunkSize:(i+1)*ndz.ChunkSize], uint32(i*sectors)
		binary.LittleEndian.PutUint32(chunk[8:], uint32(i))
		binary.LittleEndian.PutUint32(chunk[24:], at)
		binary.LittleEndian.PutUint32(chunk[28:], at+sectors)
		binary.LittleEndian.PutUint32(chunk[36:], at)
		img.regions = append(img.regions, region{off: int64(at) * ndz.SectorSize, data: data})
		info := m.Chunks[0]
		info.SHA256, info.First, info.Last = sha256.Sum256(chunk), uint64(at), uint64(at+sectors)
		m.Chunks = append(m.Chunks[:i], info)
	}
	m.Size, m.Sectors, m.DataBytes = int64(len(img.File)), uint64(chunks*sectors), int64(chunks*len(data))
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	return img
}

// Describe is the image as commands name it.
func (i *Image) Describe(manifestURL string) events.Image {
	return events.Image{
		Name: "lab.ndz", Digest: i.Manifest.Root().String(), Size: i.Manifest.Size, Chunks: len(i.Manifest.Chunks),
		DiskBytes: i.Manifest.Bytes(), DataBytes: i.Manifest.DataBytes, SectorSize: i.Manifest.SectorSize,
		Format: "ndz", ManifestURL: manifestURL,
	}
}

// Damage says where a disk differs from the image: the first and the last
// differing byte, or ok if it does not.
func (i *Image) Damage(path string) (first, last int64, ok bool, err error) {
	disk, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, false, err
	}
	first, last = -1, -1
	for _, r := range i.regions {
		end := r.off + int64(len(r.data))
		if end <= int64(len(disk)) && bytes.Equal(disk[r.off:end], r.data) {
			continue
		}
		for k, want := range r.data {
			at := r.off + int64(k)
			if at >= int64(len(disk)) || disk[at] != want {
				if first < 0 {
					first = at
				}
				last = at
			}
		}
	}
	return first, last, first < 0, nil
}
