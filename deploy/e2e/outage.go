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

// slowDisk is the rate of disks, bytes/s, on which a load takes long enough to
// be interrupted.
const slowDisk = 4 << 20

// outage is what the facts of a job say of one of its nodes.
type outage struct {
	failed []events.Class
	done   []int // attempts that loaded
}

// outages cuts the power of two machines in the middle of their loads. One of
// them stays off until the server does something about it, the other is on
// again at once. Their second attempts are to succeed.
func outages(ctx context.Context, s settings, conn *bus.Conn, image proof, stays, returns *machine) error {
	both := map[string]*machine{stays.name: stays, returns.name: returns}
	seen := map[string]*outage{}
	for name, m := range both {
		if err := m.blank(); err != nil {
			return err
		}
		m.slow(slowDisk)
		seen[name] = &outage{}
	}
	job, err := begin(ctx, s, stays.name+","+returns.name, imageName)
	if err != nil {
		return err
	}
	// From here on power fails as soon as something is written.
	var mu sync.Mutex
	var trouble error
	cut := map[string]bool{}
	stop, err := conn.Subscribe(ctx, events.JobProgress(testbed, job), func(msg bus.Message) {
		p, ok := progress(msg)
		mu.Lock()
		defer mu.Unlock()
		if !ok || p.BytesWritten == 0 || cut[p.Node] || both[p.Node] == nil {
			return
		}
		cut[p.Node] = true
		trouble = errors.Join(trouble, fail(both[p.Node], p, image, p.Node == returns.name))
	})
	if err != nil {
		return err
	}
	defer stop()
	end, err := follow(ctx, conn, job, func(node string, d events.Data) error {
		switch d := d.(type) {
		case events.LoadFailed:
			fmt.Printf("   %s  attempt %d, %s: %s\n", node, d.Attempt, d.Class, d.Message)
			seen[node].failed = append(seen[node].failed, d.Class)
		case events.LoadDone:
			seen[node].done = append(seen[node].done, d.Attempt)
		}
		mu.Lock()
		defer mu.Unlock()
		return trouble
	})
	if err != nil {
		return err
	}
	// One that is back asks for its credential a second time, from which nobody
	// can tell that it is not a stranger, unless it needs so long that its time
	// is over first.
	for m, classes := range map[*machine][]events.Class{stays: {events.ClassTimeout}, returns: {events.ClassCredential, events.ClassTimeout}} {
		o := seen[m.name]
		if len(o.failed) != 1 || !slices.Contains(classes, o.failed[0]) || !slices.Equal(o.done, []int{2}) {
			return fmt.Errorf("job %s: failures and loaded attempts of %s are %v and %v, want one of %v and 2", job, m.name, o.failed, o.done, classes)
		}
	}
	if end.OK != 2 {
		return fmt.Errorf("job %s: %d of 2 nodes loaded: %+v", job, end.OK, end.Results)
	}
	return errors.Join(stays.awaitOff(ctx), returns.awaitOff(ctx), same(image.raw, stays.disk), same(image.raw, returns.disk))
}

func progress(m bus.Message) (events.Progress, bool) {
	if m.Err != nil {
		return events.Progress{}, false
	}
	d, err := events.Decode(m.Event)
	p, ok := d.(events.Progress)
	return p, ok && err == nil
}

// fail cuts the power of a machine, whose disk must not be whole then. Its disk
// is a fast one from then on.
func fail(m *machine, p events.Progress, image proof, on bool) error {
	m.slow(0)
	if _, err := m.power("off"); err != nil {
		return err
	}
	fmt.Printf("   %s  power cut: attempt %d, %s, %d bytes written\n", m.name, p.Attempt, p.Phase, p.BytesWritten)
	if same(image.raw, m.disk) == nil {
		return fmt.Errorf("%s was loaded before its power was cut", m.name)
	}
	if !on {
		return nil
	}
	_, err := m.power("on")
	return err
}
