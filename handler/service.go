package handler

import (
	"context"
	"fmt"
	"time"

	"loadnode/bus"
	"loadnode/events"
	"loadnode/handler/inventory"
	"loadnode/handler/job"
	"loadnode/handler/lease"
)

// serve answers questions until ctx ends. The endpoints of each testbed are a
// service of their own.
func (h *Handler) serve(ctx context.Context) error {
	for _, tb := range h.inv.Testbeds() {
		endpoint := func(verb string, f func(context.Context, *inventory.Testbed, bus.Request) (any, error)) bus.Endpoint {
			return bus.Endpoint{Name: verb, Subject: events.HandlerSubject(tb.Name, verb),
				Handle: func(ctx context.Context, r bus.Request) (any, error) { return f(ctx, tb, r) }}
		}
		svc, err := h.conn.Serve(ctx, bus.ServiceConfig{
			Name: "handler", Version: h.vers, Description: "jobs, nodes and leases of testbed " + tb.Name,
			Endpoints: []bus.Endpoint{
				endpoint(events.HandlerStatus, h.answerStatus),
				endpoint(events.HandlerNodes, h.answerNodes),
				endpoint(events.HandlerJobs, h.answerJobs),
				endpoint(events.HandlerJob, h.answerJob),
				endpoint(events.HandlerRelease, h.answerRelease),
				endpoint(events.HandlerProtect, h.answerProtect),
				endpoint(events.HandlerUnprotect, h.answerUnprotect),
				endpoint(events.HandlerPower, h.answerPower),
				endpoint(events.HandlerAgents, h.answerAgents),
				endpoint(events.HandlerNetboot, h.answerNetboot),
			},
		})
		if err != nil {
			return fmt.Errorf("handler: services of testbed %s: %w", tb.Name, err)
		}
		h.work.Go(func() {
			<-ctx.Done()
			svc.Stop()
		})
	}
	return nil
}

// State is what the status endpoint answers; for the process that runs the
// handler.
func (h *Handler) State() events.HandlerState {
	return events.HandlerState{Version: h.vers, Handler: h.id, Open: len(h.book.open()), Counters: h.count.all()}
}

func (h *Handler) answerStatus(context.Context, *inventory.Testbed, bus.Request) (any, error) {
	return h.State(), nil
}

// newest waits until everything that the log holds by now is read: who has
// seen a fact asks about nothing older. Without a bus the answer is what is
// known.
func (h *Handler) newest(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	for _, filter := range []string{events.AllJobFacts, events.AllLeases} {
		if m, err := h.conn.Last(ctx, bus.StreamFacts, filter); err == nil {
			_ = h.book.awaitWatch(ctx, m.Seq) // late is better than never
		}
	}
}

func (h *Handler) answerNodes(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	var q events.NodesQuery
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	h.newest(ctx)
	nodes, missing := tb.Nodes(), []string(nil)
	if q.Nodes != "" {
		var refusal *events.Error
		if nodes, missing, refusal = h.resolve(tb, q.Nodes); refusal != nil {
			return nil, refusal
		}
	}
	return h.nodeList(tb, nodes, missing), nil
}

func (h *Handler) nodeList(tb *inventory.Testbed, nodes []*inventory.Node, missing []string) events.NodeList {
	held, _ := h.book.lease(tb.Name)
	out := events.NodeList{Nodes: make([]events.NodeState, 0, len(nodes)), Missing: missing, Columns: tb.Columns, Rows: tb.Rows}
	for _, n := range nodes {
		_, protected := held.Protected(n.Name)
		seen := h.nodes.sighting(tb.Name, n.Name)
		s := events.NodeState{
			Name: n.Name, X: n.X, Y: n.Y, Disk: n.Disk, Power: n.Power.Driver, Agent: string(n.Agent),
			Hostname: n.Hostname, MAC: n.MAC, Image: n.Boot.Image,
			Protected: protected || n.Protected, Job: held.Holder(n.Name), Boot: seen.Boot, Seen: seen.Time,
		}
		if n.IP.IsValid() {
			s.IP = n.IP.String()
		}
		if s.Job != "" {
			state, _, _ := h.book.job(key{tb.Name, s.Job})
			if m, ok := state.Node(n.Name); ok {
				s.State = string(m.Step)
			}
		}
		out.Nodes = append(out.Nodes, s)
	}
	return out
}

// maxJobs is how many jobs the list shows, the newest ones.
const maxJobs = 1000

func (h *Handler) answerJobs(ctx context.Context, tb *inventory.Testbed, _ bus.Request) (any, error) {
	h.newest(ctx)
	all := h.book.all(tb.Name)
	out := events.JobList{Jobs: make([]events.JobSummary, 0, min(len(all), maxJobs))}
	for _, s := range all[:min(len(all), maxJobs)] {
		out.Jobs = append(out.Jobs, summary(s))
	}
	return out, nil
}

func summary(s job.State) events.JobSummary {
	out := events.JobSummary{
		Job: s.Job, State: string(s.Phase), Image: s.Image(), Save: s.Saves(), Requester: s.Requester,
		Requested: s.Requested, Ended: s.Ended, Archived: s.Archived(),
	}
	if s.Plan != nil {
		out.Nodes = len(s.Plan.Nodes)
	}
	for _, n := range s.Nodes() {
		out.Alarms += n.Alarms
	}
	if s.Result != nil {
		if s.Archived() { // the facts of the nodes are gone
			for _, r := range s.Result.Results {
				out.Alarms += r.Alarms
			}
		}
		out.Outcome, out.OK, out.Failed = s.Result.Outcome, s.Result.OK, s.Result.Failed
		return out
	}
	for _, n := range s.Nodes() {
		switch n.Step {
		case job.Done:
			out.OK++
		case job.Failed:
			out.Failed++
		}
	}
	return out
}

func (h *Handler) answerJob(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	var q events.JobQuery
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	k := key{tb.Name, q.Job}
	h.newest(ctx)
	s, _, _ := h.book.job(k)
	if s.Phase == job.Unknown {
		return nil, &events.Error{Code: events.CodeNotFound, Message: fmt.Sprintf("no job %q in testbed %s", q.Job, tb.Name), Hint: "run: omf jobs"}
	}
	d := events.JobDetail{JobSummary: summary(s), Request: s.Request, Save: s.Save, Plan: s.Plan, Served: s.Served, Reject: s.Reject, Result: s.Result}
	results := make(map[string]*events.NodeResult)
	if s.Result != nil && s.Archived() {
		for i := range s.Result.Results {
			results[s.Result.Results[i].Node] = &s.Result.Results[i]
		}
	}
	for _, n := range s.Nodes() {
		m := events.JobNode{Node: n.Name, State: string(n.Step), Attempt: n.Attempt, Boot: n.Boot, Since: n.Since, Result: n.Result}
		if n.Alarm != nil {
			m.Alarms, m.Alarm = n.Alarms, n.Alarm.Message
		}
		if res := results[n.Name]; res != nil {
			m.Result, m.Attempt, m.State, m.Since, m.Alarms = res, res.Attempts, string(job.Failed), time.Time{}, res.Alarms
			if res.OK {
				m.State = string(job.Done)
			}
		}
		d.Members = append(d.Members, m)
	}
	return d, nil
}

// action reads who wants what of which nodes.
func (h *Handler) action(tb *inventory.Testbed, r bus.Request) (events.NodesAction, []*inventory.Node, []string, error) {
	var a events.NodesAction
	if err := r.Decode(&a); err != nil {
		return a, nil, nil, err
	}
	nodes, missing, refusal := h.resolve(tb, a.Nodes)
	if refusal != nil {
		return a, nil, nil, refusal
	}
	return a, nodes, missing, nil
}

func names(nodes []*inventory.Node) []string {
	out := make([]string, len(nodes))
	for i, n := range nodes {
		out[i] = n.Name
	}
	return out
}

// answerRelease frees nodes by hand. While the job that holds one is running
// nothing is released: its agent may be writing.
func (h *Handler) answerRelease(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	a, nodes, missing, err := h.action(tb, r)
	if err != nil {
		return nil, err
	}
	err = h.appendLeases(ctx, tb.Name, func() ([]events.Data, error) {
		held, _ := h.book.lease(tb.Name)
		for _, n := range nodes {
			holder := held.Holder(n.Name)
			if holder == "" {
				continue
			}
			if s, _, _ := h.book.job(key{tb.Name, holder}); s.Phase == job.Requested || s.Phase == job.Accepted {
				return nil, &events.Error{Code: events.CodeBusy, Job: holder,
					Message: fmt.Sprintf("node %s is held by job %s, which is running", n.Name, holder),
					Hint:    "cancel it first: omf job cancel " + holder}
			}
		}
		return lease.Release(held, names(nodes), a.By), nil
	})
	if err != nil {
		return nil, err
	}
	return h.nodeList(tb, nodes, missing), nil
}

func (h *Handler) answerProtect(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	return h.changeProtection(ctx, tb, r, func(s lease.State, nodes []string, a events.NodesAction) []events.Data {
		return lease.Protect(s, nodes, a.By, a.Reason)
	})
}

func (h *Handler) answerUnprotect(ctx context.Context, tb *inventory.Testbed, r bus.Request) (any, error) {
	return h.changeProtection(ctx, tb, r, func(s lease.State, nodes []string, a events.NodesAction) []events.Data {
		return lease.Unprotect(s, nodes, a.By)
	})
}

func (h *Handler) changeProtection(ctx context.Context, tb *inventory.Testbed, r bus.Request, decide func(lease.State, []string, events.NodesAction) []events.Data) (any, error) {
	a, nodes, missing, err := h.action(tb, r)
	if err != nil {
		return nil, err
	}
	err = h.appendLeases(ctx, tb.Name, func() ([]events.Data, error) {
		s, _ := h.book.lease(tb.Name)
		return decide(s, names(nodes), a), nil
	})
	if err != nil {
		return nil, err
	}
	return h.nodeList(tb, nodes, missing), nil
}
