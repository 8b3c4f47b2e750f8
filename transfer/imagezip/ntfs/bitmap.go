package ntfs

import (
	"context"
	"fmt"
	"math/bits"

	"loadnode/transfer/imagezip/free"
)

const (
	bitmapRead = 16 << 10 // bytes read at once
	maxSpans   = 4 << 20  // of the list; a volume in more pieces than that saves too much
)

// bitmap collects the free clusters of $Bitmap.
type bitmap struct {
	v        *volume
	list     free.List
	clusters uint64 // free, listed or not
	start    uint64 // first cluster of the free run at hand
	inRun    bool
	unread   uint64 // clusters of which nothing is known
}

// read goes through the content of $Bitmap: a set bit is a cluster in use.
func (m *bitmap) read(ctx context.Context, s *stream, o free.Options) error {
	buf := make([]byte, bitmapRead)
	total := (m.v.clusters + 7) / 8
	for off := uint64(0); off < total; off += bitmapRead {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(bitmapRead, total-off)]
		if err := s.read(p, off, "$Bitmap"); err != nil {
			if !o.SkipBad {
				return err
			}
			for i := range p {
				p[i] = 0xFF
			}
			m.unread += min(uint64(len(p))*8, m.v.clusters-off*8)
		}
		m.add(p, off*8)
	}
	m.end(m.v.clusters)
	return nil
}

// add takes the bits of the clusters from first on. Those behind the last cluster do not count.
func (m *bitmap) add(p []byte, first uint64) {
	for i, b := range p {
		at := first + uint64(i)*8
		switch {
		case b == 0xFF && !m.inRun || b == 0 && m.inRun:
			continue
		case b == 0:
			m.begin(at)
			continue
		}
		for k := uint64(0); k < 8; {
			if b>>k&1 == 0 {
				m.begin(at + k)
				k += uint64(min(bits.TrailingZeros8(b>>k), 8))
			} else {
				m.end(at + k)
				k += uint64(bits.TrailingZeros8(^(b >> k)))
			}
		}
	}
}

func (m *bitmap) begin(cluster uint64) {
	if !m.inRun {
		m.inRun, m.start = true, cluster
	}
}

func (m *bitmap) end(cluster uint64) {
	if cluster = min(cluster, m.v.clusters); !m.inRun || cluster <= m.start {
		m.inRun = false
		return
	}
	m.inRun = false
	m.clusters += cluster - m.start
	if len(m.list.Spans()) < maxSpans {
		m.list.Add(m.v.span(m.start, cluster-m.start))
	}
}

// notes are what the user should know about the bitmap.
func (m *bitmap) notes() (notes []string) {
	if m.unread > 0 {
		notes = append(notes, fmt.Sprintf("$Bitmap could not be read for %d clusters, which were saved", m.unread))
	}
	if len(m.list.Spans()) == maxSpans {
		notes = append(notes, fmt.Sprintf("the free space has more than %d pieces, the rest was saved", maxSpans))
	}
	return notes
}

// overlaps says whether a run of clusters touches one of some spans.
func (v *volume) overlaps(spans []free.Span, cluster, n uint64) bool {
	return len(free.Within(spans, v.span(cluster, n))) > 0
}
