package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
)

// servePower is the power controller of the machines: one line "NODE ACTION"
// on a socket, answered by one line.
func servePower(ln net.Listener, machines []*machine) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer c.Close()
			line, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return
			}
			node, action, _ := strings.Cut(strings.TrimSpace(line), " ")
			for _, m := range machines {
				if m.name == node {
					state, err := m.power(action)
					if err != nil {
						state = "error " + strings.ReplaceAll(err.Error(), "\n", " ")
					}
					fmt.Fprintln(c, state)
					return
				}
			}
			fmt.Fprintln(c, "error no such machine")
		}()
	}
}

// askPower is the other end: what the server's exec driver runs.
func askPower(socket, node, action string, out io.Writer) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintln(c, node, action)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if text, bad := strings.CutPrefix(line, "error "); bad {
		return fmt.Errorf("%s", strings.TrimSpace(text))
	}
	fmt.Fprint(out, line)
	return nil
}
