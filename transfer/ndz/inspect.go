package ndz

import (
	"encoding/hex"
	"io"
)

// Info is what the headers of an image say, without looking at the data.
type Info struct {
	Version     int         `json:"version"`        // of the first chunk
	Size        int64       `json:"size"`           // bytes of the image file
	Sectors     uint64      `json:"sectors"`        // size of the described unit: highest Last
	ShortTail   int         `json:"shortTail"`      // bytes of the last sector that do not belong to the unit
	DataBytes   int64       `json:"dataBytes"`      // bytes of data carried
	Regions     int         `json:"regions"`        // runs of sectors carried
	Described   bool        `json:"described"`      // false if any chunk is V1: free space around it is not known
	PayloadSize int64       `json:"payloadSize"`    // compressed bytes, without headers and padding
	UUID        string      `json:"uuid,omitempty"` // V4: 32 hexadecimal digits
	Chunks      []ChunkHead `json:"chunks"`
}

// ChunkHead is what the header of one chunk says.
type ChunkHead struct {
	Version     int    `json:"version"`
	Index       int    `json:"index"` // as the writer counted
	First       uint64 `json:"first"` // sectors described: [First, Last)
	Last        uint64 `json:"last"`
	Regions     int    `json:"regions"`
	DataSize    int64  `json:"dataSize"`
	PayloadSize int    `json:"payloadSize"`
}

// Inspect reads the headers of an image of size bytes. It does not look at the data: an image that Inspect likes may
// still be damaged, which [BuildManifest] finds.
func Inspect(r io.ReaderAt, size int64) (*Info, error) {
	if err := checkFileSize(size); err != nil {
		return nil, err
	}
	n := int(size / ChunkSize)
	info := &Info{Size: size, Described: true, Chunks: make([]ChunkHead, 0, min(n, 4096))}
	buf := make([]byte, HeaderSize)
	for i := range n {
		if got, err := r.ReadAt(buf, int64(i)*ChunkSize); got < len(buf) {
			return nil, Corrupt(i, unexpected(err))
		}
		h, err := ParseHeader(buf)
		if err != nil {
			return nil, Corrupt(i, err)
		}
		if i == 0 {
			info.Version = h.Version
			if h.Version == 4 {
				info.UUID = hex.EncodeToString(h.UUID[:])
			}
		}
		info.Described = info.Described && h.Described
		info.DataBytes += h.DataSize()
		info.Regions += len(h.Regions)
		info.PayloadSize += int64(h.PayloadSize)
		if h.Last > info.Sectors {
			info.Sectors, info.ShortTail = h.Last, h.ShortTail()
		}
		info.Chunks = append(info.Chunks, ChunkHead{Version: h.Version, Index: h.Index, First: h.First, Last: h.Last,
			Regions: len(h.Regions), DataSize: h.DataSize(), PayloadSize: h.PayloadSize})
	}
	return info, nil
}
