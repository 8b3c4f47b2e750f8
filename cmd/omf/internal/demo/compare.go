package demo

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"

	"loadnode/transfer/ndz"
)

// ErrDiffers is wrapped by the error of a comparison that found a difference.
var ErrDiffers = errors.New("disk differs")

// Region is a range of bytes of the unit that an image describes.
type Region struct{ Start, Size int64 }

// Restore writes the image to the new file path: its allocated regions, with
// holes between them. It returns those regions. The decompressor is the
// standard library's. Images with relocations are refused; an image of a
// filesystem has none.
func Restore(image, path string) ([]Region, error) {
	regions, err := restore(image, path)
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", image, err)
	}
	return regions, nil
}

func restore(image, path string) ([]Region, error) {
	in, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	var regions []Region
	var end int64
	chunk := make([]byte, ndz.ChunkSize)
	for i := 0; ; i++ {
		if _, err := io.ReadFull(in, chunk); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		h, err := ndz.ParseHeader(chunk)
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		if len(h.Relocs) > 0 {
			return nil, fmt.Errorf("chunk %d: has relocations", i)
		}
		z, err := zlib.NewReader(bytes.NewReader(chunk[ndz.HeaderSize : ndz.HeaderSize+h.PayloadSize]))
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		for _, r := range h.Regions {
			reg := Region{int64(r.Start) * ndz.SectorSize, int64(r.Size) * ndz.SectorSize}
			if _, err := io.Copy(io.NewOffsetWriter(out, reg.Start), io.LimitReader(z, reg.Size)); err != nil {
				return nil, fmt.Errorf("chunk %d: %w", i, err)
			}
			regions = append(regions, reg)
		}
		if n, err := io.Copy(io.Discard, z); err != nil || n > 0 {
			return nil, fmt.Errorf("chunk %d: %d bytes behind the last region: %w", i, n, errors.Join(err, ErrDiffers))
		}
		end = max(end, int64(h.Last)*ndz.SectorSize)
	}
	if err := out.Truncate(end); err != nil {
		return nil, err
	}
	return regions, out.Close()
}

// Compare compares a disk with the source in the regions of the image, byte
// by byte, and with the restore of the image as a whole. It returns the number
// of bytes of regions that it compared.
func Compare(disk, source, restored string, regions []Region) (int64, error) {
	d, err := os.Open(disk)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	s, err := os.Open(source)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	r, err := os.Open(restored)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	var total int64
	for _, reg := range regions {
		if err := equal(disk, source, io.NewSectionReader(d, reg.Start, reg.Size), io.NewSectionReader(s, reg.Start, reg.Size), reg.Start, reg.Size); err != nil {
			return total, err
		}
		total += reg.Size
	}
	info, err := r.Stat()
	if err != nil {
		return total, err
	}
	disksize, err := d.Stat()
	if err != nil {
		return total, err
	}
	// A disk may be larger than the image; what is behind it is not the
	// image's business.
	if disksize.Size() < info.Size() {
		return total, fmt.Errorf("%s has %d bytes, the image describes %d: %w", disk, disksize.Size(), info.Size(), ErrDiffers)
	}
	return total, equal(disk, restored, io.NewSectionReader(d, 0, info.Size()), r, 0, info.Size())
}

func equal(an, bn string, a, b io.Reader, at, size int64) error {
	const step = 256 << 10
	x, y := make([]byte, step), make([]byte, step)
	for done := int64(0); done < size; {
		n := min(step, size-done)
		if _, err := io.ReadFull(a, x[:n]); err != nil {
			return fmt.Errorf("read %s at byte %d: %w", an, at+done, err)
		}
		if _, err := io.ReadFull(b, y[:n]); err != nil {
			return fmt.Errorf("read %s at byte %d: %w", bn, at+done, err)
		}
		if !bytes.Equal(x[:n], y[:n]) {
			i := int64(0)
			for x[i] == y[i] {
				i++
			}
			return fmt.Errorf("%s and %s differ from byte %d on: %w", an, bn, at+done+i, ErrDiffers)
		}
		done += n
	}
	return nil
}
