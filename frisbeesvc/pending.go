package frisbeesvc

import (
	"sync"

	"loadnode/frisbeesvc/catalogue"
)

// pending keeps what the catalogue found out until it is told on the bus. The
// catalogue must not wait for the bus, and an image found damaged while the
// bus is away is to be told when it is back.
type pending struct {
	wake chan struct{}

	mu    sync.Mutex
	items map[string][]any // by image: catalogue.Image or *catalogue.DamagedError
}

// Added implements catalogue.Observer.
func (p *pending) Added(im catalogue.Image) { p.put(im.Name, im) }

// Damaged implements catalogue.Observer.
func (p *pending) Damaged(d *catalogue.DamagedError) { p.put(d.Image, d) }

func (p *pending) put(name string, item any) {
	p.mu.Lock()
	if p.items == nil {
		p.items = map[string][]any{}
	}
	p.items[name] = append(p.items[name], item)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns and forgets what is known of an image.
func (p *pending) take(name string) []any {
	p.mu.Lock()
	defer p.mu.Unlock()
	items := p.items[name]
	delete(p.items, name)
	return items
}

// has says whether something is to be told of an image.
func (p *pending) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.items[name]) > 0
}

// back puts items that could not be told in front of what came since.
func (p *pending) back(name string, items []any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.items == nil {
		p.items = map[string][]any{}
	}
	p.items[name] = append(items, p.items[name]...)
}

func (p *pending) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.items))
	for n := range p.items {
		names = append(names, n)
	}
	return names
}
