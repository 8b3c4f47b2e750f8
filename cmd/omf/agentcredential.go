package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// credentialCommand hands out what an agent on a node's disk connects with.
func (a *app) credentialCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "credential NODE", Short: "Make the credential of the agent on a node's disk", Args: words(1, "one NODE"),
		Long: `Credential prints what omf-agent on a node's own disk needs to connect
(/etc/loadnode/agent.credential there). The imaging system needs none of these:
it gets one for each boot.

Whoever has it can speak for this node, and for no other, until the secret of
the bus changes. Keep it from those whom the node must not trust.`,
		Example: "  omf nodes credential n1-1 --out agent.credential",
		RunE: func(c *cobra.Command, args []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error { return a.agentCredential(c.Context(), conn, args[0], out) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "write it into a file that only its owner can read (default: print it)")
	placeholder(c.Flags(), "out", "FILE")
	return c
}

func (a *app) agentCredential(ctx context.Context, conn *bus.Conn, node, out string) error {
	// The bus would make one for any name, also for a misspelt one.
	expr, err := a.nodeSet([]string{node})
	if err != nil {
		return err
	}
	var l events.NodeList
	if err := a.askHandler(ctx, conn, events.HandlerNodes, events.NodesQuery{Nodes: expr}, &l); err != nil {
		return err
	}
	if len(l.Nodes) != 1 {
		return &exit{code: exitRefused, err: fmt.Errorf("%s is %d nodes of the inventory: want one", display.Clean(node), len(l.Nodes))}
	}
	var cred events.Credential
	if err := ask(ctx, conn, events.BusSubject(a.testbed(), events.BusCredential), "bus that makes credentials",
		events.CredentialRequest{Node: l.Nodes[0].Name, Kind: events.CredentialNode}, &cred); err != nil {
		return err
	}
	if out != "" {
		if err := writeCredential(out, cred); err != nil {
			return fmt.Errorf("credential of %s: %w", l.Nodes[0].Name, err)
		}
		return nil
	}
	return a.printJSON(cred)
}
