package swap_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"loadnode/internal/tool"
	"loadnode/transfer/imagezip/free"
	"loadnode/transfer/imagezip/roundtrip"
	"loadnode/transfer/imagezip/swap"
)

// sparse is a source of which only the head has content.
type sparse struct {
	head []byte
	size int64
}

var errBroken = errors.New("broken")

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	if s.head == nil {
		return 0, errBroken
	}
	clear(p)
	n := int(max(0, min(int64(len(p)), s.size-off)))
	if off < int64(len(s.head)) {
		copy(p[:n], s.head[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func probe(s sparse) (*free.Filesystem, bool, error) {
	return swap.Probe(context.Background(), s, s.size, free.Options{})
}

// head is the head of an area with so many pages.
func head(page int, order binary.ByteOrder, version, last uint32, signature string) []byte {
	b := make([]byte, page)
	order.PutUint32(b[1024:], version)
	order.PutUint32(b[1028:], last)
	copy(b[1024+28:], "label")
	copy(b[page-10:], signature)
	return b
}

func TestRoundTrips(t *testing.T) {
	for page := 4096; page <= 65536; page *= 2 {
		for _, label := range []string{"", "fifteen letters"} {
			t.Run(strconv.Itoa(page)+label, func(t *testing.T) {
				path := filepath.Join(roundtrip.Dir(t), "swap")
				const size = 2<<20 + 5000/512*512 // no whole number of pages
				roundtrip.Sparse(t, path, size)
				args := []string{"-q", "-f", "-p", strconv.Itoa(page), "-U", "0b1e5c9a-8f0b-4b3e-9a57-4e7a3c2d1f00", path}
				if label != "" {
					args = append([]string{"-L", label}, args...)
				}
				tool.Run(t, "mkswap", args...)
				about := func(t testing.TB, path string) string {
					if page != 4096 { // swaplabel knows what the machine it runs on uses
						return tool.Run(t, "blkid", "-p", "-o", "export", path)
					}
					return tool.Run(t, "swaplabel", path)
				}
				same := func(s string) string { return strings.ReplaceAll(s, path+".restored", path) }
				result := roundtrip.Check(t, path, swap.Probe, func(t testing.TB, path string) { require.Contains(t, about(t, path), "0b1e5c9a") })
				require.Equal(t, about(t, path), same(about(t, result.Path)))
				fs := result.Filesystem
				require.Equal(t, "swap", fs.Kind)
				require.Equal(t, label, fs.Label)
				require.Empty(t, fs.Notes)
				require.EqualValues(t, size/page*page/512, fs.Sectors)
				require.Equal(t, []free.Span{{Start: max(64, uint64(page)/512), End: fs.Sectors}}, fs.Free.Spans())
			})
		}
	}
}

func TestProbe(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	const size = 1 << 20
	for _, c := range []struct {
		name    string
		source  sparse
		free    []free.Span
		unclean bool
		says    string // of the error
		none    bool
	}{
		{"usual", sparse{head(4096, le, 1, 255, "SWAPSPACE2"), size}, []free.Span{{Start: 64, End: 2048}}, false, "", false},
		{"shorter than the source", sparse{head(4096, le, 1, 99, "SWAPSPACE2"), size}, []free.Span{{Start: 64, End: 800}}, false, "", false},
		{"other byte order", sparse{head(8192, be, 1, 127, "SWAPSPACE2"), size}, []free.Span{{Start: 64, End: 2048}}, false, "", false},
		{"large pages", sparse{head(65536, le, 1, 15, "SWAPSPACE2"), size}, []free.Span{{Start: 128, End: 2048}}, false, "", false},
		{"pages of 32 KiB", sparse{head(32768, le, 1, 31, "SWAPSPACE2"), size}, []free.Span{{Start: 64, End: 2048}}, false, "", false},
		{"nothing beyond the head", sparse{head(4096, le, 1, 7, "SWAPSPACE2"), size}, nil, false, "", false},
		{"one page beyond the head", sparse{head(4096, le, 1, 8, "SWAPSPACE2"), size}, []free.Span{{Start: 64, End: 72}}, false, "", false},
		{"one page too many", sparse{head(4096, le, 1, 256, "SWAPSPACE2"), size}, nil, false, "is it truncated?", false},
		{"far too many pages", sparse{head(4096, le, 1, 0xFFFFFFFF, "SWAPSPACE2"), size}, nil, false, "4294967296 pages", false},
		{"no pages", sparse{head(4096, le, 1, 0, "SWAPSPACE2"), size}, nil, false, "1 pages", false},
		{"another version", sparse{head(4096, le, 2, 255, "SWAPSPACE2"), size}, nil, false, "version 2", false},
		{"suspended", sparse{head(4096, le, 1, 255, "S1SUSPEND\x00"), size}, nil, true, "", false},
		{"suspended, second version", sparse{head(4096, le, 1, 255, "S2SUSPEND\x00"), size}, nil, true, "", false},
		{"suspended from user space", sparse{head(4096, le, 1, 255, "ULSUSPEND\x00"), size}, nil, true, "", false},
		{"suspended, large pages", sparse{head(65536, le, 1, 15, "LINHIB0001"), size}, nil, true, "", false},
		{"TuxOnIce", sparse{head(4096, le, 1, 255, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c\x01\x02"), size}, nil, true, "", false},
		{"old", sparse{head(4096, le, 1, 255, "SWAP-SPACE"), size}, nil, false, "", true},
		{"elsewhere", sparse{head(2048, le, 1, 255, "SWAPSPACE2"), size}, nil, false, "", true},
		{"nothing", sparse{make([]byte, 65536), size}, nil, false, "", true},
		{"short", sparse{head(4096, le, 1, 255, "SWAPSPACE2"), 4095}, nil, false, "", true},
		{"empty", sparse{make([]byte, 1), 0}, nil, false, "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs, found, err := probe(c.source)
			require.Equal(t, !c.none, found)
			if c.says != "" {
				require.ErrorIs(t, err, free.ErrFilesystem)
				require.ErrorContains(t, err, c.says)
			}
			if c.says != "" || c.none {
				require.Nil(t, fs)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.unclean, fs.Unclean)
			require.Equal(t, c.unclean, len(fs.Notes) == 1)
			require.Equal(t, c.free, fs.Free.Spans())
			require.LessOrEqual(t, fs.Sectors, uint64(size/512))
			if !c.unclean {
				require.Equal(t, "label", fs.Label)
			}
		})
	}
	_, _, err := probe(sparse{nil, size})
	require.ErrorIs(t, err, errBroken)
}

func FuzzProbe(f *testing.F) {
	f.Add(head(4096, binary.LittleEndian, 1, 15, "SWAPSPACE2"))
	f.Add(head(8192, binary.BigEndian, 1, 7, "SWAPSPACE2"))
	f.Add(head(4096, binary.LittleEndian, 1, 15, "S1SUSPEND"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := sparse{bytes.Clone(b), int64(len(b))}
		if s.head == nil {
			s.head = []byte{}
		}
		fs, found, err := probe(s)
		if err != nil || !found {
			require.Nil(t, fs)
			return
		}
		for _, span := range fs.Free.Spans() {
			require.True(t, span.Start >= 64 && span.Start < span.End && span.End <= fs.Sectors && fs.Sectors <= uint64(len(b)/512))
		}
	})
}
