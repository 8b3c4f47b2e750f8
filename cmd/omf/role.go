package main

import (
	"fmt"
	"slices"
	"strings"
)

// Roles of a server.
const (
	roleNATS    = "nats"    // the embedded bus
	roleAuth    = "auth"    // who may connect to an external bus
	roleHandler = "handler" // jobs, leases, power
	roleFrisbee = "frisbee" // images and their sessions
	roleBridge  = "bridge"  // legacy agents
	roleNetboot = "netboot" // DHCP, TFTP and HTTP for machines that boot
	roleSim     = "sim"     // simulated nodes
)

func allRoles() []string {
	return []string{roleNATS, roleAuth, roleHandler, roleFrisbee, roleBridge, roleNetboot, roleSim}
}

// parseRoles reads the list of roles. Empty, it means every role that makes
// sense: nats unless an external bus is given, handler, frisbee, bridge where
// there are legacy nodes, and sim where a simulated grid is asked for. netboot
// answers on a network and is only played where it is named.
func parseRoles(text string, external, sim, legacy bool) ([]string, error) {
	var roles []string
	for _, r := range list(text) {
		if !slices.Contains(allRoles(), r) {
			return nil, fmt.Errorf("role %q: want some of %s", r, strings.Join(allRoles(), ", "))
		}
		if !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	if len(roles) == 0 {
		if !external {
			roles = append(roles, roleNATS)
		}
		roles = append(roles, roleHandler, roleFrisbee)
		if legacy {
			roles = append(roles, roleBridge)
		}
		if sim {
			roles = append(roles, roleSim)
		}
	}
	has := func(r string) bool { return slices.Contains(roles, r) }
	switch {
	case external && has(roleNATS):
		return nil, fmt.Errorf("role %s is the embedded bus: leave it out with an external one, or leave --nats out", roleNATS)
	case !external && has(roleAuth):
		return nil, fmt.Errorf("role %s is for an external bus: name it with --nats; the embedded one needs none", roleAuth)
	case sim && !has(roleSim):
		return nil, fmt.Errorf("--sim without role %s: add it to --roles", roleSim)
	case !legacy && has(roleBridge):
		return nil, fmt.Errorf("role %s: the inventory has no node with agent: legacy", roleBridge)
	case !sim && has(roleSim):
		return nil, fmt.Errorf("role %s needs --sim COLSxROWS", roleSim)
	}
	return roles, nil
}
