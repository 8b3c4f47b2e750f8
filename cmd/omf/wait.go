package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
	"loadnode/handler/nodeset"
)

// What omf wait takes for an answer.
const (
	waitAgent = "agent"
	waitSSH   = "ssh"
	waitAny   = "any"
)

const (
	waitTimeout = 10 * time.Minute // by default
	waitEvery   = 2 * time.Second  // by default, from the end of a round to the next
	waitSay     = 10 * time.Second // between lines that say who is missing
	waitNames   = 8                // of nodes in such a line
	waitDials   = 64               // connections at once
)

// waitNode is a node in what omf wait prints.
type waitNode struct {
	Node    string  `json:"node"`
	Answers bool    `json:"answers"`
	By      string  `json:"by,omitempty"`      // agent or ssh
	Seconds float64 `json:"seconds,omitempty"` // from the beginning to the answer
	Boot    string  `json:"boot,omitempty"`    // of the agent
	Imaging bool    `json:"imaging,omitempty"` // the agent runs in the imaging system
	Address string  `json:"address,omitempty"` // asked for ssh
	Banner  string  `json:"banner,omitempty"`  // of ssh
	Error   string  `json:"error,omitempty"`   // of the last try
}

// waitReport is what -o json prints.
type waitReport struct {
	For     string     `json:"for"`
	Exit    int        `json:"exit"`
	Nodes   []waitNode `json:"nodes"`
	Silent  []string   `json:"silent,omitempty"`
	Missing []string   `json:"missing,omitempty"` // asked for, not in the inventory
	Seconds float64    `json:"seconds"`
}

type waitFlags struct {
	what           string
	timeout, every time.Duration
	port           uint16
}

func (a *app) waitCommand() *cobra.Command {
	var f waitFlags
	c := &cobra.Command{
		Use: "wait NODES…", Short: "Wait until nodes answer",
		Long: `Wait ends when each of the nodes has answered once.

  --for agent   the handler reaches the agent of the node, in whatever system
                it runs
  --for ssh     TCP port 22 of the node's ip or hostname in the inventory sends
                the banner of an SSH server to this machine; an open port is not
                enough
  --for any     either of them

A node that has just been told to reboot may answer before it goes down; wait
cannot tell that from an answer after it. Exit code 4, with the names of the
silent nodes, says that the time is over.`,
		Example: "  omf tell on '[1..4,2]' && omf wait '[1..4,2]' --for ssh --timeout 5m",
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usagef("omf wait wants NODES")
			case !slices.Contains([]string{waitAgent, waitSSH, waitAny}, f.what):
				return usagef("--for %q: want ssh, agent or any", f.what)
			case f.timeout < 0:
				return usagef("--timeout %s: a time cannot be negative; 0 waits for ever", f.timeout)
			case f.every < 10*time.Millisecond:
				return usagef("--every %s: want at least 10ms", f.every)
			case f.port == 0:
				return usagef("--ssh-port 0: want 1 to 65535")
			}
			expr, err := a.nodeSet(args)
			if err != nil {
				return err
			}
			return a.wait(c.Context(), expr, f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.what, "for", waitAny, "what is an answer: ssh, agent or any")
	placeholder(fl, "for", "WHAT")
	fl.DurationVar(&f.timeout, "timeout", waitTimeout, "give up after this time; 0 never")
	placeholder(fl, "timeout", "TIME")
	fl.DurationVar(&f.every, "every", waitEvery, "pause between two rounds of asking")
	placeholder(fl, "every", "TIME")
	fl.Uint16Var(&f.port, "ssh-port", 22, "TCP port of SSH on the nodes")
	placeholder(fl, "ssh-port", "PORT")
	return c
}

func (a *app) wait(ctx context.Context, expr string, f waitFlags) error {
	return a.client(ctx, func(conn *bus.Conn) error {
		var l events.NodeList
		if err := a.askHandler(ctx, conn, events.HandlerNodes, events.NodesQuery{Nodes: expr}, &l); err != nil {
			return err
		}
		w := &waiter{app: a, conn: conn, flags: f, began: a.now(), index: map[string]int{}}
		if err := w.take(l); err != nil {
			return err
		}
		return w.run(ctx, l.Missing)
	})
}

// waiter is one omf wait.
type waiter struct {
	app   *app
	conn  *bus.Conn
	flags waitFlags
	began time.Time

	mu    sync.Mutex // of what follows, and of standard error
	nodes []waitNode
	index map[string]int // of nodes, by name
	said  time.Time
	fault string // of the handler, said already
}

// take notes the nodes and where their SSH is. A node that can never answer is
// told at once and not after the timeout.
func (w *waiter) take(l events.NodeList) error {
	var nowhere []string
	for _, n := range l.Nodes {
		m := waitNode{Node: n.Name}
		if host := cmp.Or(n.IP, n.Hostname); host != "" && w.flags.what != waitAgent {
			m.Address = net.JoinHostPort(host, strconv.Itoa(int(w.flags.port)))
		}
		if m.Address == "" && w.flags.what == waitSSH {
			nowhere = append(nowhere, n.Name)
		}
		w.index[n.Name] = len(w.nodes)
		w.nodes = append(w.nodes, m)
	}
	if len(nowhere) > 0 {
		return &exit{code: exitRefused, err: fmt.Errorf("the inventory has neither ip nor hostname of %s", clipNames(nowhere)),
			hint: "add one of them, or wait with --for agent"}
	}
	return nil
}

func (w *waiter) run(parent context.Context, missing []string) error {
	if len(missing) > 0 {
		fmt.Fprintf(w.app.stderr, "omf: not in the inventory: %s\n", display.Clean(strings.Join(missing, " ")))
	}
	ctx, cancel := parent, context.CancelFunc(func() {})
	if w.flags.timeout > 0 {
		ctx, cancel = context.WithTimeout(parent, w.flags.timeout)
	}
	defer cancel()
	for {
		if err := w.round(ctx); err != nil {
			return err
		}
		silent := w.silent()
		if len(silent) == 0 || ctx.Err() != nil {
			break
		}
		if now := w.app.now(); now.Sub(w.said) >= waitSay {
			w.said = now
			w.say("%d of %d nodes answer, waiting for %s", len(w.nodes)-len(silent), len(w.nodes), clipNames(silent))
		}
		select {
		case <-time.After(w.flags.every):
		case <-ctx.Done():
		}
	}
	if err := parent.Err(); err != nil {
		return err
	}
	return w.finish(missing)
}

// round asks each silent node once, in each way that counts.
func (w *waiter) round(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	if w.flags.what != waitAgent {
		asking.Go(func() { w.dial(ctx) })
	}
	if w.flags.what == waitSSH {
		return nil
	}
	return w.ask(ctx)
}

// ask has the handler ask the agents. A handler that is away for a while, or
// restarts, is waited for as the nodes are.
func (w *waiter) ask(ctx context.Context) error {
	for some := range slices.Chunk(w.silent(), events.MaxAgents) {
		var r events.AgentReport
		err := w.app.askHandler(ctx, w.conn, events.HandlerAgents, events.NodesQuery{Nodes: nodeset.Format(some)}, &r)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (bus.IsTransient(err) || errors.Is(err, bus.ErrNoResponders)):
			if text := err.Error(); text != w.fault {
				w.fault = text
				w.say("omf: %s; still trying", text)
			}
			return nil
		case err != nil:
			return err
		}
		for _, n := range r.Nodes {
			if n.Answers {
				w.answer(n.Node, waitNode{By: waitAgent, Boot: n.Boot, Imaging: n.Imaging})
			} else if n.Error != nil {
				w.failed(n.Node, n.Error.Message)
			}
		}
	}
	return nil
}

// dial asks the SSH of the nodes.
func (w *waiter) dial(ctx context.Context) {
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	var all sync.WaitGroup
	places := make(chan struct{}, waitDials)
	for _, n := range nodes {
		if n.Answers || n.Address == "" {
			continue
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			defer func() { <-places }()
			banner, err := sshBanner(ctx, n.Address)
			if end, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(end) && n.Error != "" {
				return // only the end of the waiting; the try before says more
			}
			if err != nil {
				w.failed(n.Node, err.Error())
				return
			}
			w.answer(n.Node, waitNode{By: waitSSH, Banner: banner})
		})
	}
	all.Wait()
}

func (w *waiter) silent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, n := range w.nodes {
		if !n.Answers {
			out = append(out, n.Node)
		}
	}
	return out
}

// node finds a node; w.mu is held.
func (w *waiter) node(name string) *waitNode {
	if i, ok := w.index[name]; ok {
		return &w.nodes[i]
	}
	return nil
}

// answer notes the first answer of a node.
func (w *waiter) answer(name string, got waitNode) {
	w.mu.Lock()
	n := w.node(name)
	if n == nil || n.Answers {
		w.mu.Unlock()
		return
	}
	n.Answers, n.By, n.Boot, n.Imaging, n.Banner, n.Error = true, got.By, got.Boot, got.Imaging, got.Banner, ""
	n.Seconds = w.app.now().Sub(w.began).Seconds()
	took := n.Seconds
	w.mu.Unlock()
	w.say("%s answers: %s (%.1f s)", name, display.Clean(cmp.Or(got.Banner, "its agent")), took)
}

// failed notes why a try brought nothing.
func (w *waiter) failed(name, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.node(name); n != nil && !n.Answers {
		n.Error = text
	}
}

// say writes a line of progress.
func (w *waiter) say(format string, args ...any) {
	if w.app.quiet {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.app.stderr, format+"\n", args...)
}

// finish prints the result.
func (w *waiter) finish(missing []string) error {
	silent := w.silent()
	r := waitReport{For: w.flags.what, Nodes: w.nodes, Silent: silent, Missing: missing, Seconds: w.app.now().Sub(w.began).Seconds()}
	var err error
	if len(silent) > 0 {
		r.Exit = exitTimeout
		err = fmt.Errorf("after %s %d of %d nodes have not answered: %s", w.flags.timeout, len(silent), len(w.nodes), strings.Join(silent, " "))
	}
	switch w.app.output {
	case "json":
		if e := w.app.printJSON(r); e != nil {
			return e
		}
	case "jsonl":
		if e := printEach(w.app, w.nodes); e != nil {
			return e
		}
	default:
		if err == nil {
			_, e := fmt.Fprintf(w.app.stdout, "all %d nodes answer\n", len(w.nodes))
			return e
		}
		return &exit{code: exitTimeout, err: err}
	}
	if err == nil {
		return nil
	}
	fmt.Fprintf(w.app.stderr, "omf: %v\n", err)
	return quietly(exitTimeout)
}

// clipNames lists the first names and how many more there are.
func clipNames(names []string) string {
	if len(names) <= waitNames {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:waitNames], " "), len(names)-waitNames)
}
