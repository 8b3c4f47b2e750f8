package job

import (
	"fmt"
	"time"

	"loadnode/events"
)

// Policy holds the times and budgets from which the plan of a job is made.
// Zero fields take the defaults of DefaultPolicy.
type Policy struct {
	// Window is how many nodes boot at once: DHCP, TFTP and the image service
	// see no more than that many newcomers together.
	Window int
	// CheckIn is how long a node may take from the reboot to its first report:
	// firmware, DHCP, kernel and agent of real machines.
	CheckIn time.Duration
	// Join is how long it may take from that report to the beginning of the
	// load. It has to outlast a restart of the image service.
	Join time.Duration
	// Stall is how long a joined agent waits for data before it gives up.
	Stall time.Duration
	// Leave is how long a shutdown or reboot may take.
	Leave time.Duration
	// LinkRate is the assumed rate of a session, bit/s.
	LinkRate int64
	// DiskRate is the assumed rate of a disk, bytes/s, written or read.
	DiskRate int64
	// LoadFactor multiplies the time that image size and rates give.
	LoadFactor float64
	// LoadMargin is added to it: opening, discarding, syncing.
	LoadMargin time.Duration
	// SaveBytes is the size of the largest disk, in bytes, that the time for a
	// save is made for (PlanSave).
	SaveBytes int64

	BootAttempts  int // reboots of a node at most
	LoadAttempts  int // load attempts of a node at most
	LeaveAttempts int // shutdowns at most; the first is soft, the others hard
}

// MaxNodes is how many nodes one job may have: its plan and its result are one
// message each, and the bus takes 1 MiB.
const MaxNodes = 2000

// DefaultPolicy returns the times for real machines. An image of 1 GiB with
// 4 GiB of data gets 3 × (95 s + 86 s) + 60 s ≈ 10 min for its load.
func DefaultPolicy() Policy {
	return Policy{
		Window:        64,
		CheckIn:       210 * time.Second,
		Join:          90 * time.Second,
		Stall:         30 * time.Second,
		Leave:         90 * time.Second,
		LinkRate:      90_000_000, // a 100 Mbit/s control network, its overhead taken off
		DiskRate:      50_000_000,
		LoadFactor:    3,
		LoadMargin:    time.Minute,
		SaveBytes:     512 << 30,
		BootAttempts:  2,
		LoadAttempts:  3,
		LeaveAttempts: 2,
	}
}

// Filled returns the policy with the defaults in place of zero fields.
func (p Policy) Filled() Policy {
	d := DefaultPolicy()
	fill(&p.Window, d.Window)
	fill(&p.CheckIn, d.CheckIn)
	fill(&p.Join, d.Join)
	fill(&p.Stall, d.Stall)
	fill(&p.Leave, d.Leave)
	fill(&p.LinkRate, d.LinkRate)
	fill(&p.DiskRate, d.DiskRate)
	fill(&p.LoadFactor, d.LoadFactor)
	fill(&p.LoadMargin, d.LoadMargin)
	fill(&p.SaveBytes, d.SaveBytes)
	fill(&p.BootAttempts, d.BootAttempts)
	fill(&p.LoadAttempts, d.LoadAttempts)
	fill(&p.LeaveAttempts, d.LeaveAttempts)
	return p
}

func fill[T int | int64 | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Budgets derives the budgets of a job from the image and what is to be done
// with it.
func (p Policy) Budgets(img events.Image, verify string) events.Budgets {
	p = p.Filled()
	seconds := float64(img.Size)*8/float64(p.LinkRate) + float64(img.DataBytes)/float64(p.DiskRate)
	if verify == events.VerifyReadback {
		seconds += float64(img.DataBytes) / float64(p.DiskRate)
	}
	load := time.Duration(p.LoadFactor*seconds*float64(time.Second)) + p.LoadMargin
	return events.Budgets{
		CheckIn: events.Duration(p.CheckIn), Join: events.Duration(p.Join), Load: events.Duration(load),
		Stall: events.Duration(p.Stall), Leave: events.Duration(p.Leave),
		BootAttempts: p.BootAttempts, LoadAttempts: p.LoadAttempts, LeaveAttempts: p.LeaveAttempts,
	}
}

// whole is the time that a job of n nodes can take at worst when every node
// uses its budgets up, in waves of the window. It is the deadline of a job
// that was asked for without one.
func whole(b events.Budgets, n, window int) time.Duration {
	waves := time.Duration((n + window - 1) / window)
	d := time.Duration.Abs
	return waves*time.Duration(b.BootAttempts)*d(time.Duration(b.CheckIn)) +
		time.Duration(b.LoadAttempts)*(d(time.Duration(b.Join))+d(time.Duration(b.Load))) +
		time.Duration(b.LeaveAttempts)*d(time.Duration(b.Leave))
}

// Wish is all that a plan is made of.
type Wish struct {
	Request   events.LoadRequest
	Requester string
	Nodes     []events.PlannedNode
	Missing   []string
	Image     events.Image
	Now       time.Time
}

// Plan makes the plan of a job. The error has code bad_request or node.
func (p Policy) Plan(job string, w Wish) (events.JobAccepted, *events.Error) {
	p = p.Filled()
	if e := Check(w.Request); e != nil {
		return events.JobAccepted{}, e
	}
	if len(w.Nodes) == 0 {
		return events.JobAccepted{}, &events.Error{Code: events.CodeNode, Message: fmt.Sprintf("node set %q has no node of this testbed", clip(w.Request.Nodes, maxName)), Hint: "run: omf nodes ls"}
	}
	if len(w.Nodes) > MaxNodes {
		return events.JobAccepted{}, &events.Error{Code: events.CodeBadRequest, Message: fmt.Sprintf("%d nodes are too many for one job, at most %d are possible", len(w.Nodes), MaxNodes), Hint: "load them in several jobs: they share the session of the image"}
	}
	quorum, e := Quorum(w.Request.Require, len(w.Nodes))
	if e != nil {
		return events.JobAccepted{}, e
	}
	then := w.Request.Then
	if then == "" {
		then = events.ThenShutdown
	}
	b := p.Budgets(w.Image, w.Request.Verify)
	timeout := time.Duration(w.Request.Timeout)
	if timeout <= 0 {
		timeout = whole(b, len(w.Nodes), p.Window)
	}
	return events.JobAccepted{
		Job: job, Image: w.Image, Nodes: w.Nodes, Missing: w.Missing, Quorum: quorum, Window: p.Window,
		Then: then, Verify: w.Request.Verify, Free: w.Request.Free, Resize: w.Request.Resize, Personalise: w.Request.Personalise, RequireVerified: w.Request.RequireVerified,
		Weight: w.Request.Weight, DryRun: w.Request.DryRun,
		Budgets: b, Deadline: w.Now.UTC().Round(0).Add(timeout), Requester: clip(w.Requester, maxName),
	}, nil
}
