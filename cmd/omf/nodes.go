package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/handler/nodeset"
)

// nodeFile reads what @FILE or - stands for in a node set.
func (a *app) nodeFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(a.stdin, nodeset.MaxFile+1))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, nodeset.MaxFile+1))
}

// nodeSet joins the words of a node set and expands files in it.
func (a *app) nodeSet(args []string) (string, error) {
	expr, err := nodeset.Expand(strings.Join(args, " "), a.nodeFile)
	if err != nil {
		return "", usagef("nodes: %w", err)
	}
	return expr, nil
}

func (a *app) nodesCommand() *cobra.Command {
	list := func(c *cobra.Command, args []string) error {
		expr := ""
		if len(args) > 0 {
			e, err := a.nodeSet(args)
			if err != nil {
				return err
			}
			expr = e
		}
		return a.nodesRequest(c, events.HandlerNodes, events.NodesQuery{Nodes: expr})
	}
	ls := &cobra.Command{Use: "ls [NODES…]", Aliases: []string{"list"}, Short: "List the nodes and who holds them", RunE: list}
	c := group("nodes", "List, release and protect nodes", ls,
		a.nodesAction("release", "Free nodes that a job holds; the way out when a job cannot end", events.HandlerRelease),
		a.nodesAction("protect", "Have nodes refuse every job", events.HandlerProtect),
		a.nodesAction("unprotect", "Take a protection back", events.HandlerUnprotect),
		a.credentialCommand(),
	)
	c.Use, c.RunE = "nodes [NODES…]", list
	return c
}

func (a *app) nodesAction(verb, short, endpoint string) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: verb + " NODES…", Short: short,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s wants NODES", c.CommandPath())
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			expr, err := a.nodeSet(args)
			if err != nil {
				return err
			}
			return a.nodesRequest(c, endpoint, events.NodesAction{Nodes: expr, By: who(), Reason: reason})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for people")
	placeholder(c.Flags(), "reason", "TEXT")
	return c
}

func (a *app) nodesRequest(c *cobra.Command, endpoint string, req any) error {
	ctx := c.Context()
	return a.client(ctx, func(conn *bus.Conn) error {
		var l events.NodeList
		if err := a.askHandler(ctx, conn, endpoint, req, &l); err != nil {
			return err
		}
		return a.printNodes(l)
	})
}

func (a *app) printNodes(l events.NodeList) error {
	switch a.output {
	case "json":
		return a.printJSON(l)
	case "jsonl":
		return printEach(a, l.Nodes)
	}
	var rows [][]string
	for _, n := range l.Nodes {
		place, protected := "", ""
		if n.X > 0 || n.Y > 0 {
			place = "[" + strconv.Itoa(n.X) + "," + strconv.Itoa(n.Y) + "]"
		}
		if n.Protected {
			protected = "protected"
		}
		rows = append(rows, []string{n.Name, place, n.Agent, n.Power, n.Disk, stamp(n.Seen), n.Job, n.State, protected})
	}
	if err := display.Table(a.stdout, []string{"NODE", "PLACE", "AGENT", "POWER", "DISK", "SEEN", "JOB", "STATE", "NOTE"}, rows); err != nil {
		return err
	}
	if len(l.Missing) > 0 {
		fmt.Fprintf(a.stderr, "omf: not in the inventory: %s\n", display.Clean(strings.Join(l.Missing, " ")))
	}
	return nil
}
