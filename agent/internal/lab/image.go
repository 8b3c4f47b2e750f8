package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"testing"

	"loadnode/events"
	"loadnode/transfer/ndz"
	"loadnode/transfer/ndz/ndztest"
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
	third := mib << 20 / 3 / ndz.SectorSize * ndz.SectorSize
	img := &Image{}
	var runs []ndztest.Run
	off := int64(0)
	for i := range uint64(3) {
		r := region{off: off, data: ndztest.Noise(3*seed+i, third)}
		runs = append(runs, ndztest.Run{Sector: uint64(off / ndz.SectorSize), Data: r.data})
		img.regions = append(img.regions, r)
		off += int64(third) + 64<<10
	}
	img.File = ndztest.Image(t, uint64(off/ndz.SectorSize), runs...)
	var err error
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
	data := ndztest.Noise(0, sectors*ndz.SectorSize)
	first := ndztest.Image(t, sectors, ndztest.Run{Data: data})
	m, err := ndz.BuildManifest(t.Context(), bytes.NewReader(first), ndz.ChunkSize)
	if err != nil {
		t.Fatal(err)
	}
	img := &Image{File: bytes.Repeat(first, chunks), Manifest: m}
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
