package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/handler/nodeset"
)

type loadFlags struct {
	timeout, ttl    time.Duration
	then, disk      string
	require, verify string
	free            string
	weight          int
	requireVerified bool
	dryRun, detach  bool
	wait            bool
	legacy          legacyLoad
	after           afterLoad
}

func (a *app) loadCommand() *cobra.Command {
	var f loadFlags
	c := &cobra.Command{
		Use:   "load NODES… IMAGE",
		Short: "Load an image on nodes",
		Long: `Load boots each node into its imaging system, loads the image on it, and shuts
it down (or what --then says). Nodes do not wait for each other.

NODES is a node set: [1,1], [1..4,2], n1-1,n1-2, all, system:topo:circle, and so
on; @FILE and - (standard input) hold a set or one name per line. All words but
the last are the node set.

The command ends with the job. Interrupted on a terminal it asks whether to
detach or to cancel; elsewhere it detaches, and the job goes on.`,
		Example: `  omf load '[1..4,1..2]' ubuntu.ndz
  omf load all ubuntu.ndz --require 95% --then reboot
  omf load @nodes.txt ubuntu.ndz --detach`,
		RunE: func(c *cobra.Command, args []string) error { return a.load(c.Context(), args, f) },
	}
	fl := c.Flags()
	fl.DurationVar(&f.timeout, "timeout", 0, "deadline of the whole job (default: derived from the image and the rate)")
	fl.StringVar(&f.then, "then", string(events.ThenShutdown), "what becomes of a loaded node: shutdown, reboot or stay")
	fl.StringVar(&f.disk, "disk", "", "disk to write, by path, serial or WWN (default: the inventory's)")
	fl.StringVar(&f.require, "require", "", "quorum that makes the job a success, such as 95% or 7 (default: every node)")
	fl.StringVar(&f.verify, "verify", "", "readback: read each disk again after writing, and compare")
	fl.IntVar(&f.weight, "weight", 0, "part of a shared link (omf serve --link-rate) beside other images, 1 to 100 (default 1)")
	fl.StringVar(&f.free, "free", "", "free space of the image on the disk: zero, or discard (default: it keeps what was there)")
	f.after.flags(fl)
	fl.BoolVar(&f.requireVerified, "require-verified", false, "fail nodes whose agent cannot prove what it wrote")
	fl.BoolVar(&f.dryRun, "dry-run", false, "stop after the plan")
	fl.BoolVar(&f.detach, "detach", false, "print the job id as soon as the job is accepted, and end")
	fl.BoolVar(&f.wait, "wait", false, "wait for nodes that another job holds, instead of being refused")
	fl.StringVarP(&f.legacy.topology, "topology", "t", "", "nodes, as OMF 5 names them")
	fl.StringVarP(&f.legacy.image, "image", "i", "", "image, as OMF 5 names it")
	fl.StringVar(&f.legacy.outPath, "outpath", "", "write the nodes that succeeded and failed as topologies into this directory (default /tmp, with --outprefix)")
	fl.StringVar(&f.legacy.outPrefix, "outprefix", "", "how the names of these topologies begin (default: the job, with --outpath)")
	fl.BoolVar(&f.legacy.output, "legacy-output", false, "print the progress and the summary of OMF 4")
	fl.DurationVar(&f.ttl, "ttl", 0, "the request expires when no handler takes it in this time (default 2m)")
	for name, unit := range map[string]string{
		"timeout": "TIME", "then": "WHAT", "disk": "DISK", "require": "SHARE", "verify": "HOW", "free": "HOW", "weight": "N", "ttl": "TIME",
		"topology": "NODES", "image": "IMAGE", "outpath": "DIR", "outprefix": "NAME",
	} {
		placeholder(fl, name, unit)
	}
	return c
}

func (a *app) load(ctx context.Context, args []string, f loadFlags) error {
	args, err := f.legacy.words(a, args)
	if err != nil {
		return err
	}
	req, err := a.loadRequest(args, f)
	if err != nil {
		return err
	}
	return a.submit(ctx, loadWish(req), f.detach, func() legacyView {
		if f.legacy.output && a.output == "text" {
			return newLegacyScreen(a.stdout)
		}
		return nil
	}, func(j *display.Job) { f.legacy.summarize(a, j) })
}

// loadRequest checks what can be checked here. What the nodes and the image
// are is for the handler to say.
func (a *app) loadRequest(args []string, f loadFlags) (events.LoadRequest, error) {
	var none events.LoadRequest
	last := args[len(args)-1]
	if digits(last) && strings.HasSuffix(args[len(args)-2], ".ndz") {
		return none, usagef("omf load: the last word is the image, not the timeout; write --timeout %ss", last)
	}
	expr, err := nodeset.Expand(strings.Join(args[:len(args)-1], " "), a.nodeFile)
	if err != nil {
		return none, usagef("nodes: %w", err)
	}
	switch events.Then(f.then) {
	case events.ThenShutdown, events.ThenReboot, events.ThenStay:
	default:
		return none, usagef("--then %q: want shutdown, reboot or stay", f.then)
	}
	if f.verify != "" && f.verify != events.VerifyReadback {
		return none, usagef("--verify %q: want readback", f.verify)
	}
	if f.free != "" && f.free != events.FreeZero && f.free != events.FreeDiscard {
		return none, usagef("--free %q: want zero or discard", f.free)
	}
	if f.weight < 0 || f.weight > events.MaxWeight {
		return none, usagef("--weight %d: want 1 to %d", f.weight, events.MaxWeight)
	}
	if f.timeout < 0 || f.ttl < 0 {
		return none, usagef("--timeout and --ttl cannot be negative")
	}
	if err := checkQuorum(f.require); err != nil {
		return none, err
	}
	timeout := f.timeout
	if a.legacyTimeout > 0 && timeout == 0 {
		timeout = a.legacyTimeout
	}
	req := events.LoadRequest{
		Nodes: expr, Image: last, Disk: f.disk, Then: events.Then(f.then), Timeout: events.Duration(timeout),
		Require: f.require, Verify: f.verify, Free: f.free, RequireVerified: f.requireVerified, Weight: f.weight, DryRun: f.dryRun,
		Wait: f.wait, TTL: events.Duration(f.ttl), Requester: who(),
	}
	err = f.after.fill(&req)
	return req, err
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// checkQuorum accepts "", "95%" and "7".
func checkQuorum(s string) error {
	if s == "" {
		return nil
	}
	n, percent := strings.CutSuffix(s, "%")
	if !digits(n) || len(n) > 6 || percent && (len(n) > 3 || len(n) == 3 && n > "100") || strings.Trim(n, "0") == "" {
		return usagef("--require %q: want a share such as 95%% (at most 100%%) or a number of nodes", s)
	}
	return nil
}

// newID makes the id of a job.
func newID(now time.Time) (string, error) { return events.NewULID(now, rand.Reader) }

// job is a job of which nothing is known yet, and its following on the
// testbed and in the form of the settings.
func (a *app) job(conn *bus.Conn, id string) (*display.Job, *follow) {
	j := display.NewJob(id)
	f := &follow{app: a, conn: conn, testbed: a.testbed(), job: j, screen: a.screen()}
	if a.output == "jsonl" {
		f.emit = a.emitJSON
	}
	return j, f
}

// wish is a request to load or to save.
type wish struct {
	verb             events.Verb
	data             events.Data
	ttl              events.Duration
	requester, about string
}

func loadWish(r events.LoadRequest) wish {
	return wish{verb: events.VerbLoad, data: r, ttl: r.TTL, requester: r.Requester, about: r.Image}
}

// request publishes the request of the job and follows it. Nothing is missed:
// the watch begins with the first fact that is stored for the job.
func (f *follow) request(ctx context.Context, w wish) error {
	ttl := time.Duration(w.ttl)
	if ttl == 0 {
		ttl = time.Duration(events.DefaultTTL)
	}
	f.patience = ttl + 15*time.Second
	ev, err := events.New(events.Meta{
		ID: f.job.ID, Source: events.Source(f.testbed, "cli", w.requester), Subject: events.SubjectAttr(f.job.ID, ""), Time: f.app.now(),
	}, w.data)
	if err != nil {
		return fmt.Errorf("%s %s: %w", w.verb, w.about, err)
	}
	return f.run(ctx, func(ctx context.Context) error {
		pctx, cancel := context.WithTimeout(ctx, confirmation)
		defer cancel()
		_, err := f.conn.Publish(pctx, events.RequestSubject(f.testbed, w.verb), ev)
		switch {
		case err == nil:
			return nil
		case pctx.Err() == nil:
			return fmt.Errorf("send the request of job %s: %w", f.job.ID, err)
		}
		// Whether it is stored is not known, and neither may be claimed.
		return &exit{
			code: exitUnreachable, err: fmt.Errorf("the bus did not confirm the request of job %s: %w", f.job.ID, err),
			hint: "look at the server: is its disk full? whether the job exists says: omf job show " + f.job.ID,
		}
	})
}

// confirmation is how long the bus may take to store a request: a restart of
// the server fits in.
const confirmation = 20 * time.Second

// submit has a wish carried out, if a handler is there to do it, and shows how
// it went: by the screen, or by the view that is made for it, if any. Ended is
// called with the job when it has ended.
func (a *app) submit(ctx context.Context, w wish, detach bool, view func() legacyView, ended func(*display.Job)) error {
	id, err := newID(a.now())
	if err != nil {
		return err
	}
	return a.client(ctx, func(conn *bus.Conn) error {
		var state events.HandlerState
		if err := a.askHandler(ctx, conn, events.HandlerStatus, events.Empty{}, &state); err != nil {
			return err
		}
		return a.carryOut(ctx, conn, id, w, detach, view(), ended)
	})
}

func (a *app) carryOut(ctx context.Context, conn *bus.Conn, id string, w wish, detach bool, view legacyView, ended func(*display.Job)) error {
	j, follow := a.job(conn, id)
	if view != nil {
		follow.screen.live, follow.screen.lines = nil, nil
		follow.legacy = view
	}
	if detach {
		follow.screen.none = true
		follow.until = func(j *display.Job) bool { return j.Accepted != nil }
	}
	err := follow.request(ctx, w)
	switch {
	case errors.Is(err, errDetached):
		return a.detached(j, exitInterrupted)
	case err != nil:
		return err
	case detach && j.Rejected == nil:
		if a.output == "text" {
			_, err := fmt.Fprintln(a.stdout, id)
			return err
		}
		return a.detached(j, exitOK)
	}
	code := exitOf(j)
	if follow.cancel {
		code = exitInterrupted
	}
	ended(j)
	if follow.legacy != nil && j.Rejected == nil {
		return quietly(code)
	}
	return a.finish(j, code)
}

// detached prints the object of a job that goes on without us.
func (a *app) detached(j *display.Job, code int) error {
	if a.output == "json" {
		o := outcomeOf(j, code)
		o.Outcome = "detached"
		if err := a.printJSON(o); err != nil {
			return err
		}
	}
	return quietly(code)
}
