package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"loadnode/agent"
	"loadnode/agent/legacy"
	"loadnode/events"
)

// Budgets of a command that names none.
const (
	defaultJoin  = 30 * time.Second
	defaultStall = 2 * time.Minute
)

// loader has the node's own frisbee load.
type loader struct {
	node *node
	link *link
	id   identity
	busy sync.WaitGroup
}

// memory is how the attempts of a node ended. The connection may be made anew after an attempt, and a command repeated:
// the disk must not be written again for it.
type memory struct {
	mu    sync.Mutex
	ended map[string]outcome
	order []string
}

type outcome struct {
	done  events.LoadDone
	saved events.SaveDone
	err   error
}

const maxRemembered = 64

func (m *memory) get(key string) (outcome, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.ended[key]
	return o, ok
}

func (m *memory) put(key string, o outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended == nil {
		m.ended = map[string]outcome{}
	}
	if _, known := m.ended[key]; !known {
		m.order = append(m.order, key)
	}
	m.ended[key] = o
	if len(m.order) > maxRemembered {
		delete(m.ended, m.order[0])
		m.order = m.order[1:]
	}
}

// Load implements agent.Loader.
func (l *loader) Load(ctx context.Context, load agent.Load) (events.LoadDone, error) {
	l.busy.Add(1)
	defer l.busy.Done()
	c := load.Command
	key := fmt.Sprintf("%s %s %d", l.id.boot, c.Job, c.Attempt)
	if o, ok := l.node.memory.get(key); ok {
		return o.done, o.err
	}
	where, err := l.gate(c)
	if err != nil {
		return events.LoadDone{}, err
	}
	a := &attempt{loader: l, load: load, cmd: c, disk: where}
	done, err := a.run(ctx)
	l.node.memory.put(key, outcome{done: done, err: err})
	return done, err
}

// gate refuses what the legacy client would not: it writes whatever it is pointed at, and makes a file in RAM of a disk
// that is not there (§a.9).
func (l *loader) gate(c events.LoadCommand) (events.Disk, error) {
	refuse := func(format string, args ...any) (events.Disk, error) {
		return events.Disk{}, &agent.Failure{Class: events.ClassRefused, Message: fmt.Sprintf(format, args...)}
	}
	if c.Verify != "" {
		return refuse("a legacy agent cannot read its disk back: load %s without --verify", l.node.Name)
	}
	if c.Free != "" {
		return refuse("a legacy agent leaves free space as it is: load %s without --free", l.node.Name)
	}
	if c.Resize != "" || c.Personalise != nil {
		return refuse("a legacy agent leaves what it loaded as it is: load %s without --resize and --personalise", l.node.Name)
	}
	if !strings.HasPrefix(c.Disk, "/dev/") || strings.ContainsAny(c.Disk, " \t\"\\") {
		return refuse("disk %q: a legacy agent takes a path such as /dev/hda", c.Disk)
	}
	if !l.id.listed {
		return events.Disk{Path: c.Disk}, nil // the node does not say; its client will
	}
	var names []string
	for _, d := range l.id.disks {
		if d.Path != c.Disk {
			names = append(names, d.Path)
			continue
		}
		if d.Size < c.Image.DiskBytes {
			return refuse("disk %s of %s has %d bytes, the image %s needs %d", d.Path, l.node.Name, d.Size, c.Image.Name, c.Image.DiskBytes)
		}
		return d, nil
	}
	return refuse("%s has no disk %s, it has %s: a legacy client would write a file in memory instead", l.node.Name, c.Disk, strings.Join(names, " "))
}

// attempt is one run of frisbee on a node.
type attempt struct {
	*loader
	load agent.Load
	cmd  events.LoadCommand
	disk events.Disk

	mu      sync.Mutex
	figures agent.Figures
	output  []string // the last lines
	covered int64    // bytes, as the client says at its end
	written int64
	wrote   bool

	missed int       // messages of the agent that are known to be lost
	probed time.Time // when it was last asked whether its frisbee runs

	joined bool  // data comes
	before int64 // blocks the session had sent when the node was first seen in it
	seen   time.Time
}

const maxOutput = 40

func (a *attempt) run(ctx context.Context) (events.LoadDone, error) {
	a.figures = agent.Figures{Chunks: a.cmd.Image.Chunks}
	a.load.Meter(func() agent.Figures {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.figures
	})
	in, shut := a.link.open(legacy.LoadProcess)
	defer shut()
	s := a.cmd.Session
	if err := a.link.send(true, a.link.name, legacy.LoadImage, s.Group, strconv.Itoa(int(s.Port)), a.disk.Path); err != nil {
		return events.LoadDone{}, a.lost(err)
	}
	begun := time.Now()
	a.seen, a.missed = begun, a.link.via.missing()
	poll := time.NewTicker(a.node.cfg.Timing.Poll)
	defer poll.Stop()
	var end *legacy.Event
	var last <-chan time.Time
	for {
		for _, e := range a.link.events(in) {
			a.seen = time.Now()
			switch e.Kind {
			case legacy.Stdout, legacy.Stderr:
				a.print(e)
			case legacy.DoneOK, legacy.DoneError:
				end = &e
				last = time.After(a.node.cfg.Timing.Last)
			case legacy.ErrorWord:
				return events.LoadDone{}, &agent.Failure{Class: events.ClassRefused, Message: "the agent does not take the command", Text: e.Text}
			}
		}
		select {
		case <-in.wake:
		case <-last:
			return a.judge(*end)
		case <-a.link.over:
			return events.LoadDone{}, a.lost(a.link.lost())
		case <-ctx.Done():
			a.kill(in)
			return events.LoadDone{}, context.Cause(ctx)
		case <-poll.C:
			if end != nil {
				continue
			}
			if a.vanished(ctx, in) {
				return a.judgeSilence()
			}
			if f := a.watch(ctx, begun); f != nil {
				a.kill(in)
				return events.LoadDone{}, f
			}
		}
	}
}

// print takes a line of the client's output.
func (a *attempt) print(e legacy.Event) {
	a.mu.Lock()
	a.output = append(a.output, e.Text)
	a.output = a.output[max(0, len(a.output)-maxOutput):]
	data := false
	if p, ok := e.Percent(); ok {
		data = true
		a.progress(float64(p))
	}
	if n, ok := e.Chunks(); ok {
		data = data || n > 0
	}
	if covered, written, ok := e.Wrote(); ok {
		a.covered, a.written, a.wrote = covered, written, true
	}
	a.mu.Unlock()
	if data {
		a.started()
	}
}

// progress notes a percentage that is not less than before. a.mu is held.
func (a *attempt) progress(percent float64) {
	f := &a.figures
	f.Percent = max(f.Percent, percent)
	f.ChunksWritten = int(f.Percent * float64(f.Chunks) / 100)
	f.BytesReceived = int64(f.Percent * float64(a.cmd.Image.Size) / 100)
}

func (a *attempt) started() {
	a.joined = true
	a.load.Started(a.disk)
}

// watch looks at what the image service knows of the node, which is all there is to know when the client prints nothing
// (§a.9). It gives the failure of a client that got no answer or gets no more data.
func (a *attempt) watch(ctx context.Context, begun time.Time) error {
	if a.node.cfg.Session == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.node.cfg.Timing.Answer)
	defer cancel()
	s, err := a.node.cfg.Session(ctx, a.cmd.Session.ID)
	if err != nil {
		return nil // the image service is away: its sessions come back with it
	}
	for _, p := range s.Peers {
		if p.Address == a.node.Address.String() && p.Seen.After(begun.Add(-time.Second)) {
			a.served(s, p)
			break // the last heard comes first
		}
	}
	join := cmp.Or(time.Duration(a.cmd.Join), defaultJoin)
	stall := cmp.Or(time.Duration(a.cmd.Stall), defaultStall)
	switch {
	case !a.joined && time.Since(begun) > join:
		return &agent.Failure{Class: events.ClassJoin, Retryable: true, Text: a.tail(),
			Message: fmt.Sprintf("frisbee runs on %s, but the image service has not heard it for %s", a.node.Name, join)}
	case a.joined && time.Since(a.seen) > stall:
		return &agent.Failure{Class: events.ClassStalled, Retryable: true, Text: a.tail(),
			Message: fmt.Sprintf("nothing was heard of the load on %s for %s", a.node.Name, stall)}
	}
	return nil
}

// served notes that the image service has heard the client.
func (a *attempt) served(s events.SessionState, p events.SessionPeer) {
	if p.Seen.After(a.seen) {
		a.seen = p.Seen
	}
	if a.before == 0 {
		a.before = max(1, s.BlocksSent)
	}
	if s.ImageBlocks > 0 {
		// What was sent since it came it has received, unless it lost it; the last word is its own.
		a.mu.Lock()
		a.progress(min(99, 100*float64(s.BlocksSent-a.before)/float64(s.ImageBlocks)))
		a.mu.Unlock()
	}
	a.started()
}

func (a *attempt) tail() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.output, "\n")
}

// kill ends frisbee and waits until it has ended, so that the disk is free. An agent that does not end it is reset.
func (a *attempt) kill(in *inbox) {
	if a.link.send(true, a.link.name, legacy.Kill, legacy.LoadProcess, "KILL") != nil {
		return
	}
	patience := time.After(a.node.cfg.Timing.Answer)
	for {
		for _, e := range a.link.events(in) {
			if e.Kind == legacy.DoneOK || e.Kind == legacy.DoneError {
				return
			}
		}
		select {
		case <-in.wake:
		case <-a.link.over:
			return
		case <-patience:
			a.link.reset() // the connection is made anew
			return
		}
	}
}

// lost is the failure of a load whose agent is gone: it kills what it ran when its controller goes (§a.4).
func (a *attempt) lost(err error) error {
	if !errors.Is(err, errLost) {
		return err
	}
	return &agent.Failure{Class: events.ClassStalled, Retryable: true, Text: a.tail(),
		Message: fmt.Sprintf("%v; the agent of %s ends its load with it", err, a.node.Name)}
}
