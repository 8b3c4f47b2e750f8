package wire

import "encoding/binary"

// REPORT, subtype 9, is an extension by which receivers tell the server how
// they fare, so that it finds the rate they bear. Peers of the original
// generations log and ignore it (§3, §7 rule 5).
//
// A server that wants reports says so to the group (type 1) when a client joins
// and when it wants fewer or more of them:
//
//	16: u32 client id (0 = all); 20: u32 interval, ms (0 = no reports); 24: u32 how many may come at once before
//
// Clients which know the subtype answer (type 2, to the server alone) with the
// body of Report. A client that was not asked sends none, so servers of the
// original generations never see one. Counters count datagrams, unless they say
// otherwise, from the start of the client, and wrap.

// Ask is what a server wants of reports.
type Ask struct {
	// Every is the least mean time between two reports of a client, ms; 0 wants none.
	Every uint32
	// Burst is how many reports may come faster than that.
	Burst uint32
}

// Report is how a client fares.
type Report struct {
	Clock uint32 // of the client, ms, from any origin
	// Blocks are those received from the server, whether of use or not.
	Blocks uint32
	// NoRoom are those of them which were of use, but all buffers were full.
	NoRoom   uint32
	Overruns uint32 // dropped by its own receive queue
	Retries  uint32 // requests for what was asked for before
	Received uint32 // chunks, complete
	Done     uint32 // chunks, installed
	// Speed is how fast it installs while there is something to install:
	// chunks in 1000 s. 0 means not known yet.
	Speed uint32
	// Free of Buffers chunk buffers are free.
	Free, Buffers uint32
	// Backlog is the most of its receive queue that was in use since the last
	// report, in 1/1000.
	Backlog uint32
	// LastChunk and LastBlock are the last BLOCK it saw; LastChunk -1: none yet.
	LastChunk, LastBlock int32
}

const (
	reportAskLen = 12
	reportLen    = 4 + 13*4
)

// words lists the fields in order.
func (r *Report) words() [11]*uint32 {
	return [...]*uint32{&r.Clock, &r.Blocks, &r.NoRoom, &r.Overruns, &r.Retries,
		&r.Received, &r.Done, &r.Speed, &r.Free, &r.Buffers, &r.Backlog}
}

// decode reads what follows the client id; b holds at least reportLen-4 bytes.
func (r *Report) decode(b []byte) (ok bool) {
	le := binary.LittleEndian
	for i, f := range r.words() {
		*f = le.Uint32(b[4*i:])
	}
	r.LastChunk, r.LastBlock = int32(le.Uint32(b[44:])), int32(le.Uint32(b[48:]))
	return r.LastChunk >= -1 && r.LastBlock >= 0 && r.LastBlock < BlocksPerChunk && r.Free <= r.Buffers && r.Backlog <= 1000
}

func (r *Report) append(dst []byte) []byte {
	le := binary.LittleEndian
	for _, f := range r.words() {
		dst = le.AppendUint32(dst, *f)
	}
	dst = le.AppendUint32(dst, uint32(r.LastChunk))
	return le.AppendUint32(dst, uint32(r.LastBlock))
}
