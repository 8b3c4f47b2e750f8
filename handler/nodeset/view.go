package nodeset

// View is what the resolution of a set asks of a testbed.
type View interface {
	// All lists every node, in the order of the inventory.
	All() []string
	// At names the node in column x, row y.
	At(x, y int) (name string, ok bool)
	// Named returns the name of the node that is known under this name:
	// its own, or another that the testbed has for it (host name).
	Named(name string) (string, bool)
	// Numbered names the node with rhubarbe's number n: the one whose name is
	// the prefix and n, or where there is no prefix the n-th of All.
	Numbered(n int) (string, bool)
	// Prefix is what the numbered nodes' names begin with, "fit" for fit01;
	// empty where there are none.
	Prefix() string
	// Grid is the size of the grid, 0, 0 where there is none.
	Grid() (columns, rows int)
	// Topology returns the text of the topology file with this name, which
	// CheckTopologyName has accepted. An unknown name is fs.ErrNotExist;
	// FindTopology does the looking up.
	Topology(name string) ([]byte, error)
	// Active lists the nodes of the last successful load.
	Active() []string
}
