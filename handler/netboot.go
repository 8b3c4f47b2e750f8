package handler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/netboot/pxelinux"
)

// DefaultBootImage is the boot configuration of nodes whose inventory names
// none (omf-legacy b.4, defImage).
const DefaultBootImage = "orbit-1.0.0"

// Pxelinux says where the boot flags of nodes with the boot driver pxelinux
// are set: in the TFTP tree that they boot from. Every handler that may own a
// job with such nodes needs it.
type Pxelinux struct {
	Dir      string        // configuration directory, such as /tftpboot/pxelinux.cfg; empty: none
	Image    string        // boot configuration where the inventory names none; empty: DefaultBootImage
	Lifetime time.Duration // of a flag that was set by hand; 0: pxelinux.DefaultLifetime
}

// linksFile has the list of our boot links, in the state directory.
const linksFile = "pxelinux.json"

// flags are the boot flags of the nodes. What jobs want follows from their
// facts (wantedLinks): the links are made so after each of them, at the start
// and with each sweep, so that there is no path on which one is left.
type flags struct {
	h        *Handler
	tree     *pxelinux.Tree // nil: there are none
	image    string
	lifetime time.Duration
	poked    chan struct{}

	mu   sync.Mutex // held from looking at the jobs until the links are so
	last string     // error that was logged
}

func (h *Handler) openFlags(cfg Config) error {
	p := cfg.Pxelinux
	f := &flags{h: h, image: cmp.Or(p.Image, DefaultBootImage), lifetime: cmp.Or(p.Lifetime, pxelinux.DefaultLifetime), poked: make(chan struct{}, 1)}
	h.flags = f
	if p.Dir == "" {
		return nil
	}
	if cfg.StateDir == "" {
		return fmt.Errorf("%w: boot links need a state directory, to be found again", ErrConfig)
	}
	if err := pxelinux.CheckImage(f.image); err != nil || f.lifetime < 0 {
		return fmt.Errorf("%w: boot links: image %q, lifetime %s", ErrConfig, f.image, f.lifetime)
	}
	tree, err := pxelinux.Open(pxelinux.Config{Dir: p.Dir, State: filepath.Join(cfg.StateDir, linksFile)})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	f.tree = tree
	return nil
}

func (f *flags) close() {
	if f.tree != nil {
		_ = f.tree.Close()
	}
}

// link is the flag of a node.
func (f *flags) link(testbed string, n *inventory.Node, image, job string, until time.Time) pxelinux.Link {
	return pxelinux.Link{
		Testbed: testbed, Node: n.Name, IP: n.IP, MAC: n.MAC, Image: cmp.Or(image, n.Boot.Image, f.image), Job: job, Until: until,
	}
}

// wanted lists the flags that the open jobs ask for: those of nodes that were
// told to reboot and are not up. One whose deadline is over for longer than
// the lifetime is not wanted any more, whatever its job waits for: a bus that
// does not come back, for example.
func (f *flags) wanted() []pxelinux.Link {
	var out []pxelinux.Link
	now := f.h.clock.Now()
	for _, k := range f.h.book.open() {
		s, _, _ := f.h.book.job(k)
		tb, ok := f.h.inv.Testbed(k.testbed)
		if !ok || s.Phase != job.Accepted {
			continue
		}
		for _, n := range s.Nodes() {
			in, ok := tb.Node(n.Name)
			if !ok || in.Boot.Driver != inventory.BootPxelinux || n.Step != job.Rebooting || n.Fault != nil && n.Fault.Final ||
				now.After(n.Deadline.Add(f.lifetime)) {
				continue
			}
			out = append(out, f.link(k.testbed, in, "", k.job, n.Deadline))
		}
	}
	return out
}

// settle makes the links what the jobs want.
func (f *flags) settle() []pxelinux.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	out, err := f.tree.Keep(f.h.clock.Now(), f.wanted())
	f.report(out, err)
	return out
}

// report logs what people should know, each thing once.
func (f *flags) report(out []pxelinux.Outcome, err error) {
	for _, o := range out {
		if o.Note != "" {
			f.h.log.Warn("boot link", "node", o.Node, "note", o.Note)
		}
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != f.last {
		f.h.log.Warn("boot links are not as they should be, will try again", "err", err)
	}
	f.last = text
}

// run keeps the links until ctx ends. Those of jobs that are still open stay
// then: the next handler goes on with these jobs, and settles the links first.
func (f *flags) run(ctx context.Context) error {
	if f.tree == nil {
		return nil
	}
	for {
		changed := f.h.book.changing()
		f.settle()
		wait := f.h.policy.Sweep
		if next, ok := f.tree.Next(); ok {
			wait = max(min(wait, next.Sub(f.h.clock.Now())), time.Millisecond)
		}
		select {
		case <-changed:
		case <-f.poked:
		case <-f.h.clock.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// changing is closed with the next change.
func (b *book) changing() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// set sees to it that a node that is about to be switched has its flag.
func (f *flags) set(testbed string, n *inventory.Node) error {
	if n.Boot.Driver != inventory.BootPxelinux {
		return nil
	}
	if f.tree == nil {
		return bus.Permanent(errors.New("boot flag: the inventory says boot driver pxelinux, and this handler was not told where its links are (serve.pxelinux)"))
	}
	for _, o := range f.settle() {
		if o.Testbed != testbed || o.Node != n.Name || o.Err == nil {
			continue
		}
		err := fmt.Errorf("boot flag: %w", o.Err)
		if errors.Is(err, pxelinux.ErrImage) || errors.Is(err, pxelinux.ErrAddress) || errors.Is(err, pxelinux.ErrForeign) {
			return bus.Permanent(err)
		}
		return err
	}
	return nil
}

// answerNetboot sets, clears or shows the boot flags of nodes for people and
// for OMF's services. Nodes that a job holds, and protected ones, are only
// shown: then none is changed.
func (h *Handler) answerNetboot(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	var q events.NetbootQuery
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{events.NetbootSet, events.NetbootClear, events.NetbootStatus}, q.Action) {
		return nil, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("netboot: no action %q; there are %s, %s, %s", q.Action, events.NetbootSet, events.NetbootClear, events.NetbootStatus)}
	}
	f := h.flags
	if f.tree == nil {
		return nil, &events.Error{Code: events.CodeUnsupported, Message: "this handler sets no boot links", Hint: "tell omf serve where they are: --pxelinux /tftpboot/pxelinux.cfg"}
	}
	if q.Image != "" {
		if err := pxelinux.CheckImage(q.Image); err != nil {
			return nil, &events.Error{Code: events.CodeImage, Message: err.Error()}
		}
	}
	nodes, missing, refusal := h.resolve(tb, q.Nodes)
	if refusal != nil {
		return nil, refusal
	}
	h.newest(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if q.Action != events.NetbootStatus {
		if err := h.switchable(tb, nodes); err != nil {
			return nil, err
		}
		h.log.Info("boot flag by hand", "testbed", tb.Name, "action", q.Action, "nodes", q.Nodes, "image", q.Image, "by", q.By)
	}
	return f.byHand(tb, nodes, missing, q)
}

// byHand does what a query asks; f.mu is held.
func (f *flags) byHand(tb *inventory.Testbed, nodes []*inventory.Node, missing []string, q events.NetbootQuery) (events.NetbootReport, error) {
	out := events.NetbootReport{Nodes: make([]events.NetbootResult, len(nodes)), Missing: missing}
	until := f.h.clock.Now().Add(f.lifetime).UTC().Round(0)
	var links []pxelinux.Link
	var at []int
	for i, n := range nodes {
		r := &out.Nodes[i]
		*r = events.NetbootResult{Node: n.Name, X: n.X, Y: n.Y, MAC: n.MAC}
		if n.IP.IsValid() {
			r.IP = n.IP.String()
		}
		if q.Action != events.NetbootStatus && n.Boot.Driver == inventory.BootBuiltin {
			r.Error = &events.Error{Code: events.CodeUnsupported, Message: fmt.Sprintf("node %s boots by the built-in service, which has no links", n.Name)}
			continue
		}
		links, at = append(links, f.link(tb.Name, n, q.Image, "", until)), append(at, i)
	}
	switch q.Action {
	case events.NetbootClear:
		if err := f.tree.Clear(links); err != nil {
			return out, &events.Error{Code: events.CodeFailed, Message: err.Error(), Retryable: true}
		}
	case events.NetbootSet:
		done, err := f.tree.Set(links)
		f.report(done, err)
		for i, o := range done {
			out.Nodes[at[i]].Note = o.Note
			if o.Err != nil {
				out.Nodes[at[i]].Error = &events.Error{Code: codeOfLink(o.Err), Message: fmt.Sprintf("node %s: %v", o.Node, o.Err)}
			}
		}
		select {
		case f.poked <- struct{}{}: // there is another end to wait for
		default:
		}
	}
	for i := range out.Nodes {
		r := &out.Nodes[i]
		if o, ok := f.tree.Status(tb.Name, r.Node); ok {
			r.Image, r.Links, r.Job, r.Until = o.Image, o.Names, o.Job, o.Until
		}
	}
	return out, nil
}

func codeOfLink(err error) events.Code {
	switch {
	case errors.Is(err, pxelinux.ErrImage):
		return events.CodeImage
	case errors.Is(err, pxelinux.ErrAddress):
		return events.CodeUnsupported
	}
	return events.CodeFailed
}
