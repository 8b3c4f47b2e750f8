package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"loadnode/bus"
	"loadnode/events"
)

// slowDisk is the rate of disks, bytes/s, with which a job takes long enough to
// be interrupted.
const slowDisk = 4 << 20

// enough are the bytes that have gone to a disk or come from it when the power
// is cut.
const enough = 1 << 20

// outage is a machine that loses its power in the middle of the first attempt
// of a job, and what the facts of the job say of it.
type outage struct {
	*machine
	returns bool                 // it is on again at once; else it waits for the server
	idle    func() (bool, error) // whether nothing is complete yet
	cut     bool
	failed  []events.Class
	done    []int // attempts
}

// outages has two machines lose their power in the middle of their loads. Their
// second attempts are to succeed.
func outages(ctx context.Context, s settings, conn *bus.Conn, image proof, stays, returns *machine) error {
	all := map[string]*outage{}
	for _, m := range []*machine{stays, returns} {
		if err := m.blank(); err != nil {
			return err
		}
		m.slow(slowDisk)
		all[m.name] = &outage{machine: m, returns: m == returns, idle: func() (bool, error) {
			return same(image.raw, m.disk) != nil, nil
		}}
	}
	job, err := begin(ctx, s, stays.name+","+returns.name, imageName)
	if err != nil {
		return err
	}
	if err := interrupted(ctx, conn, job, all); err != nil {
		return err
	}
	return errors.Join(stays.awaitOff(ctx), returns.awaitOff(ctx), same(image.raw, stays.disk), same(image.raw, returns.disk))
}

// interrupted follows a job to its end, and cuts the power of its machines as
// soon as enough has been written to their disks or sent from them.
func interrupted(ctx context.Context, conn *bus.Conn, job string, all map[string]*outage) error {
	var mu sync.Mutex
	var trouble error
	stop, err := conn.Subscribe(ctx, events.JobProgress(testbed, job), func(msg bus.Message) {
		node, how := progress(msg)
		mu.Lock()
		defer mu.Unlock()
		if o := all[node]; o != nil && !o.cut {
			trouble = errors.Join(trouble, o.fail(how))
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	end, err := follow(ctx, conn, job, func(node string, d events.Data) error {
		mu.Lock()
		defer mu.Unlock()
		switch d := d.(type) {
		case events.LoadFailed:
			all[node].again(d)
		case events.SaveFailed:
			all[node].again(events.LoadFailed(d))
		case events.LoadDone:
			all[node].done = append(all[node].done, d.Attempt)
		case events.SaveDone:
			all[node].done = append(all[node].done, d.Attempt)
		}
		return trouble
	})
	if err != nil {
		return err
	}
	for name, o := range all {
		// One that is back asks for its credential a second time, from which
		// nobody can tell that it is not a stranger, unless it needs so long that
		// its time is over first.
		classes := []events.Class{events.ClassTimeout}
		if o.returns {
			classes = append(classes, events.ClassCredential)
		}
		if !o.cut || len(o.failed) != 1 || !slices.Contains(classes, o.failed[0]) || !slices.Equal(o.done, []int{2}) {
			return fmt.Errorf("job %s: power of %s cut: %t; failures and attempts that succeeded are %v and %v, want one of %v and 2", job, name, o.cut, o.failed, o.done, classes)
		}
	}
	if end.OK != len(all) {
		return fmt.Errorf("job %s: %d of %d nodes: %+v", job, end.OK, len(all), end.Results)
	}
	return nil
}

// progress says of which node enough has been written or sent, and how far it
// is; "" for anything else.
func progress(m bus.Message) (node, how string) {
	if m.Err != nil {
		return "", ""
	}
	d, err := events.Decode(m.Event)
	if err != nil {
		return "", ""
	}
	switch p := d.(type) {
	case events.Progress:
		if p.BytesWritten >= enough {
			return p.Node, fmt.Sprintf("attempt %d, %s, %d bytes written", p.Attempt, p.Phase, p.BytesWritten)
		}
	case events.SaveProgress:
		if p.BytesSent >= enough {
			return p.Node, fmt.Sprintf("attempt %d, %s, %d bytes sent", p.Attempt, p.Phase, p.BytesSent)
		}
	}
	return "", ""
}

// again notes a failure.
func (o *outage) again(f events.LoadFailed) {
	fmt.Printf("   %s  attempt %d, %s: %s\n", o.name, f.Attempt, f.Class, f.Message)
	o.failed = append(o.failed, f.Class)
}

// fail cuts the power. The disk of the machine is a fast one from then on.
func (o *outage) fail(how string) error {
	o.cut = true
	o.slow(0)
	if _, err := o.power("off"); err != nil {
		return err
	}
	fmt.Printf("   %s  power cut: %s\n", o.name, how)
	if idle, err := o.idle(); err != nil || !idle {
		return errors.Join(err, fmt.Errorf("%s was done before its power was cut", o.name))
	}
	if !o.returns {
		return nil
	}
	_, err := o.power("on")
	return err
}
