package wire

import "encoding/binary"

// Layout is how a Stats block lies in a datagram (§3). It depends on how the
// client was compiled.
type Layout uint8

const (
	// LayoutPacked is the 1028-byte form of i386 and of 2020 builds.
	LayoutPacked Layout = iota
	// LayoutLP64 is the 2056-byte form of 64-bit OMF-era builds, with 64-bit counters.
	LayoutLP64
)

const (
	packedStatsSize = 4 + 1024
	lp64StatsSize   = 8 + 2048
)

// Stats is what a client tells about itself in LEAVE2 and PROGRESS. Counters of
// the packed form are 32 bits wide and saturate.
type Stats struct {
	Version              int32 // 1
	RunSeconds, RunMS    int32
	DelayMS              int32  // start delay
	RealBytes            uint64 // bytes really written
	EffectiveBytes       uint64 // bytes covered, including skipped ones
	ChunkBufs            int32
	MaxReadAhead         int32
	MaxInProgress        int32
	PktTimeout           int32 // µs
	StartDelay           int32 // s
	IdleTimer            int32 // ticks
	IdleDelay, RedoDelay int32 // µs
	Randomize            int32
	NoChunksReady        uint64
	NoFreeChunks         uint64
	DupChunks            uint64
	DupBlocks            uint64
	PartialRequests      uint64
	RecvIdles            uint64
	JoinAttempts         uint64
	Requests             uint64
	DecompBlocks         uint64
	WriterIdles          uint64
	WriteBufMB           int32
	LostBlocks           uint64
	ReRequests           uint64
	PartialDrops         uint64 // 2020 only
	FullReRequests       uint64 // 2020 only
}

// head lists the 32-bit fields between the byte counts and the counters, in order.
func (s *Stats) head() [9]*int32 {
	return [...]*int32{&s.ChunkBufs, &s.MaxReadAhead, &s.MaxInProgress, &s.PktTimeout,
		&s.StartDelay, &s.IdleTimer, &s.IdleDelay, &s.RedoDelay, &s.Randomize}
}

// counters lists the counters in front of WriteBufMB, in order.
func (s *Stats) counters() [10]*uint64 {
	return [...]*uint64{&s.NoChunksReady, &s.NoFreeChunks, &s.DupChunks, &s.DupBlocks, &s.PartialRequests,
		&s.RecvIdles, &s.JoinAttempts, &s.Requests, &s.DecompBlocks, &s.WriterIdles}
}

// Offsets in the block, packed and LP64.
type statsLayout struct {
	run, delay, bytes, head, counters, width, writeBuf, lost, extra, size int
}

var statsLayouts = [...]statsLayout{
	LayoutPacked: {run: 4, delay: 12, bytes: 16, head: 32, counters: 68, width: 4, writeBuf: 108, lost: 112, extra: 120, size: packedStatsSize},
	LayoutLP64:   {run: 8, delay: 16, bytes: 24, head: 40, counters: 80, width: 8, writeBuf: 160, lost: 168, extra: 0, size: lp64StatsSize},
}

// decode reads a block; b holds at least the layout's size.
func (s *Stats) decode(b []byte, layout Layout) {
	le := binary.LittleEndian
	l := &statsLayouts[layout]
	i32 := func(off int) int32 { return int32(le.Uint32(b[off:])) }
	counter := func(off int) uint64 {
		if l.width == 8 {
			return le.Uint64(b[off:])
		}
		return uint64(le.Uint32(b[off:]))
	}
	s.Version = i32(0)
	s.RunSeconds, s.RunMS = i32(l.run), i32(l.run+4)
	s.DelayMS = i32(l.delay)
	s.RealBytes, s.EffectiveBytes = le.Uint64(b[l.bytes:]), le.Uint64(b[l.bytes+8:])
	for i, f := range s.head() {
		*f = i32(l.head + 4*i)
	}
	for i, f := range s.counters() {
		*f = counter(l.counters + l.width*i)
	}
	s.WriteBufMB = i32(l.writeBuf)
	s.LostBlocks, s.ReRequests = counter(l.lost), counter(l.lost+l.width)
	s.PartialDrops, s.FullReRequests = 0, 0
	if l.extra != 0 {
		s.PartialDrops, s.FullReRequests = counter(l.extra), counter(l.extra+l.width)
	}
}

// append writes a block; the parts without a meaning are zero.
func (s *Stats) append(dst []byte, layout Layout) []byte {
	le := binary.LittleEndian
	l := &statsLayouts[layout]
	start := len(dst)
	dst = append(dst, make([]byte, l.size)...)
	b := dst[start:]
	i32 := func(off int, v int32) { le.PutUint32(b[off:], uint32(v)) }
	counter := func(off int, v uint64) {
		if l.width == 8 {
			le.PutUint64(b[off:], v)
			return
		}
		le.PutUint32(b[off:], uint32(min(v, 1<<32-1)))
	}
	i32(0, s.Version)
	i32(l.run, s.RunSeconds)
	i32(l.run+4, s.RunMS)
	i32(l.delay, s.DelayMS)
	le.PutUint64(b[l.bytes:], s.RealBytes)
	le.PutUint64(b[l.bytes+8:], s.EffectiveBytes)
	for i, f := range s.head() {
		i32(l.head+4*i, *f)
	}
	for i, f := range s.counters() {
		counter(l.counters+l.width*i, *f)
	}
	i32(l.writeBuf, s.WriteBufMB)
	counter(l.lost, s.LostBlocks)
	counter(l.lost+l.width, s.ReRequests)
	if l.extra != 0 {
		counter(l.extra, s.PartialDrops)
		counter(l.extra+l.width, s.FullReRequests)
	}
	return dst
}
