package credential

import (
	"slices"
	"sync"
)

// maxLive is how many connections with the credential of one boot are known. A
// node connects a few times in a boot; the older ones are gone.
const maxLive = 8

// Live knows the connections that use the credentials of boots, so that they
// can be closed when one is revoked. P is what a server closes a connection by.
// The zero value is ready for use, by several goroutines.
type Live[P any] struct {
	mu   sync.Mutex
	at   map[User][]P
	over map[User]bool // revoked
}

// Admit notes a connection. ok is false if the credential was revoked while it
// was checked. The connections in forgotten are not known any more, because
// there are newer ones.
func (l *Live[P]) Admit(u User, at P) (forgotten []P, ok bool) {
	if u.Boot == "" {
		return nil, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over[u] {
		return nil, false
	}
	if l.at == nil {
		l.at = make(map[User][]P)
	}
	all := append(l.at[u], at)
	extra := max(0, len(all)-maxLive)
	l.at[u] = slices.Clone(all[extra:])
	return all[:extra:extra], true
}

// Revoke admits nobody with a credential any more, and returns the connections
// that are to be closed.
func (l *Live[P]) Revoke(u User) []P {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.at[u]
	delete(l.at, u)
	if l.over == nil {
		l.over = make(map[User]bool)
	}
	l.over[u] = true
	return all
}
