package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"loadnode/bus"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

func (a *app) imagesCommand() *cobra.Command {
	list := func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q for %q", args[0], c.CommandPath())
		}
		return a.client(c.Context(), func(conn *bus.Conn) error {
			var l events.ImageList
			if err := a.askImages(c.Context(), conn, events.FrisbeeImages, events.Empty{}, &l); err != nil {
				return err
			}
			return a.printImages(l)
		})
	}
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the images", RunE: list}
	inspect := &cobra.Command{
		Use: "inspect IMAGE", Short: "Show what an image holds", Args: words(1, "one image"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error {
				var d events.ImageDetail
				if err := a.askImages(c.Context(), conn, events.FrisbeeInspect, events.ImageQuery{Image: args[0]}, &d); err != nil {
					return err
				}
				return a.printImage(d)
			})
		},
	}
	rm := &cobra.Command{
		Use: "rm IMAGE", Short: "Remove an image and its manifest", Args: words(1, "one image"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error {
				return a.askImages(c.Context(), conn, events.FrisbeeRemove, events.ImageQuery{Image: args[0]}, &events.Empty{})
			})
		},
	}
	c := group("images", "List, add, check and remove images", ls, inspect, rm,
		a.imageAction("add IMAGE", "Take a file of the server's image directory into the catalogue", events.FrisbeeAdd),
		a.imageAction("verify IMAGE", "Read an image again and compare it with its manifest", events.FrisbeeVerify),
		a.uploadCommand(),
	)
	c.Use, c.RunE = "images", list
	return c
}

// imageAction is a command that asks something of one image and shows it.
func (a *app) imageAction(use, short, endpoint string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: words(1, "one image"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.client(c.Context(), func(conn *bus.Conn) error {
				var img events.Image
				if err := a.askImages(c.Context(), conn, endpoint, events.ImageQuery{Image: args[0]}, &img); err != nil {
					return err
				}
				return a.printAdded(img)
			})
		},
	}
}

// printAdded shows an image in one line.
func (a *app) printAdded(img events.Image) error {
	if a.output != "text" {
		return a.printJSON(img)
	}
	_, err := fmt.Fprintf(a.stdout, "%s: ok, %s, %d chunks, digest %s\n", display.Clean(img.Name), display.Bytes(img.Size), img.Chunks, short(img.Digest))
	return err
}

// short is the beginning of a digest, for people.
func short(digest string) string {
	if len(digest) > 16 {
		return digest[:16]
	}
	return digest
}

func (a *app) printImages(l events.ImageList) error {
	switch a.output {
	case "json":
		return a.printJSON(l)
	case "jsonl":
		return printEach(a, l.Images)
	}
	var rows [][]string
	for _, i := range l.Images {
		note := i.Message
		if i.Serving {
			note = strings.TrimSpace("serving " + note)
		}
		rows = append(rows, []string{
			i.Name, i.State, display.Bytes(i.Size), display.Bytes(i.DataBytes), display.Bytes(i.DiskBytes),
			stamp(i.Modified), short(i.Digest), note,
		})
	}
	return display.Table(a.stdout, []string{"IMAGE", "STATE", "SIZE", "DATA", "DISK", "MODIFIED", "DIGEST", "NOTE"}, rows)
}

func (a *app) printImage(d events.ImageDetail) error {
	if a.output != "text" {
		return a.printJSON(d)
	}
	rows := [][2]string{
		{"image", d.Name}, {"state", words2(d.State, d.Message)}, {"digest", d.Digest},
		{"format", fmt.Sprintf("%s, chunks of version %d", d.Format, d.Version)},
		{"size", fmt.Sprintf("%s in %d chunks", display.Bytes(d.Size), d.Chunks)},
		{"data", fmt.Sprintf("%s, %.2f times the size", display.Bytes(d.DataBytes), d.Ratio)},
		{"disk", fmt.Sprintf("%s, sectors of %d bytes", display.Bytes(d.DiskBytes), d.SectorSize)},
		{"regions", strconv.Itoa(d.Regions)}, {"relocs", strconv.Itoa(d.Relocs)},
		{"uuid", d.UUID}, {"holds", strings.Join(d.Filesystem, ", ")},
		{"modified", stamp(d.Modified)}, {"owner", d.Owner}, {"saved", origin(d.Provenance)}, {"manifest", d.ManifestURL},
	}
	for _, r := range rows {
		if r[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "%-9s %s\n", r[0], display.Clean(r[1])); err != nil {
			return err
		}
	}
	return nil
}

// origin says where a saved image comes from.
func origin(p *events.Provenance) string {
	if p == nil {
		return ""
	}
	s := fmt.Sprintf("from %s of %s, %s", p.Disk, p.Node, stamp(p.Time))
	if p.Undigested {
		s += "; no digest came with it: it is whole as far as its own structure tells"
	}
	return s
}

func words2(a, b string) string { return strings.TrimSpace(a + " " + b) }
