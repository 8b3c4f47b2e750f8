package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"loadnode/cmd/internal/outfile"
	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/cmd/omf/internal/migrate"
)

// Names of the files that omf import makes.
const (
	importSettings  = "loadnode.yaml"
	importInventory = "inventory.yaml"
)

func (a *app) importCommand() *cobra.Command {
	var out, addresses string
	var force bool
	c := &cobra.Command{
		Use: "import FILE…", Short: "Make settings and an inventory of files of OMF or rhubarbe",
		Long: `Import reads the YAML of OMF's services (frisbee.yaml, pxe.yaml, cmc.yaml,
inventory.yaml), topology files and rhubarbe's JSON inventory of nodes, and
writes loadnode.yaml and inventory.yaml. What was taken and what was left out,
with the reason, goes to standard error. Nothing in the files is evaluated.

With several testbeds in the files --testbed says whose settings are meant.`,
		Example: "  omf import frisbee.yaml pxe.yaml grid.rb --addresses 10.18\n  omf import inventory-nodes.json --testbed r2lab --out /etc/loadnode",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("omf import wants one or more FILEs")
			}
			return a.importFiles(args, out, addresses, force)
		},
	}
	c.Flags().StringVar(&out, "out", "-", "directory for the two files; - prints them")
	placeholder(c.Flags(), "out", "DIR")
	c.Flags().StringVar(&addresses, "addresses", "", "OMF's plan: 10.18 where node [x,y] has the control address 10.18.x.y")
	placeholder(c.Flags(), "addresses", "A.B")
	c.Flags().BoolVar(&force, "force", false, "replace files that are there")
	return c
}

// imported is what -o json prints.
type imported struct {
	Testbed string            `json:"testbed"`
	Written []string          `json:"written,omitempty"`
	Files   map[string]string `json:"files,omitempty"` // with --out -
	Taken   []migrate.Entry   `json:"taken"`
	Left    []migrate.Entry   `json:"left"`
}

func (a *app) importFiles(names []string, out, addresses string, force bool) error {
	if len(names) > migrate.MaxFiles {
		return usagef("%d files, allowed are %d", len(names), migrate.MaxFiles)
	}
	cfg := migrate.Config{InventoryPath: filepath.Join(a.system, importInventory), Addresses: addresses}
	if tb := a.cfg.Get(config.KeyTestbed); strings.HasPrefix(tb.Origin, "flag ") {
		cfg.Testbed = tb.Text
	}
	if out != "-" {
		dir, err := filepath.Abs(out)
		if err != nil {
			return usagef("--out: %w", err)
		}
		out, cfg.InventoryPath = dir, filepath.Join(dir, importInventory)
	}
	for _, name := range names {
		text, err := readBounded(name, migrate.MaxFile)
		if err != nil {
			return usagef("import: %w", err)
		}
		cfg.Files = append(cfg.Files, migrate.File{Name: name, Text: text})
	}
	r, err := migrate.Convert(cfg)
	if err != nil {
		return usagef("%w", err)
	}
	report := imported{Testbed: r.Testbed, Taken: r.Taken, Left: r.Left}
	files := []migrate.File{{Name: importSettings, Text: r.Config}}
	if len(r.Inventory) > 0 {
		files = append(files, migrate.File{Name: importInventory, Text: r.Inventory})
	}
	if out == "-" {
		report.Files = map[string]string{}
		for _, f := range files {
			report.Files[f.Name] = string(f.Text)
		}
	} else if report.Written, err = writeNew(out, files, force); err != nil {
		return err
	}
	if a.output != "text" {
		return a.printJSON(report)
	}
	a.reportImport(report)
	if out == "-" {
		for i, f := range files {
			if i > 0 {
				fmt.Fprintln(a.stdout, "---")
			}
			if _, err := fmt.Fprintf(a.stdout, "# %s\n%s", f.Name, f.Text); err != nil {
				return err
			}
		}
	}
	for _, path := range report.Written {
		fmt.Fprintln(a.stdout, path)
	}
	return nil
}

// reportImport tells people what became of what they have.
func (a *app) reportImport(r imported) {
	line := func(e migrate.Entry, text string) {
		place := ""
		if e.File != "" {
			place = fmt.Sprintf("%s:%d ", e.File, e.Line)
		}
		if e.Value != "" {
			e.What += " = " + e.Value
		}
		fmt.Fprintf(a.stderr, "  %s\n", display.Clean(place+e.What+text))
	}
	if len(r.Taken) > 0 {
		fmt.Fprintln(a.stderr, "taken:")
	}
	for _, e := range r.Taken {
		text := " → " + e.To
		if e.Why != "" {
			text += " (" + e.Why + ")"
		}
		line(e, text)
	}
	if len(r.Left) > 0 {
		fmt.Fprintln(a.stderr, "left out:")
	}
	for _, e := range r.Left {
		line(e, ": "+e.Why)
	}
}

// writeNew writes files into a directory, each whole or not at all, and none
// if one of them is there already, unless force.
func writeNew(dir string, files []migrate.File, force bool) ([]string, error) {
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if _, err := os.Lstat(path); err == nil && !force {
			return nil, &exit{code: exitRefused, err: fmt.Errorf("%s is there already; nothing was written", path), hint: "give --force to replace it, or another --out"}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("import: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	var written []string
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := outfile.Write(path, f.Text); err != nil {
			return written, fmt.Errorf("import: write %s: %w", path, err)
		}
		written = append(written, path)
	}
	return written, nil
}

// readBounded reads a file of at most most bytes.
func readBounded(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(text) > most {
		return nil, fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return text, nil
}
