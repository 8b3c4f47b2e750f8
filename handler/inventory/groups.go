package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
)

// The groups of OMF's delivered configuration (omf-legacy a.4).
const (
	defaultGroup   = "224.4.0.1:9006"
	defaultAnswers = "224.4.0.2:9002"
)

// checkGroups checks the keys of the multicast transport.
func (c *checker) checkGroups(path []string, l *fileLegacy) {
	if l.Connect != connectMulticast {
		if l.Group != "" || l.Answers != "" {
			c.bad(path, "group and answers belong to connect: %s", connectMulticast)
		}
		return
	}
	if _, _, err := l.groups(); err != nil {
		c.bad(path, "%v", err)
	}
}

// groups reads the groups of the multicast transport: where agents hear, and
// where they answer.
func (l *fileLegacy) groups() (group, answers netip.AddrPort, err error) {
	for _, g := range []struct {
		of   *netip.AddrPort
		text string
	}{{&group, cmp.Or(l.Group, defaultGroup)}, {&answers, cmp.Or(l.Answers, defaultAnswers)}} {
		*g.of, err = netip.ParseAddrPort(g.text)
		if a := g.of.Addr(); err != nil || !a.Is4() || !a.IsMulticast() || g.of.Port() == 0 {
			return group, answers, fmt.Errorf("%q is no IPv4 multicast address with a port; write one such as %s", clip(g.text), defaultGroup)
		}
	}
	if group == answers {
		return group, answers, fmt.Errorf("group and answers are both %s; agents would hear their own answers", group)
	}
	return group, answers, nil
}
