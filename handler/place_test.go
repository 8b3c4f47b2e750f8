package handler_test

import (
	"crypto/rand"
	"fmt"
	"strings"

	"loadnode/bus"
	"loadnode/events"
)

// savedImage is what comes of every save, but for its name.
var savedImage = events.Image{Digest: strings.Repeat("cd", 32), Size: 3 << 20, Chunks: 3, DiskBytes: 1 << 30, DataBytes: 7 << 20, SectorSize: 512, Format: "ndz"}

func (i *images) receive(r bus.Request) (any, error) {
	var q events.ReceiveRequest
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.places[q.Lease]; p != nil {
		if p.State == events.PlaceStored && i.busy > 0 {
			i.busy--
			reading := *p
			reading.State, reading.Stored = events.PlaceReceiving, nil
			return reading, nil
		}
		return *p, nil
	}
	taken := q.Image == image.Name || i.had[q.Image]
	for _, p := range i.places {
		taken = taken || p.Image == q.Image && p.State == events.PlaceOpen
	}
	if taken {
		return nil, &events.Error{Code: events.CodeConflict, Message: q.Image + " is there already"}
	}
	p := &events.Place{Image: q.Image, Token: rand.Text(), State: events.PlaceOpen}
	if p.URL = "http://127.0.0.1:5012/v1/save/" + q.Lease; q.Plain {
		p.URL, p.Token, p.Address = "", "", "127.0.0.1:9000"
	}
	i.places[q.Lease], i.asked[q.Lease], i.tokens = p, q, append(i.tokens, p.Token)
	if i.orphaned > 0 {
		i.orphaned--
		p.State, p.Token = events.PlaceReceiving, ""
	}
	return *p, nil
}

func (i *images) abandon(r bus.Request) (any, error) {
	var q events.LeaseRelease
	if err := r.Decode(&q); err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if p := i.places[q.Lease]; p != nil && (p.State == events.PlaceOpen || p.State == events.PlaceReceiving) {
		p.State, p.Token, p.Message = events.PlaceFailed, "", "the save was given up"
	}
	return nil, nil
}

func (i *images) list(bus.Request) (any, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var l events.PlaceList
	for _, p := range i.places {
		q := *p
		q.Token = ""
		l.Places = append(l.Places, q)
	}
	return l, nil
}

// put sends an image to a place, whole or only a part of it.
func (i *images) put(place events.Place, whole bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.places {
		if p.State != events.PlaceOpen || p.Token != place.Token || p.Address != place.Address {
			continue
		}
		if !whole {
			p.State, p.Message = events.PlaceFailed, "the stream ended after 12 bytes"
			return
		}
		img := savedImage
		img.Name = p.Image
		p.State, p.Stored, i.had[p.Image] = events.PlaceStored, &img, true
	}
}

func (i *images) has(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.had[name]
}

// waiting lists the leases of places to which an image may still come.
func (i *images) waiting() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := []string{}
	for l, p := range i.places {
		if p.State == events.PlaceOpen || p.State == events.PlaceReceiving {
			out = append(out, fmt.Sprintf("%s is %s", l, p.State))
		}
	}
	return out
}

// request is what was asked for a lease.
func (i *images) request(lease string) events.ReceiveRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[lease]
}

// secrets are the tokens that were given out.
func (i *images) secrets() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.tokens...)
}
