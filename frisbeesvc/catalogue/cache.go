package catalogue

import (
	"sync"

	"loadnode/transfer/ndz"
)

// maxCached bounds the manifests kept in memory, in chunks: about 25 MB. The
// one used last is kept whatever its size.
const maxCached = 256 << 10

// manifests keeps those used last, so that four hundred nodes that fetch one
// manifest page by page do not make the service decode it each time.
type manifests struct {
	mu    sync.Mutex
	items []cached // last used first
}

type cached struct {
	digest   ndz.Digest
	manifest *ndz.Manifest
}

func (c *manifests) get(d ndz.Digest) *ndz.Manifest {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, it := range c.items {
		if it.digest == d {
			copy(c.items[1:i+1], c.items[:i])
			c.items[0] = it
			return it.manifest
		}
	}
	return nil
}

func (c *manifests) put(d ndz.Digest, m *ndz.Manifest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, sum := []cached{{d, m}}, len(m.Chunks)
	for _, it := range c.items {
		if it.digest == d {
			continue
		}
		if sum += len(it.manifest.Chunks); sum > maxCached {
			break
		}
		kept = append(kept, it)
	}
	c.items = kept
}

func (c *manifests) drop(d ndz.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, it := range c.items {
		if it.digest == d {
			c.items = append(c.items[:i], c.items[i+1:]...)
			return
		}
	}
}
