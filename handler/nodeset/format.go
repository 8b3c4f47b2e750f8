package nodeset

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Format writes names of nodes as an expression that resolves to just these
// nodes in this order. It is empty for no nodes, which Parse refuses. The
// names are those of an inventory (CheckName).
func Format(nodes []string) string { return strings.Join(nodes, ",") }

// WriteTopology writes a topology file as OMF wrote its results (omf-legacy
// c.1, c.2): with coordinates if all nodes are in a grid, else with names.
// The explanation goes into the comment. ParseTopology reads it; so do the
// OMF handlers of the respective release.
func WriteTopology(w io.Writer, name, explanation string, nodes []string) error {
	if err := CheckTopologyName(name); err != nil {
		return err
	}
	if err := checkNames(nodes); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	writeComment(b, "Topology name: "+name+"\n\n"+explanation)
	fmt.Fprintf(b, " \ndefTopology('%s', %s)\n", name, literal(nodes))
	return b.Flush()
}

func checkNames(nodes []string) error {
	for _, n := range nodes {
		if err := CheckName(n); err != nil {
			return err
		}
	}
	return nil
}

func writeComment(b *bufio.Writer, text string) {
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(b, "# %s\n", strings.TrimRight(line, "\r"))
	}
}

// literal is the second argument of defTopology.
func literal(nodes []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range nodes {
		x, y, ok := Coordinates(n)
		if !ok {
			return "'" + strings.Join(nodes, ",") + "'"
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "[%d,%d]", x, y)
	}
	b.WriteByte(']')
	return b.String()
}
