package ndz

import "hash/adler32"

// pieceBytes is how much data a worker compresses at once, at most: as many steps as fit.
const pieceBytes = 1024 * SectorSize

// piece is some data on its way into chunks: the sectors it belongs to, and its compressed form in steps.
type piece struct {
	buf     []byte // what came before the data, at most a window, and the data
	history int    // bytes before the data
	regions []Region
	out     []byte // the steps one behind the other
	steps   []step
	step    int // bytes of data in a step; the last one may have less, runs of zeros have more
	full    int // bytes of data that are a full piece
	ready   chan struct{}
}

// step is the compressed form of some data.
type step struct {
	size  int // of the data, in bytes
	end   int // in out
	adler uint32
	alone bool // refers to nothing before it
}

func newPiece(step int) *piece {
	return &piece{buf: make([]byte, 0, window+pieceBytes), step: step, full: pieceBytes / step * step, ready: make(chan struct{}, 1)}
}

// begin empties the piece, for data that comes behind history, which is at most a window.
func (p *piece) begin(history []byte) {
	p.buf, p.regions, p.out, p.steps = append(p.buf[:0], history...), p.regions[:0], p.out[:0], p.steps[:0]
	p.history = len(history)
}

func (p *piece) data() []byte { return p.buf[p.history:] }
func (p *piece) room() int    { return p.full - len(p.data()) }

func (p *piece) append(start uint64, data []byte) {
	p.regions = join(p.regions, Region{Start: start, Size: uint64(len(data) / SectorSize)})
	p.buf = append(p.buf, data...)
}

// before returns what lies before byte at of the data, at most n bytes and at most a window.
func (p *piece) before(at int, n int64) []byte {
	end := p.history + at
	return p.buf[end-int(min(n, window, int64(end))) : end]
}

// longRun is how many steps of zeros are a step of their own: what follows must start anew.
const longRun = 4

// compress fills out and steps from the data. A step may refer to all that came before it.
func (p *piece) compress(c *compressor) {
	started := false
	for at, data := 0, p.data(); at < len(data); {
		run := 0
		for c.runs != nil && at+(run+1)*p.step <= len(data) && allZero(data[at+run*p.step:][:p.step]) {
			run++
		}
		s := step{size: min(p.step, len(data)-at)}
		if run >= longRun {
			z := c.zeros(run) // what was started goes on with other data, so that it must start anew
			p.out = append(p.out, z.out...)
			s.size, s.adler, s.alone, started = run*p.step, z.adler, true, false
		} else {
			if !started {
				c.start(p.before(at, window))
				started = true
			}
			p.out = c.part(p.out, data[at:at+s.size])
			s.adler = adler32.Checksum(data[at : at+s.size])
		}
		s.end = len(p.out)
		p.steps = append(p.steps, s)
		at += s.size
	}
}

// part returns the compressed form of step i.
func (p *piece) part(i int) []byte {
	from := 0
	if i > 0 {
		from = p.steps[i-1].end
	}
	return p.out[from:p.steps[i].end]
}

// join adds a region behind the others, to the last one if they touch.
func join(list []Region, r Region) []Region {
	if n := len(list); n > 0 && list[n-1].End() == r.Start {
		list[n-1].Size += r.Size
		return list
	}
	return append(list, r)
}

// cursor goes through regions sector by sector.
type cursor struct {
	left []Region // the first one without what was taken from it
}

// sector is where the cursor stands.
func (c *cursor) sector() uint64 { return c.left[0].Start }

// fit returns how many of the next sectors, at most n, lie in the next count regions.
func (c *cursor) fit(n uint64, count int) uint64 {
	var sum uint64
	for _, r := range c.left[:min(count, len(c.left))] {
		if sum += r.Size; sum >= n {
			return n
		}
	}
	return sum
}

// take moves n sectors from the cursor to a list.
func (c *cursor) take(n uint64, list []Region) []Region {
	for n > 0 {
		r := &c.left[0]
		k := min(n, r.Size)
		list = join(list, Region{Start: r.Start, Size: k})
		r.Start, r.Size, n = r.Start+k, r.Size-k, n-k
		if r.Size == 0 {
			c.left = c.left[1:]
		}
	}
	return list
}
