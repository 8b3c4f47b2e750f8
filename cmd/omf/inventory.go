package main

import (
	"fmt"
	"strconv"
	"strings"

	"loadnode/cmd/omf/internal/config"
	"loadnode/handler/inventory"
)

// grid is a size of a grid of nodes.
type grid struct{ columns, rows int }

// maxGrid bounds each side of a grid.
const maxGrid = 1000

// parseGrid reads COLSxROWS.
func parseGrid(s string) (grid, error) {
	c, r, ok := strings.Cut(strings.ToLower(s), "x")
	columns, err1 := strconv.Atoi(c)
	rows, err2 := strconv.Atoi(r)
	if !ok || err1 != nil || err2 != nil || columns < 1 || rows < 1 || columns > maxGrid || rows > maxGrid {
		return grid{}, fmt.Errorf("grid %q: want COLSxROWS such as 4x2, each 1 to %d", s, maxGrid)
	}
	return grid{columns, rows}, nil
}

// nodes lists the names of a grid's nodes: by column, then by row.
func (g grid) nodes() []string {
	var out []string
	for x := 1; x <= g.columns; x++ {
		for y := 1; y <= g.rows; y++ {
			out = append(out, fmt.Sprintf("n%d-%d", x, y))
		}
	}
	return out
}

// inventory loads the inventory file of the settings, or makes a grid of
// nodes whose power answers on the bus: that of sim where it is given, else
// that of the settings.
func (a *app) inventory(sim *grid) (*inventory.Inventory, error) {
	if file := a.get(config.KeyInventory); file != "" {
		inv, err := inventory.Load(file)
		if err != nil {
			return nil, usagef("%w", err)
		}
		return inv, nil
	}
	g := grid{}
	if sim != nil {
		g = *sim
	} else {
		var err error
		if g, err = parseGrid(a.get(config.KeyGrid)); err != nil {
			return nil, usagef("%s: %w", a.cfg.Get(config.KeyGrid).Origin, err)
		}
	}
	if g.columns*g.rows > inventory.MaxNodes {
		return nil, usagef("grid %dx%d: more than %d nodes", g.columns, g.rows, inventory.MaxNodes)
	}
	inv := inventory.Sim(g.columns, g.rows)
	if _, ok := inv.Testbed(a.testbed()); !ok {
		return nil, usagef("testbed %q: without an inventory file there is only %q; name it in a file given with --inventory", a.testbed(), inventory.DefaultTestbed)
	}
	return inv, nil
}

// mainTestbed is the testbed whose images this server serves: the one that
// the settings name, or the only one of the inventory.
func (a *app) mainTestbed(inv *inventory.Inventory) (string, error) {
	name := a.cfg.Get(config.KeyTestbed)
	if _, ok := inv.Testbed(name.Text); ok {
		return name.Text, nil
	}
	all := inv.Testbeds()
	if name.Origin == config.OriginDefault && len(all) == 1 {
		return all[0].Name, nil
	}
	var names []string
	for _, t := range all {
		names = append(names, t.Name)
	}
	return "", usagef("the inventory has no testbed %q; it has %s", name.Text, strings.Join(names, ", "))
}
