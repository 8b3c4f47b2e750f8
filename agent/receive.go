package agent

import (
	"context"
	"net/netip"
	"runtime/debug"
	"sync"

	"loadnode/events"
	"loadnode/transfer/client"
	"loadnode/transfer/install"
	"loadnode/transfer/mcast"
	"loadnode/transfer/ndz"
)

// receive joins the session, reports the load started once it has joined, and
// returns when every chunk is on the disk.
func (a *Agent) receive(ctx context.Context, op *operation, conn mcast.Conn, m *ndz.Manifest, in *install.Installer, on events.Disk) error {
	joined := sync.OnceFunc(func() { a.started(op, on) })
	server, err := netip.ParseAddr(op.cmd.Session.Server)
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{
		Conn: conn, Server: server, Chunks: len(m.Chunks),
		Installer: installer{in: in, first: joined},
		Workers:   a.cfg.Workers, Memory: a.cfg.Memory,
		JoinTimeout:  orDefault(op.cmd.Join, defaultJoin),
		StallTimeout: orDefault(op.cmd.Stall, defaultStall),
		// The client asks this for each chunk as soon as it has joined, before
		// the first block: the earliest moment at which "started" is true.
		Have: func(int) bool {
			joined()
			return false
		},
		Written: func() (written, covered uint64) {
			s := in.Stats()
			return uint64(s.BytesWritten), uint64(s.BytesCovered)
		},
	})
	if err != nil {
		return err
	}
	op.meter(func() Figures { return measure(c.Progress(), in.Stats(), len(m.Chunks)) })
	_, err = c.Run(ctx)
	return err
}

// started reports that the session is joined and the disk open.
func (a *Agent) started(op *operation, on events.Disk) {
	started := events.LoadStarted{NodeRef: op.ref, Session: op.cmd.Session.ID, Disk: on}
	op.started(started, stepReceive)
	a.report(started, op.effect)
}

// installer turns a panic while a chunk is installed into an error of this
// load: it happens in a goroutine of the client, where it would end the agent.
type installer struct {
	in    client.Installer
	first func() // before anything is written
}

func (i installer) Install(ctx context.Context, index int, chunk []byte) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	i.first()
	return i.in.Install(ctx, index, chunk)
}

func measure(p client.Progress, s install.Stats, chunks int) Figures {
	return Figures{
		Percent:       100 * float64(s.Chunks) / float64(max(1, chunks)),
		Chunks:        chunks,
		ChunksWritten: s.Chunks,
		BytesReceived: int64(p.Received) * ndz.ChunkSize,
		BytesWritten:  s.BytesWritten,
		Counters: map[string]int64{
			"blocks": int64(p.Blocks), "duplicates": int64(p.Duplicates), "no_room": int64(p.NoRoom),
			"lost": int64(p.Lost), "requests": int64(p.Requests), "retries": int64(p.Retries),
			"corrupt": int64(p.Corrupt), "joins": int64(p.Joins), "idle": int64(p.Idle),
			"foreign": int64(p.Foreign), "bad": int64(p.Bad), "overruns": int64(p.Overruns),
			"chunks": int64(s.Chunks), "bytes_written": s.BytesWritten,
		},
	}
}
