package main

import (
	"context"
	"fmt"
	"net"

	"loadnode/agent/legacy/bridge"
	groups "loadnode/agent/legacy/group"
	"loadnode/events"
	"loadnode/handler/inventory"
)

// legacyNodes are the nodes of a testbed that are reached through the bridge.
func legacyNodes(inv *inventory.Inventory, testbed string) []bridge.Node {
	tb, ok := inv.Testbed(testbed)
	if !ok {
		return nil
	}
	var out []bridge.Node
	for _, n := range tb.Nodes() {
		if n.Agent == inventory.AgentLegacy {
			out = append(out, bridge.Node{
				Name: n.Name, X: n.X, Y: n.Y, Address: n.IP,
				Port: n.Legacy.Port, Listen: n.Legacy.Listen, AnySystem: n.Legacy.AnySystem, NFS: n.Legacy.NFS,
				Groups: groups.Pair{Agents: n.Legacy.Group, Controllers: n.Legacy.Answers},
			})
		}
	}
	return out
}

// bridgeRole is the agent of all legacy nodes.
func (s *server) bridgeRole(ctx context.Context) (role, func(), error) {
	undo := func() {}
	var listener net.Listener
	if s.cfg.bridgeListen != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp4", s.cfg.bridgeListen)
		if err != nil {
			return role{}, nil, err
		}
		listener, undo = l, func() { l.Close() }
	}
	source := s.source()
	b, err := bridge.New(bridge.Config{
		Testbed: s.cfg.testbed, Nodes: legacyNodes(s.cfg.inventory, s.cfg.testbed), Listener: listener,
		Connect: func(ctx context.Context, node string) (bridge.Bus, error) {
			cred, err := source.credential(ctx, node, events.CredentialNode)
			if err != nil {
				return nil, err
			}
			return source.connect(ctx, cred)
		},
		Session: func(ctx context.Context, id string) (events.SessionState, error) {
			var st events.FrisbeeState
			if err := s.conn.Request(ctx, events.FrisbeeSubject(s.cfg.testbed, events.FrisbeeStatus), events.StatusQuery{Session: id}, &st); err != nil {
				return events.SessionState{}, err
			}
			for _, session := range st.Sessions {
				if session.ID == id {
					return session, nil
				}
			}
			return events.SessionState{}, fmt.Errorf("the image service has no session %s", id)
		},
		Groups: func(ctx context.Context, pair groups.Pair) (groups.Conn, error) {
			return groups.OpenController(ctx, pair, s.cfg.frisbee.iface)
		},
		Logger: s.log.With("role", roleBridge), Version: version,
	})
	if err != nil {
		undo()
		return role{}, nil, usagef("%w", err)
	}
	return role{run: b.Run, ready: func(context.Context) error { return nil }}, undo, nil
}
