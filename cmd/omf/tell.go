package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

// tellActions are the commands of omf tell and the power actions they mean.
var tellActions = map[string]string{
	"on": events.PowerOn, "offs": events.PowerSoft, "offh": events.PowerOff, "reboot": events.PowerReset, "reset": events.PowerReset, "cycle": events.PowerCycle,
}

// tellSynonyms are OMF's other words for them, which look like flags and are none.
var tellSynonyms = map[string]string{
	"-on": "on", "--turn-on": "on", "-offs": "offs", "--turn-off-soft": "offs", "-offh": "offh", "--turn-off-hard": "offh",
}

// legacyArgs gives a command line without what only OMF understood.
func legacyArgs(args []string) []string {
	if len(args) < 2 || args[0] != "tell" {
		return args
	}
	out := slices.Clone(args)
	out[1] = cmp.Or(tellSynonyms[args[1]], args[1])
	return out
}

// allNodes is what commands of OMF mean when they name no nodes.
const allNodes = "system:topo:all"

// powerFlags are the options that omf tell and omf stat share.
type powerFlags struct {
	topology string
	legacy   bool
}

func (f *powerFlags) register(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVarP(&f.topology, "topology", "t", "", "nodes, as OMF 5 names them (default: all of the testbed)")
	placeholder(fl, "topology", "NODES")
	fl.BoolVar(&f.legacy, "legacy-output", false, "print what OMF printed")
}

// nodes gives the node set of the words and flags, and lets a last word name the testbed as in OMF 4.
func (f *powerFlags) nodes(a *app, words []string) (string, error) {
	switch {
	case len(words) > 2:
		return "", usagef("too many words: want [NODES [TESTBED]]")
	case len(words) == 2:
		if err := a.cfg.Set(config.KeyTestbed, words[1], "the command"); err != nil {
			return "", usagef("%w", err)
		}
	}
	if len(words) > 0 && f.topology != "" {
		return "", usagef("nodes are named twice: %s and -t %s", words[0], f.topology)
	}
	return a.nodeSet([]string{bracketed(cmp.Or(append(words, "")[0], f.topology, allNodes))})
}

// bracketed gives a set the brackets that OMF 4 puts around what it is given.
func bracketed(set string) string {
	if bare := strings.Trim(set, "0123456789.,"); bare == "" && strings.Contains(set, ",") {
		return "[" + set + "]"
	}
	return set
}

func (a *app) tellCommand() *cobra.Command {
	var f powerFlags
	var action string
	c := &cobra.Command{
		Use: "tell on|offs|offh|reset|cycle [NODES [TESTBED]]", Short: "Switch nodes on or off",
		Long: `Tell switches nodes that no job holds: on, offs (off, their own system shuts
down), offh (off, hard), reset or reboot (hard), cycle (off and on).

Without NODES it means all nodes of the testbed, as OMF does. If one of them is
held by a job or protected, none is switched.`,
		Example: "  omf tell on '[1..4,2]'\n  omf tell -a offh -t n1-1,n1-2",
		RunE: func(c *cobra.Command, args []string) error {
			if action == "" {
				if len(args) == 0 {
					return usagef("omf tell wants a command: on, offs, offh, reset, cycle")
				}
				action, args = args[0], args[1:]
			}
			power, ok := tellActions[action]
			if !ok {
				return usagef("Unknown command : '%s'; want on, offs, offh, reboot, reset or cycle", display.Clean(action))
			}
			nodes, err := f.nodes(a, args)
			if err != nil {
				return err
			}
			return a.power(c, nodes, power, func(r events.PowerReport) error {
				if f.legacy {
					a.legacyTell(action, r)
					return nil
				}
				return a.printPower(r)
			})
		},
	}
	f.register(c)
	c.Flags().StringVarP(&action, "action", "a", "", "command, as OMF 5 names it")
	placeholder(c.Flags(), "action", "COMMAND")
	return c
}

func (a *app) statCommand() *cobra.Command {
	var f powerFlags
	var count, summary bool
	c := &cobra.Command{
		Use: "stat [NODES [TESTBED]]", Short: "Show the power of nodes",
		Example: "  omf stat\n  omf stat -s",
		RunE: func(c *cobra.Command, args []string) error {
			nodes, err := f.nodes(a, args)
			if err != nil {
				return err
			}
			return a.power(c, nodes, events.PowerStatus, func(r events.PowerReport) error {
				switch {
				case a.output == "text" && (count || summary):
					a.countPower(r, summary)
					return nil
				case f.legacy:
					a.legacyStat(r)
					return nil
				}
				return a.printPower(r)
			})
		},
	}
	f.register(c)
	c.Flags().BoolVarP(&count, "count", "c", false, "only how many are on and off, as OMF 4 prints it")
	c.Flags().BoolVarP(&summary, "summary", "s", false, "only how many are on and off, as OMF 5 prints it")
	return c
}

// power asks the handler, prints, and fails if some node failed.
func (a *app) power(c *cobra.Command, nodes, action string, print func(events.PowerReport) error) error {
	ctx := c.Context()
	return a.client(ctx, func(conn *bus.Conn) error {
		var r events.PowerReport
		if err := a.askHandler(ctx, conn, events.HandlerPower, events.PowerQuery{Nodes: nodes, Action: action, By: who()}, &r); err != nil {
			return err
		}
		if err := print(r); err != nil {
			return err
		}
		if len(r.Missing) > 0 {
			fmt.Fprintf(a.stderr, "omf: not in the inventory: %s\n", display.Clean(strings.Join(r.Missing, " ")))
		}
		if slices.ContainsFunc(r.Nodes, func(n events.PowerResult) bool { return n.Error != nil }) {
			return quietly(exitFailed)
		}
		return nil
	})
}

func (a *app) printPower(r events.PowerReport) error {
	switch a.output {
	case "json":
		return a.printJSON(r)
	case "jsonl":
		return printEach(a, r.Nodes)
	}
	var rows [][]string
	for _, n := range r.Nodes {
		note := ""
		if n.Error != nil {
			note = n.Error.Message
		}
		rows = append(rows, []string{n.Node, n.Power, note})
	}
	return display.Table(a.stdout, []string{"NODE", "POWER", "NOTE"}, rows)
}

// legacyName is what OMF 4 calls a node.
func legacyName(n events.PowerResult) string {
	if n.X > 0 {
		return "n_" + strconv.Itoa(n.X) + "_" + strconv.Itoa(n.Y)
	}
	return n.Node
}

// legacyState is what OMF 4 says of the power of a node (§b.5).
func legacyState(n events.PowerResult) string {
	switch {
	case n.Error != nil:
		return "NODE NOT AVAILABLE"
	case n.Power == "off":
		return "POWEROFF"
	case n.Power == "on":
		return "POWERON"
	}
	return "NODE NOT AVAILABLE"
}

var rule = strings.Repeat("-", 47)

// legacyTell and legacyStat print what OMF 4 prints (§c.1).

func (a *app) legacyTell(action string, r events.PowerReport) {
	fmt.Fprintf(a.stdout, "%s\n Testbed : %s - Command: %s\n", rule, a.testbed(), action)
	for _, n := range r.Nodes {
		if n.Error == nil {
			fmt.Fprintf(a.stdout, " Node %s - Ok\n", legacyName(n))
		} else {
			fmt.Fprintf(a.stdout, " Node %s - Error (node state: 'Not Available')\n", legacyName(n))
		}
	}
	fmt.Fprintln(a.stdout, rule)
}

func (a *app) legacyStat(r events.PowerReport) {
	fmt.Fprintf(a.stdout, "%s\n Testbed : %s\n", rule, a.testbed())
	for _, n := range r.Nodes {
		fmt.Fprintf(a.stdout, " Node %s - State: %s\n", legacyName(n), legacyState(n))
	}
	fmt.Fprintln(a.stdout, rule)
}

// countPower prints how many nodes are on, off and unknown, as OMF 5 (summary) or OMF 4 does.
func (a *app) countPower(r events.PowerReport, summary bool) {
	counts := map[string]int{}
	for _, n := range r.Nodes {
		counts[legacyState(n)]++
	}
	on, off, other := counts["POWERON"], counts["POWEROFF"], counts["NODE NOT AVAILABLE"]
	if summary {
		fmt.Fprintf(a.stdout, "Number of nodes in 'Power ON' state:\t%d\nNumber of nodes in 'Power OFF' state:\t%d\nNumber of nodes in 'Unknown' state:\t%d\n", on, off, other)
		return
	}
	fmt.Fprintf(a.stdout, "Number of nodes in 'Power ON' state      : %d\nNumber of nodes in 'Power OFF' state     : %d\nNumber of nodes in 'Not Available' state : %d\n", on, off, other)
}
