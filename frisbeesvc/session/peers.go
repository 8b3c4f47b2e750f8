package session

import (
	"cmp"
	"slices"

	"loadnode/events"
)

// Peers lists the clients that were heard, the last heard first.
func (s *Session) Peers() []events.SessionPeer {
	var out []events.SessionPeer
	for _, c := range s.server.Clients() {
		out = append(out, events.SessionPeer{Address: c.Addr.String(), Seen: c.LastSeen, Left: !c.Left.IsZero()})
	}
	slices.SortFunc(out, func(a, b events.SessionPeer) int {
		return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.Address, b.Address))
	})
	return out
}
