package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"loadnode/cmd/omf/internal/config"
	"loadnode/cmd/omf/internal/manual"
)

// manCommand writes the manual pages. Packages do that when they are built;
// people need it not, so it is in no list of commands.
func (a *app) manCommand() *cobra.Command {
	var usages []string
	var date string
	c := &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory", Args: words(1, "one directory"), Hidden: true,
		// The machine that builds packages may have a configuration of its own.
		PersistentPreRunE: func(*cobra.Command, []string) error { a.output = "text"; return nil },
		RunE:              func(c *cobra.Command, args []string) error { return a.writeManual(c.Root(), args[0], date, usages) },
	}
	c.Flags().StringArrayVar(&usages, "usage", nil, "write a page of the usage text of another program, too; may be repeated")
	placeholder(c.Flags(), "usage", "NAME.SECTION=FILE")
	c.Flags().StringVar(&date, "date", "", "of the pages, such as 2026-11-23 (default: today)")
	placeholder(c.Flags(), "date", "DAY")
	return c
}

func (a *app) writeManual(root *cobra.Command, dir, date string, usages []string) error {
	if date == "" {
		date = a.now().UTC().Format("2006-01-02")
	}
	root.InitDefaultCompletionCmd()
	write := func(name string, p *manual.Page) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		_, err = p.WriteTo(f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		return err
	}
	var pages func(*cobra.Command) error
	pages = func(c *cobra.Command) error {
		if err := write(manName(c)+".1", commandPage(c, date)); err != nil {
			return err
		}
		for _, below := range c.Commands() {
			if below.IsAvailableCommand() {
				if err := pages(below); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := pages(root); err != nil {
		return err
	}
	if err := write("loadnode.yaml.5", settingsPage(date)); err != nil {
		return err
	}
	for _, u := range usages {
		m := usageOf.FindStringSubmatch(u)
		if m == nil {
			return usagef("--usage %q: want NAME.SECTION=FILE", u)
		}
		section, err := strconv.Atoi(m[2])
		if err != nil {
			return usagef("--usage %q: %w", u, err)
		}
		text, err := usageText(m[3])
		if err != nil {
			return err
		}
		p, err := manual.Usage(manual.Head{Name: m[1], Section: section, Version: version, Date: date}, text)
		if err != nil {
			return fmt.Errorf("usage %s: %w", m[3], err)
		}
		if err := write(fmt.Sprintf("%s.%d", m[1], section), p); err != nil {
			return err
		}
	}
	return nil
}

// usageOf is NAME.SECTION=FILE.
var usageOf = regexp.MustCompile(`^([a-z0-9-]+)\.([1-8])=(.+)$`)

func usageText(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, manual.MaxUsage+1))
	return string(b), err
}

// manName is the name of a command's page: omf-images-add.
func manName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// reference is how pages name a page.
func reference(c *cobra.Command) string { return manName(c) + "(1)" }

// commandPage says what the help of a command says.
func commandPage(c *cobra.Command, date string) *manual.Page {
	c.InitDefaultHelpFlag()
	p := manual.New(manual.Head{Name: manName(c), Section: 1, Short: firstLower(c.Short), Version: version, Date: date})
	var ways []string
	if c.Runnable() {
		ways = append(ways, c.UseLine())
	}
	if c.HasAvailableSubCommands() && !strings.HasSuffix(c.Use, "COMMAND") {
		ways = append(ways, c.CommandPath()+" COMMAND [flags]")
	}
	p.Synopsis(ways...)
	p.Section("DESCRIPTION")
	if c.Long != "" {
		p.Text(c.Long)
	} else {
		p.Text(c.Short + ".")
	}
	if c.HasAvailableSubCommands() {
		p.Section("COMMANDS")
		for _, below := range c.Commands() {
			if below.IsAvailableCommand() {
				p.Name(below.Name(), below.Short+"; see "+reference(below)+".")
			}
		}
	}
	if c.HasAvailableLocalFlags() {
		p.Section("OPTIONS")
		flagItems(p, c.LocalFlags())
		if s := aSetting(c.LocalFlags()); s != "" {
			p.Text(s)
		}
	}
	if c.HasAvailableInheritedFlags() {
		p.Section("OPTIONS OF EVERY COMMAND")
		flagItems(p, c.InheritedFlags())
	}
	if c.HasExample() {
		p.Section("EXAMPLES")
		p.Text(c.Example)
	}
	if !c.HasParent() {
		p.Section("FILES")
		p.Name("/etc/loadnode/loadnode.yaml", "settings of this machine; see loadnode.yaml(5)")
		p.Name("/etc/loadnode/conf.d/*.yaml", "more of them, by name; the last one wins")
		p.Name("~/.config/loadnode/loadnode.yaml", "settings of a user")
		p.Section("SEE ALSO")
		p.Text("loadnode.yaml(5), frisbee(1), frisbeed(1), imagezip(1), imageunzip(1), omf-agent(8)")
		return p
	}
	p.Section("SEE ALSO")
	p.Text(reference(c.Parent()) + ", loadnode.yaml(5). What the exit codes mean is in omf(1).")
	return p
}

func flagItems(p *manual.Page, f *pflag.FlagSet) {
	f.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			p.Item(flagName(flag), flagText(flag)+".")
		}
	})
}

// settingsPage lists all settings.
func settingsPage(date string) *manual.Page {
	p := manual.New(manual.Head{Name: "loadnode.yaml", Section: 5, Short: "settings of loadnode", Version: version, Date: date})
	p.Section("DESCRIPTION")
	p.Text(`A file of settings is YAML. A key with a dot is a key in a mapping:

  version: 1
  serve:
    inventory: /etc/loadnode/inventory.yaml
    http: 10.0.0.200:5012

Settings come from, weakest first: the defaults of the program, /etc/loadnode/loadnode.yaml, /etc/loadnode/conf.d/*.yaml, ~/.config/loadnode/loadnode.yaml, variables of the environment, flags.
LOADNODE_CONFIG names one file that is read instead of those. A key that no setting has is an error.
"omf config show --origin" tells what counts and where it comes from.`)
	p.Section("SETTINGS")
	for _, s := range config.Settings() {
		byDefault := ""
		if v := s.Default + s.Instead; v != "" {
			byDefault = " Default: " + v + "."
		}
		p.Name(s.Key, fmt.Sprintf("%s. In the environment: %s.%s", s.Help, s.Env(), byDefault))
	}
	p.Section("SEE ALSO")
	p.Text("omf(1), omf-serve(1), omf-config-show(1)")
	return p
}

// firstLower begins a line in the manual with a small letter, names aside.
func firstLower(s string) string {
	if len(s) > 1 && s[1] >= 'a' && s[1] <= 'z' {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
