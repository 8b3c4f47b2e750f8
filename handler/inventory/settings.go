package inventory

import (
	"slices"
	"strings"
	"time"

	"loadnode/events"
)

// Who makes the connection between a legacy agent and its bridge.
const (
	connectDial      = "dial"      // the bridge
	connectListen    = "listen"    // the agent
	connectMulticast = "multicast" // nobody: they meet on two groups
)

const (
	maxAction  = time.Hour
	maxCheckin = 24 * time.Hour
)

// settings checks what defaults, groups and nodes have in common.
func (c *checker) settings(path []string, s *fileSettings) {
	if s.Disk != nil && (len(*s.Disk) > 256 || !plain(*s.Disk)) {
		c.bad(under(path, "disk"), "disk %q; write a selector such as /dev/sda, without blanks around it", clip(*s.Disk))
	}
	if s.Agent != nil {
		c.oneOf(under(path, "agent"), *s.Agent, string(AgentNative), string(AgentLegacy))
	}
	if l := s.Legacy; l != nil {
		here := under(path, "legacy")
		if l.Port < 0 || l.Port > 65535 {
			c.bad(under(here, "port"), "port %d; ports are 1 to 65535, agents listen on %d", l.Port, DefaultLegacyPort)
		}
		if l.Connect != "" {
			c.oneOf(under(here, "connect"), l.Connect, connectDial, connectListen, connectMulticast)
		}
		c.checkGroups(here, l)
		if host, dir, ok := strings.Cut(l.NFS, ":"); l.NFS != "" && (!ok || !shellSafe(host) || !strings.HasPrefix(dir, "/") || !shellSafe(dir)) {
			c.bad(under(here, "nfs"), "nfs %q; write host:/directory, of letters, digits and . _ - /", clip(l.NFS))
		}
	}
	if s.Then != nil {
		c.oneOf(under(path, "then"), *s.Then, string(events.ThenShutdown), string(events.ThenReboot), string(events.ThenStay))
	}
	if s.Power != nil {
		c.power(under(path, "power"), s.Power)
	}
	if s.Boot != nil {
		here := under(path, "boot")
		c.oneOf(under(here, "driver"), s.Boot.Driver, BootDrivers()...)
		c.text(under(here, "image"), s.Boot.Image)
		c.text(under(here, "args"), s.Boot.Args)
		c.duration(under(here, "checkin"), s.Boot.Checkin, 0, maxCheckin)
	}
}

// shellSafe says whether a word is the same in every shell and on every line.
func shellSafe(s string) bool {
	return s != "" && len(s) <= 256 && strings.Trim(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._/-") == ""
}

func (c *checker) oneOf(path []string, value string, allowed ...string) {
	key := path[len(path)-1]
	switch {
	case slices.Contains(allowed, value):
	case value == "":
		c.bad(path, "%s is missing or empty; write one of %s", key, strings.Join(allowed, ", "))
	default:
		c.bad(path, "%s %q is not known; write one of %s", key, clip(value), strings.Join(allowed, ", "))
	}
}

func (c *checker) text(path []string, value string) {
	if !plain(value) {
		c.bad(path, "%s %q; write at most 1024 printable characters, no blanks around them", path[len(path)-1], clip(value))
	}
}

func (c *checker) duration(path []string, d, least, most time.Duration) {
	if d < least || d > most {
		c.bad(path, "%s %s; allowed are %s to %s", path[len(path)-1], d, least, most)
	}
}
