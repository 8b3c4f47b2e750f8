package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"loadnode/cmd/omf/internal/config"
)

// app is one run of the command: its surroundings and its settings.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	interrupts     <-chan os.Signal // Ctrl-C; nil: none come
	environ        []string
	system         string // directory of the system's configuration
	now            func() time.Time

	cfg    *config.Config
	output string // text, json, jsonl
	quiet  bool
	// legacyTimeout is the number after -o in omf load, the option of OMF 5.
	legacyTimeout time.Duration
	onInt         chan chan<- struct{} // hands interrupts over; see interrupt.go
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{
		stdin: stdin, stdout: stdout, stderr: stderr,
		environ: os.Environ(), system: "/etc/loadnode", now: time.Now,
		onInt: make(chan chan<- struct{}),
	}
}

// execute runs one command line and returns its exit code. The end of ctx
// interrupts it as a signal would.
func (a *app) execute(ctx context.Context, args []string) int {
	ctx, stop := a.catch(ctx)
	defer stop()
	root := a.root()
	root.SetArgs(legacyArgs(args))
	running := false
	mark(root, &running)
	err := root.ExecuteContext(ctx)
	if err != nil && !running {
		// Whatever goes wrong before a command runs is about the command line.
		err = &exit{code: exitUsage, err: err}
	}
	return a.report(err)
}

// mark notes that a command has begun to run.
func mark(c *cobra.Command, running *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*running = true
			return run(c, args)
		}
	}
	for _, below := range c.Commands() {
		mark(below, running)
	}
}

// getenv looks a name up in the environment of this run.
func (a *app) getenv(name string) string {
	value := ""
	for _, e := range a.environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// userDir is where a user keeps files of one kind: XDG variable, or below
// the home directory.
func (a *app) userDir(variable, below string) string {
	if d := a.getenv(variable); filepath.IsAbs(d) {
		return filepath.Join(d, "loadnode")
	}
	if h := a.getenv("HOME"); h != "" {
		return filepath.Join(h, below, "loadnode")
	}
	return ""
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "omf COMMAND",
		Short: "Put disk images on many bare-metal nodes at once",
		Long: `omf puts a disk image on one or on four hundred bare-metal nodes at once, and
tells the truth about every disk it wrote.

Exit codes: 0 all nodes ok or the quorum met; 1 some nodes failed; 2 usage;
3 refused; 4 deadline passed or quorum missed; 5 service unreachable;
130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; omf help lists them", args[0])
			}
			return c.Help()
		},
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return a.configure(c) },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	f := root.PersistentFlags()
	a.setting(f, "server", "", config.KeyServer, "URL")
	a.setting(f, "testbed", "", config.KeyTestbed, "NAME")
	a.setting(f, "credential", "", config.KeyCredential, "FILE")
	a.setting(f, "output", "o", config.KeyOutput, "FORMAT")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress on standard error")
	f.BoolP("help", "h", false, "show this")
	root.SetUsageFunc(a.usage)
	root.AddCommand(
		a.loadCommand(), a.saveCommand(), a.watchCommand(), a.jobsCommand(), a.jobCommand(),
		a.imagesCommand(), a.nodesCommand(), a.tellCommand(), a.statCommand(), a.waitCommand(),
		a.serveCommand(), a.simCommand(), a.demoCommand(),
		a.configCommand(), a.importCommand(), a.versionCommand(), a.manCommand(),
	)
	return root
}

// settingKey marks flags that are settings.
const settingKey = "loadnode-setting"

// setting adds a flag whose value is a setting: configure reads it.
func (a *app) setting(f *pflag.FlagSet, name, short, key, unit string) {
	for _, s := range config.Settings() {
		if s.Key != key {
			continue
		}
		f.StringP(name, short, s.Default, s.Help)
		placeholder(f, name, unit)
		f.Lookup(name).Annotations[settingKey] = []string{key}
		return
	}
	panic("flag " + name + " has no setting " + key) // a fault of this program, found by any test
}

// configure loads the settings and lays the flags over them.
func (a *app) configure(c *cobra.Command) error {
	cfg, err := config.Load(config.Source{
		Environ: a.environ, System: a.system, User: a.userDir("XDG_CONFIG_HOME", ".config"),
	})
	if err != nil {
		return usagef("%w", err)
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if key := f.Annotations[settingKey]; len(key) == 1 {
			err = errors.Join(err, cfg.Set(key[0], f.Value.String(), "flag --"+f.Name))
		}
	})
	if err != nil {
		return err
	}
	a.cfg = cfg
	a.output = cfg.Get(config.KeyOutput).Text
	if c.Name() == "load" && digits(a.output) && len(a.output) < 8 {
		n, err := strconv.Atoi(a.output)
		if err != nil {
			return usagef("-o %s: %w", a.output, err)
		}
		a.legacyTimeout, a.output = time.Duration(n)*time.Second, "text"
	}
	switch a.output {
	case "text", "json", "jsonl":
		return nil
	}
	bad := a.output
	a.output = "text"
	return usagef("output %q (%s): want text, json or jsonl", bad, cfg.Get(config.KeyOutput).Origin)
}

func (a *app) get(key string) string { return a.cfg.Get(key).Text }

func (a *app) testbed() string { return a.get(config.KeyTestbed) }

func (a *app) servers() []string { return list(a.get(config.KeyServer)) }

// list splits a setting with commas.
func list(s string) []string {
	var out []string
	for _, w := range strings.Split(s, ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// logger writes to standard error at the level of the settings.
func (a *app) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.get(config.KeyLog))); err != nil {
		v := a.cfg.Get(config.KeyLog)
		return nil, usagef("log level %q (%s): want debug, info, warn or error", v.Text, v.Origin)
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level})), nil
}

// quietLogger writes errors only.
func quietLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError}))
}

// words requires n words after the command.
func words(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("%s wants %s, got %d words", c.CommandPath(), what, len(args))
		}
		return nil
	}
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use + " COMMAND", Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], c.CommandPath())
			}
			return usagef("%s wants a command: %s", c.CommandPath(), names(c))
		},
	}
	c.AddCommand(below...)
	return c
}

func names(c *cobra.Command) string {
	var out []string
	for _, b := range c.Commands() {
		out = append(out, b.Name())
	}
	return strings.Join(out, ", ")
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version", Args: words(0, "no words"),
		RunE: func(*cobra.Command, []string) error {
			if a.output != "text" {
				return a.printJSON(map[string]string{"version": version})
			}
			_, err := fmt.Fprintln(a.stdout, "omf", version)
			return err
		},
	}
}
