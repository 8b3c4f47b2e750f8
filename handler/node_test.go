package handler_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// op is a load or a save that an agent has begun.
type op struct {
	ref  events.NodeRef
	save bool
	last events.Data
}

// node is a machine with its power controller and its agent.
type node struct {
	w    *world
	name string
	conn *bus.Conn
	work sync.WaitGroup

	mu     sync.Mutex
	on     bool
	boot   string
	agent  *bus.Service
	acted  map[string]bool // power effects
	asked  int             // questions to the power controller
	cycles int             // starts of the machine
	ops    map[string]*op  // job#attempt, of this boot
	latest *op             // of this boot
	loads  map[string]int  // job#attempt → loads begun

	// Behaviour, set before the load.
	deaf   int            // boots that lead nowhere
	mute   int            // loads that begin and then the machine is silent
	dark   bool           // a machine that is silent is off
	faults []events.Class // of the next loads
	lie    func(*events.LoadDone)
	hold   chan struct{} // load.done waits for it
	stuck  int           // halts that are not obeyed
	// numb: as mute, and the beginning of the load is not reported either.
	numb int
	// silent: its agent does not report that it is up.
	silent bool
	// lossy: the report of the end of a load is lost once.
	lossy bool
	// disk: its agent runs from its own disk, until the next network boot.
	disk bool
	// claims: it says of its next saves that they are stored, and sends nothing.
	claims int
	// refuses: it does not take the next commands to save.
	refuses int
	// softBoot: a reboot by the agent leads into the imaging system again.
	softBoot bool
	// resident: what answers for its power is the agent on its disk, which
	// can restart it, into the imaging system.
	resident bool
}

func (n *node) send(k events.Kind, d events.Data) { n.sendBy(n.conn, k, d) }

// sendBy is for reports about the node that it may not send itself.
func (n *node) sendBy(conn *bus.Conn, k events.Kind, d events.Data) {
	id, err := events.NewULID(time.Now(), rand.Reader)
	if err != nil {
		panic(err)
	}
	ev, err := events.New(events.Meta{ID: id, Source: events.Source(tb, "agent", n.name), Time: time.Now()}, d)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	_, _ = conn.Publish(ctx, events.ReportSubject(tb, n.name, k), ev)
}

func (n *node) power(_ context.Context, r bus.Request) (any, error) {
	var p events.PowerRequest
	if err := r.Decode(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.Action == events.PowerStatus {
		n.asked++
	}
	if n.resident {
		switch {
		case p.Action == events.PowerReset && p.Boot == n.boot:
			p.Netboot = true
		case p.Action != events.PowerStatus:
			return nil, &events.Error{Code: events.CodeStale, Message: "another boot, or more than a system can do"}
		}
	}
	if p.Effect == "" || !n.acted[p.Effect] {
		n.acted[p.Effect] = p.Effect != ""
		switch p.Action {
		case events.PowerOn, events.PowerReset:
			n.stopAgent()
			n.start()
			if n.deaf > 0 {
				n.deaf--
				break
			}
			if p.Netboot {
				n.silent, n.disk = false, false
				n.startAgent(n.boot)
			}
		case events.PowerOff:
			n.stopAgent()
			n.on = false
		}
	}
	st := events.PowerState{Power: events.PowerOff, Boot: n.boot, Cycles: n.cycles, LastEffect: p.Effect}
	if n.on {
		st.Power = events.PowerOn
	}
	return st, nil
}

// start begins another boot of the machine; n.mu is held.
func (n *node) start() {
	n.on = true
	n.cycles++
	n.ops, n.latest = map[string]*op{}, nil
	n.boot = fmt.Sprintf("%s-boot-%d", n.name, n.cycles)
}

// startAgent and stopAgent: n.mu is held.
func (n *node) startAgent(boot string) {
	endpoint := func(v events.Verb, f func(bus.Request) (any, error)) bus.Endpoint {
		return bus.Endpoint{Name: string(v), Subject: events.CommandSubject(tb, n.name, v), Handle: func(_ context.Context, r bus.Request) (any, error) { return f(r) }}
	}
	leave := func(v events.Verb) bus.Endpoint {
		return endpoint(v, func(r bus.Request) (any, error) { return n.leave(r, boot, v) })
	}
	svc, err := n.conn.Serve(context.Background(), bus.ServiceConfig{Name: "agent", Plain: true, NoQueue: true, Endpoints: []bus.Endpoint{
		endpoint(events.VerbLoad, func(r bus.Request) (any, error) { return n.load(r, boot) }),
		endpoint(events.VerbSave, func(r bus.Request) (any, error) { return n.save(r, boot) }),
		endpoint(events.VerbProbe, func(r bus.Request) (any, error) { return n.probe(r, boot) }),
		endpoint(events.VerbStop, func(bus.Request) (any, error) {
			return events.CommandReply{NodeRef: events.NodeRef{Node: n.name, Boot: boot}}, nil
		}),
		leave(events.VerbHalt), leave(events.VerbReboot),
	}})
	if err != nil {
		return // the test is over
	}
	n.agent = svc
	if n.silent {
		return
	}
	up := events.Up{NodeRef: events.NodeRef{Node: n.name, Boot: boot}, Imaging: !n.disk, Agent: "test"}
	n.work.Go(func() { n.send(events.KindUp, up) })
}

func (n *node) stopAgent() {
	if svc := n.agent; svc != nil {
		n.agent = nil
		n.work.Go(svc.Stop)
	}
}

func (n *node) down() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopAgent()
}

func (n *node) load(r bus.Request, boot string) (any, error) {
	var c events.LoadCommand
	if err := r.Decode(&c); err != nil {
		return nil, err
	}
	if c.Boot != boot {
		return nil, &events.Error{Code: events.CodeStale, Message: "another boot"}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := fmt.Sprintf("%s#%d", c.Job, c.Attempt)
	reply := events.CommandReply{NodeRef: c.NodeRef, State: "loading", Imaging: true}
	if o := n.ops[id]; o != nil {
		n.again(o)
		return reply, nil
	}
	o := &op{ref: c.NodeRef, last: events.LoadStarted{NodeRef: c.NodeRef, Session: c.Session.ID, Disk: events.Disk{Path: c.Disk}}}
	n.ops[id], n.latest = o, o
	n.loads[id]++
	var end events.Data
	done := events.LoadDone{NodeRef: c.NodeRef, Assurance: events.AssuranceWritten, Digest: c.Image.Digest, Chunks: c.Image.Chunks, BytesWritten: c.Image.DataBytes, DiskBytes: c.Image.DiskBytes}
	if c.Resize != "" {
		done.Grown = &events.Grown{Partition: 1, Before: 1, After: 2, Notes: []string{c.Resize}}
	}
	done.Personalised = c.Personalise != nil && c.Personalise.Hostname != ""
	switch {
	case n.numb > 0:
		n.numb--
		o.last = nil
	case n.mute > 0:
		n.mute--
	case len(n.faults) > 0:
		end = events.LoadFailed{NodeRef: c.NodeRef, Class: n.faults[0], Message: "told to fail", Retryable: true}
		n.faults = n.faults[1:]
	default:
		if n.lie != nil {
			n.lie(&done)
		}
		end = done
	}
	n.carryOut(o, func() events.Data { return end })
	return reply, nil
}

// carryOut reports the beginning of what a node was told, and its end; n.mu is
// held. Without an end the machine is silent from then on.
func (n *node) carryOut(o *op, finish func() events.Data) {
	hold, started := n.hold, o.last
	n.work.Go(func() {
		if started != nil {
			n.send(started.Kind(), started)
		}
		if hold != nil {
			select {
			case <-hold:
			case <-n.w.ended:
				return
			}
		}
		end := finish()
		if end == nil {
			n.down()
			n.mu.Lock()
			n.on = !n.dark
			n.mu.Unlock()
			return
		}
		n.mu.Lock()
		o.last = end
		lost := n.lossy
		n.lossy = false
		n.mu.Unlock()
		if !lost {
			n.send(end.Kind(), end)
		}
	})
}

// save is an agent that saves: what it sends goes to the image service of the
// world, by the place that it was told and by nothing else.
func (n *node) save(r bus.Request, boot string) (any, error) {
	var c events.SaveCommand
	if err := r.Decode(&c); err != nil {
		return nil, err
	}
	if c.Boot != boot {
		return nil, &events.Error{Code: events.CodeStale, Message: "another boot"}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	id := fmt.Sprintf("%s#%d", c.Job, c.Attempt)
	reply := events.CommandReply{NodeRef: c.NodeRef, State: "saving", Imaging: true}
	if o := n.ops[id]; o != nil {
		n.again(o)
		return reply, nil
	}
	if n.refuses > 0 {
		n.refuses--
		return nil, &events.Error{Code: events.CodeRefused, Message: c.Disk + " is mounted"}
	}
	o := &op{ref: c.NodeRef, save: true, last: events.SaveStarted{NodeRef: c.NodeRef, Image: c.Image, Disk: events.Disk{Path: c.Disk, Size: 1 << 30}}}
	n.ops[id], n.latest = o, o
	n.loads[id]++
	class, mute, claims := events.Class(""), n.mute > 0, n.claims > 0
	switch {
	case mute:
		n.mute--
	case claims:
		n.claims--
	case len(n.faults) > 0:
		class, n.faults = n.faults[0], n.faults[1:]
	}
	n.carryOut(o, func() events.Data {
		done := events.SaveDone{NodeRef: c.NodeRef, Image: events.Image{Name: c.Image, Digest: savedImage.Digest}, DiskBytes: 1 << 30, BytesRead: 7 << 20, BytesSent: savedImage.Size}
		switch {
		case claims:
			return done
		case class == events.ClassStore:
			n.w.svc.put(c.Place, false)
		case class == "":
			n.w.svc.put(c.Place, true)
			if mute {
				return nil // all is stored, and nobody hears it
			}
			return done
		}
		return events.SaveFailed{NodeRef: c.NodeRef, Class: class, Message: "told to fail", Retryable: true}
	})
	return reply, nil
}

// again repeats the last report; n.mu is held.
func (n *node) again(o *op) {
	last := o.last
	if last == nil {
		return
	}
	n.work.Go(func() { n.send(last.Kind(), last) })
}

func (n *node) probe(r bus.Request, boot string) (any, error) {
	var ref events.NodeRef
	if err := r.Decode(&ref); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := events.CommandReply{NodeRef: events.NodeRef{Node: n.name, Boot: boot}, State: "idle", Imaging: !n.disk}
	o := n.latest
	if ref.Job != "" {
		if o = n.ops[fmt.Sprintf("%s#%d", ref.Job, ref.Attempt)]; o != nil {
			n.again(o)
		}
	}
	if o != nil {
		doing, did := "loading", "loaded"
		if o.save {
			doing, did = "saving", "saved"
		}
		reply.NodeRef, reply.State = o.ref, doing
		if o.last != nil && o.last.Kind() != events.KindLoadStarted && o.last.Kind() != events.KindSaveStarted {
			reply.State = did
		}
	}
	return reply, nil
}

func (n *node) leave(r bus.Request, boot string, v events.Verb) (any, error) {
	var c events.LeaveCommand
	if err := r.Decode(&c); err != nil {
		return nil, err
	}
	if c.Boot != boot {
		return nil, &events.Error{Code: events.CodeStale, Message: "another boot"}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stuck > 0 {
		n.stuck--
		return events.CommandReply{NodeRef: c.NodeRef}, nil
	}
	n.work.Go(func() {
		n.send(events.KindLeaving, events.Leaving{NodeRef: c.NodeRef, Effect: c.Effect, How: v})
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.boot != boot {
			return
		}
		n.stopAgent()
		n.on = v == events.VerbReboot
		if n.softBoot && n.on {
			n.start()
			n.startAgent(n.boot)
		}
	})
	return events.CommandReply{NodeRef: c.NodeRef, State: "leaving"}, nil
}

// count reads a number of the node.
func (n *node) count(f func(*node) int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return f(n)
}

// cutOff takes the agent off the bus; what it does goes on.
func (n *node) cutOff() {
	n.down()
	n.away()
}

// away waits until nobody answers for the node.
func (n *node) away() {
	n.w.t.Helper()
	require.Eventually(n.w.t, func() bool {
		err := n.w.conn.Request(context.Background(), events.CommandSubject(tb, n.name, events.VerbProbe), nil, nil)
		return errors.Is(err, bus.ErrNoResponders)
	}, bustest.Patience, time.Millisecond)
}

// back brings an agent that was cut off back to the bus. It was never away,
// as far as it knows, and reports nothing.
func (n *node) back() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = true
	n.startAgent(n.boot)
}

// restart starts the machine, or only its agent, without telling anybody.
func (n *node) restart(machine, disk bool) {
	n.cutOff()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent, n.disk = true, disk
	n.ops, n.latest = map[string]*op{}, nil
	if machine {
		n.start()
	}
	n.startAgent(n.boot)
}

// progress sends telemetry of the load at work.
func (n *node) progress() {
	n.mu.Lock()
	ref, save := n.latest.ref, n.latest.save
	n.mu.Unlock()
	subject, d := events.ProgressSubject(tb, ref.Job, n.name), events.Data(events.Progress{NodeRef: ref, Phase: "receiving"})
	if save {
		subject, d = events.SaveProgressSubject(tb, ref.Job, n.name), events.SaveProgress{NodeRef: ref, Phase: "capturing"}
	}
	ev, err := events.New(events.Meta{ID: rand.Text(), Source: events.Source(tb, "agent", n.name), Time: time.Now()}, d)
	require.NoError(n.w.t, err)
	before, _ := n.w.conn.Last(context.Background(), bus.StreamTelemetry, subject)
	require.NoError(n.w.t, n.conn.Emit(context.Background(), subject, ev))
	require.Eventually(n.w.t, func() bool {
		m, err := n.w.conn.Last(context.Background(), bus.StreamTelemetry, subject)
		return err == nil && (before == nil || m.Seq > before.Seq)
	}, bustest.Patience, time.Millisecond)
}
