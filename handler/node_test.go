package handler_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/bus/bustest"
	"loadnode/events"
)

// op is a load that an agent has begun.
type op struct {
	cmd  events.LoadCommand
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
	cycles int             // starts of the machine
	ops    map[string]*op  // job#attempt, of this boot
	loads  map[string]int  // job#attempt → loads begun

	// Behaviour, set before the load.
	deaf   int            // boots that lead nowhere
	mute   int            // loads that begin and then the machine is silent
	faults []events.Class // of the next loads
	lie    func(*events.LoadDone)
	hold   chan struct{} // load.done waits for it
	stuck  int           // halts that are not obeyed
	// softBoot: a reboot by the agent leads into the imaging system again.
	softBoot bool
}

func (n *node) send(k events.Kind, d events.Data) {
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
	_, _ = n.conn.Publish(ctx, events.ReportSubject(tb, n.name, k), ev)
}

func (n *node) power(_ context.Context, r bus.Request) (any, error) {
	var p events.PowerRequest
	if err := r.Decode(&p); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
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
	n.ops = map[string]*op{}
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
	n.work.Go(func() {
		n.send(events.KindUp, events.Up{NodeRef: events.NodeRef{Node: n.name, Boot: boot}, Imaging: true, Agent: "test"})
	})
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
	o := &op{cmd: c, last: events.LoadStarted{NodeRef: c.NodeRef, Session: c.Session.ID, Disk: events.Disk{Path: c.Disk}}}
	n.ops[id] = o
	n.loads[id]++
	var end events.Data
	done := events.LoadDone{NodeRef: c.NodeRef, Assurance: events.AssuranceWritten, Digest: c.Image.Digest, Chunks: c.Image.Chunks, BytesWritten: c.Image.DataBytes, DiskBytes: c.Image.DiskBytes}
	switch {
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
	hold, started := n.hold, o.last
	n.work.Go(func() {
		n.send(events.KindLoadStarted, started)
		if end == nil {
			n.down()
			return
		}
		if hold != nil {
			select {
			case <-hold:
			case <-n.w.ended:
				return
			}
		}
		n.mu.Lock()
		o.last = end
		n.mu.Unlock()
		n.send(end.Kind(), end)
	})
	return reply, nil
}

// again repeats the last report; n.mu is held.
func (n *node) again(o *op) {
	last := o.last
	n.work.Go(func() { n.send(last.Kind(), last) })
}

func (n *node) probe(r bus.Request, boot string) (any, error) {
	var ref events.NodeRef
	if err := r.Decode(&ref); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := events.CommandReply{NodeRef: events.NodeRef{Node: n.name, Boot: boot}, State: "idle", Imaging: true}
	if o := n.ops[fmt.Sprintf("%s#%d", ref.Job, ref.Attempt)]; o != nil {
		n.again(o)
		reply.NodeRef = o.cmd.NodeRef
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
