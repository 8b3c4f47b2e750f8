package compat

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"loadnode/events"
)

// byPXE names these services to whoever reads the log.
const byPXE = "pxe"

func (s *Service) pxe() group {
	domain := argDomain
	image := arg{name: "imgName", value: "[imgName]", info: "name of the PXE image [the one in the inventory]."}
	set := arg{name: "ns", value: "setDecl", info: "set of nodes, such as [[1,1],[1,2]], or names with commas.", required: true}
	some := func(action string) func(*request) (reply, error) {
		return func(r *request) (reply, error) {
			nodes, err := r.set()
			if err != nil {
				return reply{}, err
			}
			return r.netboot(nodes, action)
		}
	}
	all := func(action string) func(*request) (reply, error) {
		return func(r *request) (reply, error) { return r.netboot(allNodes, action) }
	}
	return group{"pxe", "Service to facilitate PXE to boot into specific image", []call{
		{"clearBootImageAll", "Have all nodes boot from their disks", []arg{domain}, all(events.NetbootClear)},
		{"clearBootImageNS", "Have a set of nodes boot from their disks", []arg{set, domain}, some(events.NetbootClear)},
		{"setBootImageAll", "Have all nodes boot the PXE image for a while", []arg{image, domain}, all(events.NetbootSet)},
		{"setBootImageNS", "Have a set of nodes boot the PXE image for a while", []arg{set, image, domain}, some(events.NetbootSet)},
	}}
}

// set is the node set of a request. OMF 4 evaluates it as Ruby; here it is
// parsed by the handler. OMF 5 has names with commas.
func (r *request) set() (string, error) {
	ns := strings.TrimSpace(r.get("ns"))
	if !strings.Contains(ns, "[") && strings.Trim(ns, "0123456789") == "" {
		return "", &refusal{http.StatusBadRequest, fmt.Sprintf("Illegal node set declaration '%s'", ns), true}
	}
	if !strings.Contains(ns, "[") && strings.Contains(ns, ".") && safe(strings.ReplaceAll(ns, ",", "")) {
		r.v5 = true // a list of HRNs
	}
	return ns, nil
}

// netboot sets or clears the boot image of nodes (§b.4).
func (r *request) netboot(nodes, action string) (reply, error) {
	var report events.NetbootReport
	err := r.handler(events.HandlerNetboot, events.NetbootQuery{Nodes: nodes, Action: action, Image: r.get("imgName"), By: byPXE}, &report)
	switch code(err) {
	case events.CodeBadRequest:
		return reply{}, &refusal{http.StatusBadRequest, fmt.Sprintf("Error while parsing '%s': %v", nodes, err), true}
	case events.CodeNode: // as the original's clients know it
		return reply{}, &refusal{http.StatusInternalServerError, err.Error(), false}
	}
	if err != nil {
		return reply{}, err
	}
	bad := slices.Clone(report.Missing)
	for _, n := range report.Nodes {
		if n.Error != nil {
			bad = append(bad, n.Node+": "+n.Error.Message)
		}
	}
	if len(report.Missing) > 0 {
		bad[0] = "no such nodes: " + bad[0]
	}
	if len(bad) > 0 {
		return reply{}, &refusal{http.StatusInternalServerError, strings.Join(bad[:min(len(bad), 8)], "; "), false}
	}
	name, lines := "clearBootImage", ""
	if action == events.NetbootSet {
		name = "setBootImage"
		if nodes == allNodes {
			slices.SortStableFunc(report.Nodes, func(a, b events.NetbootResult) int {
				return cmp.Or(cmp.Compare(a.Y, b.Y), cmp.Compare(a.X, b.X))
			})
		}
		for _, n := range report.Nodes {
			lines += r.booting(n)
		}
	}
	if lines == "" {
		lines = "<nodes/>"
	} else {
		lines = "<nodes>" + lines + "</nodes>"
	}
	return xml("<response status='OK'><action name='" + name + "' service='pxe'>" + lines + "</action></response>")
}

// booting is a node with its boot image: by place in OMF 4, by name in OMF 5
// and where it has no place.
func (r *request) booting(n events.NetbootResult) string {
	hex := ""
	if ip, err := netip.ParseAddr(n.IP); err == nil && ip.Is4() {
		hex = fmt.Sprintf("%X", ip.AsSlice())
	}
	if r.v5 || n.X == 0 {
		return fmt.Sprintf("<node hex='%s' hrn='%s' img='%s' ip='%s'/>", hex, escape(n.Node), escape(n.Image), escape(n.IP))
	}
	return fmt.Sprintf("<node hex='%s' img='%s' ip='%s' x='%d' y='%d'/>", hex, escape(n.Image), escape(n.IP), n.X, n.Y)
}
