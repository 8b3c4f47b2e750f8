package netboot

import (
	"sync"
	"time"
)

// chainTime is how long a loader may take from its arrival until it asks for
// its script. If it does not, the machine is thought to have started anew.
const chainTime = 2 * time.Minute

// chains remembers which nodes run the loader that they fetched: as a client
// of DHCP it looks like the iPXE in their network card that fetched it.
type chains struct {
	mu    sync.Mutex
	since map[key]time.Time
}

// begin notes that a node has fetched its loader.
func (c *chains) begin(k key, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since == nil {
		c.since = map[key]time.Time{}
	}
	c.since[k] = now
}

// end notes that it has its script: whoever asks next is the card again.
func (c *chains) end(k key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.since, k)
}

// on reports whether the loader is running.
func (c *chains) on(k key, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.since[k]
	return ok && now.Sub(at) < chainTime
}
