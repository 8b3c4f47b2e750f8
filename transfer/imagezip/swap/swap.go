package swap

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"loadnode/transfer/imagezip/free"
)

const (
	headSectors = 64 // always saved, as the original does; more if a page is larger

	minPage = 4 << 10 // bytes; the signature are the last ten bytes of the first page
	maxPage = 64 << 10

	signature = "SWAPSPACE2"
)

var _ free.Probe = Probe

// Probe recognises swap areas of Linux with pages of 4 to 64 KiB, in both byte orders. Unclean is an area that holds a
// suspended system. Those that Linux before 2.6 made (SWAP-SPACE) are not recognised: no kernel of today uses them.
func Probe(_ context.Context, r io.ReaderAt, size int64, _ free.Options) (*free.Filesystem, bool, error) {
	head := make([]byte, min(size, maxPage))
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, false, fmt.Errorf("read the first %d bytes: %w", len(head), err)
	}
	for page := minPage; page <= len(head); page *= 2 {
		switch sig := string(head[page-10 : page]); {
		case sig == signature:
			return area(head, uint64(page), size)
		case suspended(sig):
			return &free.Filesystem{Kind: "swap", Sectors: uint64(size) / free.SectorSize, Free: &free.List{}, Unclean: true,
				Notes: []string{"the swap area holds a suspended system: resume it and shut it down, or run mkswap"}}, true, nil
		}
	}
	return nil, false, nil
}

// suspended knows what Linux (in the kernel and in user space, and TuxOnIce) writes over the signature.
func suspended(sig string) bool {
	for _, s := range []string{"S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001", "\xed\xc3\x02\xe9\x98\x56\xe5\x0c"} {
		if strings.HasPrefix(sig, s) {
			return true
		}
	}
	return false
}

// area reads the header at byte 1024. Its list of bad pages needs no care: nothing of them is saved or written.
func area(head []byte, page uint64, size int64) (*free.Filesystem, bool, error) {
	h := head[1024:]
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(h) != 1 {
		order = binary.BigEndian
	}
	if version := order.Uint32(h); version != 1 {
		return nil, true, fmt.Errorf("%w: swap area of version %d", free.ErrFilesystem, binary.LittleEndian.Uint32(h))
	}
	pages, per := uint64(order.Uint32(h[4:]))+1, page/free.SectorSize
	if have := uint64(size) / page; pages > have || pages < 2 {
		return nil, true, fmt.Errorf("%w: swap area of %d pages of %d bytes, but the source only has room for %d: is it truncated?",
			free.ErrFilesystem, pages, page, have)
	}
	label, _, _ := strings.Cut(string(h[28:44]), "\x00")
	fs := &free.Filesystem{Kind: "swap", Label: label, Sectors: pages * per, Free: &free.List{}}
	fs.Free.Add(free.Span{Start: max(headSectors, per), End: pages * per})
	return fs, true, nil
}
