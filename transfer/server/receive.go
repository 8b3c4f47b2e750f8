package server

import (
	"context"
	"net/netip"
	"time"

	"loadnode/transfer/mcast"
	"loadnode/transfer/wire"
)

const (
	// crossing is how old the sending of a block may be for its asker not to
	// have seen it yet when it asked for the whole chunk for the first time: a
	// legacy client may have it in its socket buffer.
	crossing = 250 * time.Millisecond
	// flight is the same for someone who names missing blocks, or asks again:
	// only what is on its way now can have been missed. On a busy machine the
	// question itself is that old when it is read.
	flight = 60 * time.Millisecond
)

// receive takes what clients say, until ctx ends.
func (s *Server) receive(ctx context.Context) error {
	ds := make([]mcast.Datagram, mcast.BatchSize)
	var p wire.Packet
	for {
		n, err := s.cfg.Conn.Receive(ds)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, d := range ds[:n] {
			if err := s.handle(&p, d, time.Now()); err != nil {
				return err
			}
		}
	}
}

// handle takes one datagram. The only errors are those of sending an answer.
func (s *Server) handle(p *wire.Packet, d mcast.Datagram, now time.Time) error {
	err := p.Decode(d.Data)
	s.mu.Lock()
	if err != nil {
		s.stats.Undecodable++
		s.mu.Unlock()
		return nil
	}
	if !p.ForServer() {
		s.mu.Unlock()
		return nil // our own words, or other clients' business
	}
	from := d.From.Addr()
	if p.SourceAddr() != from {
		s.stats.BadSource++
		s.mu.Unlock()
		return nil
	}
	switch p.Subtype {
	case wire.Join, wire.Join2:
		s.stats.Joins++
		e := s.clients.join(from, p.ClientID, now)
		if e.came.Equal(now) {
			e.missed, e.round = s.plan.begun, s.plan.clock
		}
		s.active = now
		ask := s.wants(now)
		e.asked, e.asks = now, 1
		s.mu.Unlock()
		return s.answerJoin(p, d, ask)
	case wire.Request:
		s.stats.Requests++
		want := wire.RangeBitmap(int(p.Block), int(p.Count))
		s.request(d, int(p.Chunk), want, false, now)
	case wire.PRequest:
		s.stats.PartialRequests++
		s.request(d, int(p.Chunk), p.Wanted, p.Retries != 0, now)
	case wire.Leave, wire.Leave2:
		s.stats.Leaves++
		e := s.clients.leave(from, p.ClientID, time.Duration(p.Elapsed)*time.Second, now)
		if p.Subtype == wire.Leave2 {
			e.Stats = p.Stats
		}
		s.left = now
		s.poke()
	case wire.Progress:
		s.stats.Reports++
		s.active = now
		e := s.clients.touch(from, now)
		if p.What != 0 {
			e.ChunksReceived, e.ChunksInstalled, e.BytesWritten = p.ChunksReceived, p.ChunksDecompressed, p.BytesWritten
		}
	case wire.Reports:
		s.stats.Told++
		s.active = now
		e := s.clients.touch(from, now)
		e.ChunksReceived, e.ChunksInstalled = p.Report.Received, p.Report.Done
		if s.adapt != nil {
			s.adapt.weigh(e, p.Report, s.recent, s.clients, now)
			s.poke()
		}
	}
	ask := s.remind(from, now)
	s.mu.Unlock()
	if ask.Every == 0 {
		return nil
	}
	question := s.question(ask)
	if s.alone(from, question) {
		return nil
	}
	return s.cfg.Conn.Send([][]byte{question})
}

// reportEvery is the least mean time between two reports of a client, and
// reportsEach adds to it for each client, so that 200 a second come at most.
// Where clients are few, reportsFirst of them may come faster at the beginning.
const (
	reportEvery  = 250 * time.Millisecond
	reportsEach  = 5 * time.Millisecond
	reportsFirst = 12
)

// wants gives the question for reports that goes with the answer to a join. The
// caller holds s.mu.
func (s *Server) wants(now time.Time) (a wire.Ask) {
	if s.adapt == nil {
		return a
	}
	reporting, mute := s.clients.count(now, s.adapt.every)
	n := reporting + mute
	s.adapt.every = max(reportEvery, time.Duration(n)*reportsEach)
	a.Every = uint32(s.adapt.every / time.Millisecond)
	if n <= 8 {
		a.Burst = reportsFirst
	}
	return a
}

// A question for reports that was lost leaves a client mute. It is asked again
// when it says something else, after remindAfter and then each time twice as long,
// up to asksMost times: those of the original generations never answer.
const (
	remindAfter = 300 * time.Millisecond
	asksMost    = 6
)

// remind gives the question for reports that the client at addr is to be asked
// again, if it is. The caller holds s.mu.
func (s *Server) remind(addr netip.Addr, now time.Time) (a wire.Ask) {
	e := s.clients.latest[addr]
	switch {
	case s.adapt == nil || e == nil || !e.here(now) || !e.view.heard.IsZero() || e.asks >= asksMost:
		return a
	case e.asks > 0 && now.Sub(e.asked) < remindAfter<<(e.asks-1):
		return a
	}
	e.asked, e.asks = now, e.asks+1
	return s.wants(now)
}

// question asks whoever gets it for reports.
func (s *Server) question(a wire.Ask) []byte {
	p := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Reports, Source: s.source, Ask: a}
	return p.Append(nil)
}

// alone sends something to one client alone, and says whether it can: one which
// shares our address cannot be reached by unicast, it would be us.
func (s *Server) alone(addr netip.Addr, b []byte) bool {
	if addr == s.cfg.Conn.Addr().Addr() || !s.cfg.Conn.Group().Addr().IsMulticast() {
		return false
	}
	// Nobody behind that address any more is no reason to stop serving.
	_ = s.cfg.Conn.SendTo(s.peer(addr), b)
	return true
}

// seniorPart: who missed no more than this part of the chunks, 1 in so many, was
// there from the beginning.
const seniorPart = 20

// request queues what somebody asks for, without what it must have heard. The
// caller holds s.mu.
func (s *Server) request(d mcast.Datagram, chunk int, want wire.Bitmap, again bool, now time.Time) {
	asked := want.Count()
	switch {
	case asked == 0:
		s.stats.Empty++
		return
	case chunk >= s.chunks:
		s.stats.OutOfRange++
		return
	}
	s.active = now
	e := s.clients.touch(d.From.Addr(), now)
	e.Requests++
	e.Blocks += uint64(asked)
	age := crossing
	if again || asked < wire.BlocksPerChunk {
		age = flight
	}
	since := now.Add(-age)
	if e.Joined.After(since) {
		since = e.Joined
	}
	heard := s.recent.since(chunk, since)
	heard.And(&want)
	s.stats.Heard += uint64(heard.Count())
	want.AndNot(&heard)
	if want.Empty() {
		return
	}
	fresh, repeats, repair := s.sort(e, chunk, want, asked == wire.BlocksPerChunk)
	if age == flight {
		n := uint64(s.losses(e, chunk, want))
		e.Repairs += n
		e.losses += float64(n)
	}
	merged := true
	if !fresh.Empty() {
		merged = !s.plan.addFirst(chunk, &fresh)
	}
	if !repeats.Empty() {
		merged = !s.plan.addRepeat(chunk, repeats, repair) && merged
	}
	if merged {
		s.stats.Merged++
	}
	s.poke()
}

// sort divides what e asks for by how soon it is sent (see plan). Who was there
// when the sending of a chunk began is owed what it lost of it; who asks for all
// of it again was away, or had no room, and shall not hold up the others. Nor
// shall who came late or lags behind: its repairs come before other repeats. The
// caller holds s.mu.
func (s *Server) sort(e *entry, chunk int, want wire.Bitmap, whole bool) (first, repeats wire.Bitmap, repair bool) {
	repair = !whole && !e.came.After(s.begun[chunk])
	if s.begun[chunk].IsZero() || repair && e.missed <= s.chunks/seniorPart && (s.adapt == nil || !s.adapt.lags(e)) {
		return want, repeats, false
	}
	first, repeats = want, want
	first.AndNot(&s.sent[chunk])
	repeats.And(&s.sent[chunk])
	return first, repeats, repair
}

// losses counts the blocks e asks for again because they were lost on the way,
// so far as the server can know: what was sent while it listened, and is not
// waiting to be repeated anyway. The caller holds s.mu.
func (s *Server) losses(e *entry, chunk int, want wire.Bitmap) int {
	if s.begun[chunk].IsZero() {
		return 0
	}
	if e.came.After(s.begun[chunk]) {
		passed := s.recent.since(chunk, e.Joined)
		want.And(&passed)
	}
	waiting := s.plan.repeats.queued(chunk)
	want.AndNot(&waiting)
	return want.Count()
}

// answerJoin tells the size of the image, to the group and to the client itself
// (§7 rule 1), and asks for reports if they are wanted.
func (s *Server) answerJoin(p *wire.Packet, d mcast.Datagram, want wire.Ask) error {
	reply := wire.Packet{Type: wire.TypeReply, Subtype: p.Subtype, Source: s.source, Blocks: uint32(s.chunks * wire.BlocksPerChunk)}
	if p.Subtype == wire.Join2 {
		reply.ClientID = p.ClientID
		reply.BlocksPerChunk, reply.BlockSize = wire.BlocksPerChunk, wire.BlockSize
		reply.Size = uint64(s.chunks) * wire.ChunkSize
	}
	answer := reply.Append(nil)
	if err := s.cfg.Conn.Send([][]byte{answer}); err != nil {
		return err
	}
	s.alone(d.From.Addr(), answer)
	if want.Every > 0 {
		if err := s.cfg.Conn.Send([][]byte{s.question(want)}); err != nil {
			return err
		}
	}
	if s.cfg.AskProgress > 0 {
		ask := wire.Packet{Type: wire.TypeRequest, Subtype: wire.Progress, Source: s.source, ClientID: p.ClientID,
			When: uint32(max(1, s.cfg.AskProgress/time.Second)), What: wire.ProgressSummary, Seq: 1}
		return s.cfg.Conn.Send([][]byte{ask.Append(nil)})
	}
	return nil
}
