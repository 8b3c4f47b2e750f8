package ext

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"loadnode/transfer/imagezip/free"
)

// group is a decoded descriptor.
type group struct {
	blockBitmap, inodeBitmap, inodeTable uint64
	free                                 uint64 // clusters
	bitmapSum                            uint32 // checksum of the block bitmap, as many bits as there is room for
	uninit                               bool
	bad                                  bool // its checksum is wrong: nothing in it is believed
	unreadable                           bool // nothing is known of it
}

// descriptors calls f for each group in order.
func (fs *filesystem) descriptors(ctx context.Context, f func(g uint64, d group) error) error {
	block := make([]byte, fs.blockSize)
	unreadable := false
	for g := range fs.groups {
		if g%fs.descsPerBlock == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := fs.read(block, fs.descBlock(g/fs.descsPerBlock), "group descriptors")
			if unreadable = err != nil; unreadable && !fs.skipBad {
				return err
			}
		}
		d := group{unreadable: true}
		if !unreadable {
			var err error
			if d, err = fs.decode(g, block[g%fs.descsPerBlock*fs.descSize:][:fs.descSize]); err != nil {
				return err
			}
		}
		if err := f(g, d); err != nil {
			return err
		}
	}
	return nil
}

// decode reads the descriptor of a group.
func (fs *filesystem) decode(g uint64, b []byte) (group, error) {
	le := binary.LittleEndian
	d := group{
		blockBitmap: uint64(le.Uint32(b)),
		inodeBitmap: uint64(le.Uint32(b[4:])),
		inodeTable:  uint64(le.Uint32(b[8:])),
		free:        uint64(le.Uint16(b[0xC:])),
		bitmapSum:   uint32(le.Uint16(b[0x18:])),
	}
	if fs.descSize >= 64 {
		d.blockBitmap |= uint64(le.Uint32(b[0x20:])) << 32
		d.inodeBitmap |= uint64(le.Uint32(b[0x24:])) << 32
		d.inodeTable |= uint64(le.Uint32(b[0x28:])) << 32
		d.free |= uint64(le.Uint16(b[0x2C:])) << 16
		d.bitmapSum |= uint32(le.Uint16(b[0x38:])) << 16
	}
	// Without checksums of the descriptors the flags have no meaning.
	if fs.roCompat&(roGdtCsum|roMetadataCsum) != 0 {
		d.uninit = le.Uint16(b[0x12:])&groupBlockUninit != 0
	}
	for _, at := range []uint64{d.blockBitmap, d.inodeBitmap, d.inodeTable} {
		if at < fs.firstData || at >= fs.blocks {
			return d, fmt.Errorf("%w: group %d has metadata at block %d, the filesystem has %d blocks: run e2fsck", free.ErrFilesystem, g, at, fs.blocks)
		}
	}
	if d.inodeTable+fs.inodeTable > fs.blocks {
		return d, fmt.Errorf("%w: the inode table of group %d ends behind the filesystem: run e2fsck", free.ErrFilesystem, g)
	}
	d.bad = !fs.descChecksum(uint32(g), b)
	return d, nil
}

func (fs *filesystem) read(p []byte, block uint64, what string) error {
	if n, err := fs.r.ReadAt(p, int64(block*fs.blockSize)); n < len(p) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read %s at block %d: %w", what, block, err)
	}
	return nil
}
