package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/display"
	"loadnode/events"
)

type saveFlags struct {
	timeout, ttl   time.Duration
	then, disk     string
	image          string
	level          int
	dryRun, detach bool
	wait           bool
	// From the command line of OMF 5.
	node, resize, aggregate string
	legacy                  bool
}

func (a *app) saveCommand() *cobra.Command {
	var f saveFlags
	c := &cobra.Command{
		Use:   "save NODE [IMAGE] [TESTBED]",
		Short: "Save the disk of a node as an image",
		Long: `Save boots one node into its imaging system, captures its disk (the used parts
of it, compressed) into a new image of the catalogue, and shuts the node down
(or what --then says). Nothing on the disk changes.

The image is there when all of it has arrived and was checked, and not before:
a save that fails leaves none. A name that is taken is refused. Without IMAGE
it is made of node, testbed and time: node-1-2-sb8-2026-11-23-14-05-59.ndz.

A word behind NODE that ends in .ndz is the name of the image; any other is the
testbed, as it is in OMF 4. --image takes names of every form.`,
		Example: `  omf save '[1,2]'
  omf save n1-2 mine/golden.ndz --then stay
  omf save '[1,2]' sb8`,
		RunE: func(c *cobra.Command, args []string) error { return a.save(c.Context(), args, f) },
	}
	fl := c.Flags()
	fl.StringVarP(&f.image, "image", "i", "", "name of the new image (default: of node, testbed and time)")
	fl.DurationVar(&f.timeout, "timeout", 0, "deadline of the whole job (default: time for a disk of 512 GiB at the assumed rates)")
	fl.StringVar(&f.then, "then", string(events.ThenShutdown), "what becomes of the saved node: shutdown, reboot or stay")
	fl.StringVar(&f.disk, "disk", "", "disk to save, by path, serial or WWN (default: the inventory's)")
	fl.IntVar(&f.level, "level", 0, "compression, from 1 (fast) to 9 (small) (default: what imagezip does)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "stop after the plan")
	fl.BoolVar(&f.detach, "detach", false, "print the job id as soon as the job is accepted, and end")
	fl.BoolVar(&f.wait, "wait", false, "wait for a node that another job holds, instead of being refused")
	fl.DurationVar(&f.ttl, "ttl", 0, "the request expires when no handler takes it in this time (default 2m)")
	fl.StringVarP(&f.node, "node", "n", "", "node, as OMF 5 names it")
	fl.StringVarP(&f.aggregate, "aggregate", "c", "", "testbed, as OMF 5 names it")
	fl.StringVarP(&f.resize, "resize", "r", "", "refused: a save leaves the disk and its partitions as they are")
	fl.BoolVar(&f.legacy, "legacy-output", false, "print what OMF 4 printed")
	for name, unit := range map[string]string{
		"image": "IMAGE", "timeout": "TIME", "then": "WHAT", "disk": "DISK", "level": "N", "ttl": "TIME", "node": "NODE", "aggregate": "NAME", "resize": "SIZE",
	} {
		placeholder(fl, name, unit)
	}
	return c
}

func (a *app) save(ctx context.Context, args []string, f saveFlags) error {
	req, err := a.saveRequest(args, f)
	if err != nil {
		return err
	}
	w := wish{verb: events.VerbSave, data: req, ttl: req.TTL, requester: req.Requester, about: req.Node}
	if !f.legacy || a.output != "text" {
		return a.submit(ctx, w, f.detach, func() legacyView { return nil }, func(*display.Job) {})
	}
	view := &legacySave{out: a.stdout, testbed: a.testbed()}
	return a.submit(ctx, w, f.detach, func() legacyView { return view }, func(j *display.Job) { view.finish(a.now(), j) })
}

// saveRequest checks what can be checked here. What the node is, and whether
// the name is free, is for the handler to say.
func (a *app) saveRequest(args []string, f saveFlags) (events.SaveRequest, error) {
	var none events.SaveRequest
	if f.resize != "" {
		return none, usagef("omf save: -r %s cannot be served: a save changes nothing on the disk of the node; partitions are resized when the image is loaded", display.Clean(f.resize))
	}
	node, image, testbed, err := f.words(args)
	if err != nil {
		return none, err
	}
	if testbed != "" {
		if err := a.cfg.Set(config.KeyTestbed, testbed, "the command"); err != nil {
			return none, usagef("%w", err)
		}
	}
	expr, err := a.nodeSet([]string{bracketed(node)})
	if err != nil {
		return none, err
	}
	switch events.Then(f.then) {
	case events.ThenShutdown, events.ThenReboot, events.ThenStay:
	default:
		return none, usagef("--then %q: want shutdown, reboot or stay", f.then)
	}
	if f.level < 0 || f.level > 9 {
		return none, usagef("--level %d: want 1 to 9", f.level)
	}
	if f.timeout < 0 || f.ttl < 0 {
		return none, usagef("--timeout and --ttl cannot be negative")
	}
	return events.SaveRequest{
		Node: expr, Image: image, Disk: f.disk, Then: events.Then(f.then), Level: f.level, Timeout: events.Duration(f.timeout),
		TTL: events.Duration(f.ttl), DryRun: f.dryRun, Wait: f.wait, Requester: who(),
	}, nil
}

// words tells what the words of the command line and the options that stand
// for them mean: NODE [IMAGE] [TESTBED], or -n, --image and -c.
func (f saveFlags) words(args []string) (node, image, testbed string, err error) {
	node, image, testbed = f.node, f.image, f.aggregate
	once := func(what string, to *string, word string) {
		if *to != "" && err == nil {
			err = usagef("omf save: %s is named twice: %s and %s", what, display.Clean(*to), display.Clean(word))
		}
		*to = word
	}
	for i, word := range args {
		switch {
		case i == 0 && f.node == "":
			node = word
		case strings.HasSuffix(word, ".ndz"):
			once("the image", &image, word)
		case f.node != "" || strings.ContainsAny(word, "[],@ ") || digits(word):
			err = usagef("omf save wants one NODE, then IMAGE (a name that ends in .ndz) or TESTBED; got %q", display.Clean(word))
		default:
			once("the testbed", &testbed, word)
		}
		if err != nil {
			return "", "", "", err
		}
	}
	if node == "" {
		return "", "", "", usagef("omf save wants NODE, such as '[1,2]'")
	}
	return node, image, testbed, nil
}
