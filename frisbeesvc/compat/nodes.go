package compat

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"loadnode/events"
)

var (
	argX   = arg{name: "x", value: "xCoord", info: "x coordinates of location.", required: true}
	argY   = arg{name: "y", value: "yCoord", info: "y coordinates of location.", required: true}
	argHRN = arg{name: "hrn", value: "[hrn]", info: "name of the node, in place of x and y."}
)

// handler asks the handler.
func (r *request) handler(verb string, req, resp any) error {
	return r.s.cfg.Ask(r.ctx, events.HandlerSubject(r.testbed, verb), req, resp)
}

// node is the node set a request means: by place in OMF 4, by name in OMF 5.
func (r *request) node() (string, error) {
	if hrn := r.get("hrn"); hrn != "" {
		return hrn, nil
	}
	for _, name := range []string{"x", "y"} {
		switch v := r.get(name); {
		case v == "":
			return "", &refusal{http.StatusBadRequest, "Missing parameter '" + name + "'", true}
		case strings.Trim(v, "0123456789") != "" || len(v) > 6:
			return "", &refusal{http.StatusBadRequest, fmt.Sprintf("Parameter '%s' is no coordinate: '%s'", name, v), true}
		}
	}
	return "[" + r.get("x") + "," + r.get("y") + "]", nil
}

// lookup gives the one node a request means, nil if the inventory does not have it.
func (r *request) lookup() (*events.NodeState, error) {
	set, err := r.node()
	if err != nil {
		return nil, err
	}
	var l events.NodeList
	err = r.handler(events.HandlerNodes, events.NodesQuery{Nodes: set}, &l)
	if code(err) == events.CodeNode || err == nil && len(l.Nodes) != 1 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &l.Nodes[0], nil
}

func code(err error) events.Code {
	if err == nil {
		return ""
	}
	return events.AsError(err).Code
}

// where is how OMF calls the node of a request in its messages.
func (r *request) where() string {
	if hrn := r.get("hrn"); hrn != "" {
		return hrn
	}
	return "[" + r.get("x") + "," + r.get("y") + "]"
}

// place is how a node is named: by x and y, or by hrn. Neither is required by itself; node sees to it that one is there.
func place() []arg {
	x, y := argX, argY
	x.required, y.required = false, false
	return []arg{x, y, argHRN, argDomain}
}

func (s *Service) inventory() group {
	value := func(element, what string, of func(*request, *events.NodeState) string) func(*request) (reply, error) {
		return func(r *request) (reply, error) {
			n, err := r.lookup()
			if err != nil {
				return reply{}, err
			}
			v := ""
			if n != nil {
				v = of(r, n)
			}
			if v == "" {
				v = fmt.Sprintf("<ERROR>Inventory has no %s for node %s (domain: %s)</ERROR>", what, escape(r.where()), escape(r.domain()))
			} else {
				v = escape(v)
			}
			return xml("<" + element + ">" + v + "</" + element + ">")
		}
	}
	pxe := func(r *request) string {
		if r.v5 {
			return "PXE_IMAGE"
		}
		return "PXE_Image"
	}
	return group{"inventory", "Service to retrieve information about nodes or testbeds from the Inventory Database", []call{
		{"getAllMacAddresses", "Get all MAC addresses for a given node", place(), func(r *request) (reply, error) {
			n, err := r.lookup()
			switch {
			case err != nil:
				return reply{}, err
			case n == nil || n.MAC == "":
				return xml(fmt.Sprintf("<MAC_Address><ERROR>Inventory has no MAC address for node %s (domain: %s)</ERROR></MAC_Address>", escape(r.where()), escape(r.domain())))
			}
			return xml("<MAC_Address><control>" + strings.ToUpper(n.MAC) + "</control></MAC_Address>")
		}},
		{"getConfig", "Get the configuration of a testbed", []arg{argDomain}, getConfig},
		{"getControlIP", "Get the control IP address for a given node", place(),
			value("CONTROL_IP", "control IP", func(_ *request, n *events.NodeState) string { return n.IP })},
		{"getDefaultDisk", "Get the default disk device of a given node", place(),
			value("DefaultDisk", "default disk", func(r *request, n *events.NodeState) string {
				if n.Disk != "" {
					return n.Disk
				}
				return r.s.cfg.Disk
			})},
		{"getListOfResources", "Get the names of all nodes of a testbed", []arg{argDomain}, listResources},
		{"getPXEImage", "Get the name of the PXE image for a given node", place(), func(r *request) (reply, error) {
			return value(pxe(r), "PXE image", func(r *request, n *events.NodeState) string {
				if n.Image != "" {
					return n.Image
				}
				return r.s.cfg.PXEImage
			})(r)
		}},
	}}
}

// domain is what a request calls its testbed.
func (r *request) domain() string {
	if d := r.get("domain"); d != "" {
		return d
	}
	return r.testbed
}

func getConfig(r *request) (reply, error) {
	var l events.NodeList
	if err := r.handler(events.HandlerNodes, events.NodesQuery{}, &l); err != nil {
		return reply{}, err
	}
	var b strings.Builder
	b.WriteString("<CONFIG>")
	for _, v := range [][2]string{
		{"x_max", strconv.Itoa(l.Columns)}, {"y_max", strconv.Itoa(l.Rows)},
		{"pxe_url", r.s.cfg.Base + "/pxe"}, {"cmc_url", r.s.cfg.Base + "/cmc"}, {"oml_url", ""}, {"oml_port", ""}, {"oml_host", ""}, {"oml_localhost", ""},
		{"frisbee_url", r.s.cfg.Base + "/frisbee"}, {"frisbee_default_disk", r.s.cfg.Disk},
	} {
		text := escape(v[1])
		if text == "" {
			text = fmt.Sprintf("<ERROR>Inventory has no info on [%s] for domain: %s</ERROR>", v[0], escape(r.domain()))
		}
		b.WriteString("<" + v[0] + ">" + text + "</" + v[0] + ">")
	}
	b.WriteString("</CONFIG>")
	return xml(b.String())
}

func listResources(r *request) (reply, error) {
	var l events.NodeList
	if err := r.handler(events.HandlerNodes, events.NodesQuery{}, &l); err != nil {
		return reply{}, err
	}
	var b strings.Builder
	b.WriteString("<RESOURCES>")
	for _, n := range l.Nodes {
		b.WriteString("<NODE>" + escape(n.Name) + "</NODE>")
	}
	b.WriteString("</RESOURCES>")
	return xml(b.String())
}
