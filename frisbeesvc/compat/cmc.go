package compat

import (
	"fmt"
	"net/http"
	"strings"

	"loadnode/events"
)

// by names these services to whoever reads the log.
const by = "cmc"

// allNodes is the node set of a testbed.
const allNodes = "all"

func (s *Service) cmc() group {
	one := func(action string) func(*request) (reply, error) {
		return func(r *request) (reply, error) {
			set, err := r.node()
			if err != nil {
				return reply{}, err
			}
			return r.tell(set, action)
		}
	}
	all := func(action string) func(*request) (reply, error) {
		return func(r *request) (reply, error) { return r.tell(allNodes, action) }
	}
	domain := []arg{argDomain}
	return group{"cmc", "Information on available testbed resources and simple control functionality", []call{
		{"allOffHard", "Switch off HARD all nodes", domain, all(events.PowerOff)},
		{"allOffSoft", "Switch off SOFT all nodes", domain, all(events.PowerSoft)},
		{"allOn", "Switch on all nodes", domain, all(events.PowerOn)},
		{"allStatus", "Returns the status of all nodes in the testbed", domain, allStatus},
		{"getAllNodes", "Returns the coordinates of all nodes in the testbed", domain, getAllNodes},
		{"nodeSetOn", "Switch on a set of nodes", []arg{{name: "nodes", value: "setDecl", info: "set of nodes to switch on.", required: true}, argDomain},
			func(r *request) (reply, error) { return r.tell(r.get("nodes"), events.PowerOn) }},
		{"offHard", "Switch off a node HARD (immediately)", place(), one(events.PowerOff)},
		{"offSoft", "Switch off a node SOFT (execute halt)", place(), one(events.PowerSoft)},
		{"on", "Switch on a node", place(), one(events.PowerOn)},
		{"reboot", "Reboot a node", place(), one(events.PowerReset)},
		{"reset", "Reset a node", place(), one(events.PowerReset)},
		{"status", "Returns the status of a node", place(), nodeStatus},
	}}
}

// tell switches nodes and says OK if all of them obeyed.
func (r *request) tell(set, action string) (reply, error) {
	report, err := r.power(set, action)
	if err != nil {
		return reply{}, err
	}
	var bad []string
	for _, n := range report.Nodes {
		if n.Error != nil {
			bad = append(bad, n.Node+": "+n.Error.Message)
		}
	}
	switch {
	case len(bad) > 0:
		return reply{}, &refusal{http.StatusInternalServerError, strings.Join(bad[:min(len(bad), 8)], "; "), false}
	case r.v5:
		return xml("<OK/>")
	}
	return text("OK")
}

func (r *request) power(set, action string) (events.PowerReport, error) {
	var report events.PowerReport
	err := r.handler(events.HandlerPower, events.PowerQuery{Nodes: set, Action: action, By: by}, &report)
	if code(err) == events.CodeBadRequest {
		err = &refusal{http.StatusBadRequest, fmt.Sprintf("Error while parsing '%s': %v", set, err), true}
	}
	return report, err
}

// state is what OMF says of the power of a node (§b.5).
func state(n events.PowerResult, v5 bool) string {
	switch {
	case n.Error == nil && n.Power == "on":
		return "POWERON"
	case n.Error == nil && n.Power == "off":
		return "POWEROFF"
	case v5:
		return "UNKNOWN"
	}
	return "NODE NOT AVAILABLE"
}

func allStatus(r *request) (reply, error) {
	report, err := r.power(allNodes, events.PowerStatus)
	if err != nil {
		return reply{}, err
	}
	var b strings.Builder
	b.WriteString("<TESTBED_STATUS><detail>")
	for _, n := range report.Nodes {
		if r.v5 {
			fmt.Fprintf(&b, "<node hrn='%s' state='%s'/>", escape(n.Node), state(n, true))
		} else if n.X > 0 { // the others have no name in OMF 4
			fmt.Fprintf(&b, "<node name='n_%d_%d' state='%s' x='%d' y='%d'/>", n.X, n.Y, state(n, false), n.X, n.Y)
		}
	}
	b.WriteString("</detail></TESTBED_STATUS>")
	return xml(b.String())
}

func nodeStatus(r *request) (reply, error) {
	set, err := r.node()
	if err != nil {
		return reply{}, err
	}
	report, err := r.power(set, events.PowerStatus)
	if err != nil {
		return reply{}, err
	}
	n := report.Nodes[0] // a refusal otherwise
	if r.v5 {
		return xml(fmt.Sprintf("<NODE_STATUS><detail><node hrn='%s' state='%s'/></detail></NODE_STATUS>", escape(n.Node), state(n, true)))
	}
	return xml(fmt.Sprintf("<NODE_STATUS><detail><node name='n_%d_%d' state='%s' x='%d' y='%d'/></detail></NODE_STATUS>", n.X, n.Y, state(n, false), n.X, n.Y))
}

// getAllNodes is a list as Ruby writes it.
func getAllNodes(r *request) (reply, error) {
	var l events.NodeList
	if err := r.handler(events.HandlerNodes, events.NodesQuery{}, &l); err != nil {
		return reply{}, err
	}
	var places []string
	for _, n := range l.Nodes {
		if n.X > 0 {
			places = append(places, fmt.Sprintf("[%d, %d]", n.X, n.Y))
		}
	}
	return text("[" + strings.Join(places, ", ") + "]")
}
