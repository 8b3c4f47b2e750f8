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
	var imaging bool
	c := &cobra.Command{
		Use: "credential NODE", Short: "Make the credential of the agent on a node's disk", Args: words(1, "one NODE"),
		Long: `Credential prints what omf-agent on a node's own disk needs to connect
(/etc/loadnode/agent.credential there). It is good for one thing, until the
secret of the bus changes: to answer when the node is to halt or reboot. Whoever
is root on the node can answer in its place; of loads it can say nothing.

The imaging system needs none of these: it gets one for each boot. Only one of
your own, which does not ask the boot service, needs one made with --imaging.
Whoever has that can speak for this node in every job, and for no other: keep
it from those whom the node must not trust.`,
		Example: "  omf nodes credential n1-1 --out agent.credential",
		RunE: func(c *cobra.Command, args []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error { return a.agentCredential(c.Context(), conn, args[0], imaging, out) })
		},
	}
	c.Flags().StringVar(&out, "out", "", "write it into a file that only its owner can read (default: print it)")
	placeholder(c.Flags(), "out", "FILE")
	c.Flags().BoolVar(&imaging, "imaging", false, "for an imaging system of your own, which does not ask the boot service")
	return c
}

func (a *app) agentCredential(ctx context.Context, conn *bus.Conn, node string, imaging bool, out string) error {
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
	kind := events.CredentialResident
	if imaging {
		kind = events.CredentialNode
	}
	var cred events.Credential
	if err := ask(ctx, conn, events.BusSubject(a.testbed(), events.BusCredential), "bus that makes credentials",
		events.CredentialRequest{Node: l.Nodes[0].Name, Kind: kind}, &cred); err != nil {
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
