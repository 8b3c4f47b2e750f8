package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"loadnode/agent"
	"loadnode/events"
)

// natsNone in place of URLs means that there is no bus.
const natsNone = "none"

const (
	prefix         = "OMF_AGENT_"
	bootIDFile     = "/proc/sys/kernel/random/boot_id"
	credentialSize = 16 << 10 // bytes of a credential file at most
)

// usage stands before the flags in the help.
const usage = `omf-agent --node NAME [flags]

Obeys loadnode on this node: with --imaging it loads and saves disks, without it reboots and halts the machine.
Every flag can come from the environment, as OMF_AGENT_NODE and so on; OMF_AGENT_CREDENTIAL is the credential itself.

`

// settings are what flags and environment say.
type settings struct {
	nats          string
	legacyListen  string
	testbed, node string
	boot          string
	credential    *events.Credential
	address       netip.Addr
	imaging       bool
	allowRegular  bool
	rebootSyscall bool
	debug         bool
	child         bool // of the imaging system's first program
	version       bool
	memory        int64 // MiB
	timeout       time.Duration
	httpTimeout   time.Duration
}

func (s settings) urls() []string {
	return strings.FieldsFunc(s.nats, func(r rune) bool { return r == ',' || r == ' ' })
}

// parse reads flags and, for those not given, the environment.
func parse(args []string, getenv func(string) string, stderr io.Writer) (settings, error) {
	var s settings
	var credential, address string
	f := flag.NewFlagSet("omf-agent", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.nats, "nats", "nats://127.0.0.1:4222", "`URL`s of the bus, separated by commas; none: there is no bus, only legacy controllers")
	f.StringVar(&s.legacyListen, "legacy-listen", "", "`address` where controllers of OMF 4 are served, such as :9006, or multicast for 224.4.0.1:9006 and 224.4.0.2:9002, or multicast:GROUP:PORT,ANSWERS:PORT; they need no password. Empty: nowhere")
	f.StringVar(&s.testbed, "testbed", "default", "`name` of the testbed")
	f.StringVar(&s.node, "node", "", "`name` of this node (required)")
	f.StringVar(&credential, "credential", "", "`file` with the credential of this node, in JSON; -: read it from standard input")
	f.StringVar(&s.boot, "boot-id", "", "`id` of this boot; the kernel's if empty")
	f.StringVar(&address, "address", "", "own `IPv4 address` on the control network; the one that leads to the image server if empty")
	f.BoolVar(&s.imaging, "imaging", false, "this is the imaging system: disks may be written. Without, the credential has to be that of a resident")
	f.BoolVar(&s.allowRegular, "disk-allow-regular", false, "a disk may be a regular file (for tests)")
	f.BoolVar(&s.rebootSyscall, "reboot-syscall", false, "halt and reboot by the kernel at once, as PID 1 does, instead of /sbin/shutdown and /sbin/reboot")
	f.Int64Var(&s.memory, "memory", agent.DefaultMemory>>20, "`MiB` of chunk buffers while loading")
	f.DurationVar(&s.timeout, "timeout", 0, "give up when the bus is not reached within this `time`; 0: never")
	f.DurationVar(&s.httpTimeout, "http-timeout", 15*time.Second, "`time` for one page of a manifest")
	f.BoolVar(&s.debug, "debug", false, "log more")
	f.BoolVar(&s.child, "child", false, "process 1 of the imaging system started it: times in the log are those since the machine's start")
	f.BoolVar(&s.version, "version", false, "print the version and exit")
	f.Usage = func() {
		fmt.Fprint(stderr, usage) // nothing is left to tell of an error
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if err := fromEnvironment(f, getenv); err != nil {
		return s, err
	}
	if s.version {
		return s, nil
	}
	if f.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if s.node == "" {
		return s, errors.New("--node is required")
	}
	if s.nats == natsNone && s.legacyListen == "" {
		return s, errors.New("--nats none needs --legacy-listen: nobody could reach the agent")
	}
	if s.memory < 2 || s.memory > 4096 {
		return s, fmt.Errorf("--memory %d: possible are 2 to 4096 MiB", s.memory)
	}
	if s.timeout < 0 || s.httpTimeout <= 0 {
		return s, errors.New("--timeout must not be negative, --http-timeout must be positive")
	}
	if address != "" {
		var err error
		if s.address, err = netip.ParseAddr(address); err != nil || !s.address.Is4() {
			return s, fmt.Errorf("--address %q is not an IPv4 address", address)
		}
	}
	if s.boot == "" {
		id, err := os.ReadFile(bootIDFile)
		if err != nil {
			return s, fmt.Errorf("--boot-id is not given and the kernel does not tell one: %w", err)
		}
		s.boot = strings.TrimSpace(string(id))
	}
	var err error
	s.credential, err = readCredential(credential, getenv(prefix+"CREDENTIAL"))
	return s, err
}

// fromEnvironment sets the flags that were not given.
func fromEnvironment(f *flag.FlagSet, getenv func(string) string) error {
	given := map[string]bool{"credential": true, "version": true} // not by this way
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	var bad error
	f.VisitAll(func(fl *flag.Flag) {
		name := prefix + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		if v := getenv(name); v != "" && !given[fl.Name] && bad == nil {
			if err := f.Set(fl.Name, v); err != nil {
				bad = fmt.Errorf("%s=%q: %w", name, v, err)
			}
		}
	})
	return bad
}

// readCredential reads a credential from a file or, without one, from text;
// neither means to connect without.
func readCredential(file, text string) (*events.Credential, error) {
	raw, from := []byte(text), prefix+"CREDENTIAL"
	if file != "" {
		in := os.Stdin
		if from = file; file != "-" {
			opened, err := os.Open(file)
			if err != nil {
				return nil, fmt.Errorf("credential: %w", err)
			}
			defer opened.Close()
			in = opened
		}
		var err error
		if raw, err = io.ReadAll(io.LimitReader(in, credentialSize)); err != nil {
			return nil, fmt.Errorf("credential: %w", err)
		}
	}
	if len(raw) == 0 && file == "" {
		return nil, nil
	}
	var c events.Credential
	if err := json.Unmarshal(raw, &c); err != nil || c.User == "" {
		return nil, fmt.Errorf("credential from %s: want JSON with user, password and inbox", from) // not its text: it is a secret
	}
	return &c, nil
}
