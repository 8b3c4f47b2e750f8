package frisbeesvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"loadnode/events"
)

const (
	// maxPlaces is how many places may be open or receiving at once, and how
	// many that have ended are remembered.
	maxPlaces = 64
	// tokenSize is the size of a token before it is encoded, in bytes.
	tokenSize = 32
	// maxLife is the longest life of a place that may be asked for.
	maxLife = 7 * 24 * time.Hour
)

// Why a place ends before its image is stored: causes of its context.
var (
	errAbandoned = errors.New("the save was given up")
	errExpired   = errors.New("the image did not come whole before the place expired")
	errTermOver  = errors.New("the image service ended, or another one took over")
)

// place is where one image is sent, once. It lives in the memory of a term
// alone: what a restart interrupts cannot be gone on with.
type place struct {
	id         string // of its URL
	token      string
	image      string
	lease      string
	plain      bool
	file       string        // in the shared directory, of a place there
	written    chan struct{} // closed when that file is whole
	provenance events.Provenance
	expires    time.Time
	listener   net.Listener // of a plain place

	ctx    context.Context // ends when the place does
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended and nothing is left of it
	bytes  atomic.Int64  // received

	// Under the lock of places.
	used    bool // the token was shown
	state   string
	message string
	stored  *events.Image
}

// live says whether the place still waits or receives. The lock of places is held.
func (p *place) live() bool { return p.state == events.PlaceOpen || p.state == events.PlaceReceiving }

// places are those of a term, in the order in which they were made.
type places struct {
	mu   sync.Mutex
	list []*place
}

// find returns the place of a lease, the latest if it had several, or nil.
// The lock is held.
func (ps *places) find(lease string) *place {
	for _, p := range slices.Backward(ps.list) {
		if p.lease == lease {
			return p
		}
	}
	return nil
}

// of is find for callers without the lock.
func (ps *places) of(lease string) *place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.find(lease)
}

// busy returns the place at which an image of that name is expected, or nil.
// The lock is held.
func (ps *places) busy(image string) *place {
	i := slices.IndexFunc(ps.list, func(p *place) bool { return p.image == image && p.live() })
	if i < 0 {
		return nil
	}
	return ps.list[i]
}

// newPlace makes a place with an id and a token of its own, which nobody knows yet.
func newPlace(ctx context.Context, req events.ReceiveRequest, expires time.Time) (*place, error) {
	secret := make([]byte, tokenSize+16)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("place for %s: %w", req.Image, err)
	}
	p := &place{
		id: hex.EncodeToString(secret[tokenSize:]), token: base64.RawURLEncoding.EncodeToString(secret[:tokenSize]),
		image: req.Image, lease: req.Lease, plain: req.Plain, provenance: req.Provenance, expires: expires.UTC(),
		done: make(chan struct{}), state: events.PlaceOpen,
	}
	if req.Directory {
		p.file, p.written = sharedName(p.id), make(chan struct{})
	}
	p.ctx, p.cancel = context.WithCancelCause(ctx)
	return p, nil
}

// add makes a place known, unless its lease has got one meanwhile, which is
// returned then. It is refused while an image of that name is expected
// elsewhere, or too many are.
func (ps *places) add(p *place) (*place, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if q := ps.find(p.lease); q != nil {
		return q, nil
	}
	if err := ps.expected(p.image); err != nil {
		return nil, err
	}
	live, ended := 0, 0
	for _, q := range ps.list {
		if q.live() {
			live++
		} else {
			ended++
		}
	}
	if live >= maxPlaces {
		return nil, &events.Error{Code: events.CodeBusy, Retryable: true, Message: fmt.Sprintf("%d images are being saved already", live)}
	}
	ps.list = slices.DeleteFunc(ps.list, func(q *place) bool {
		if ended < maxPlaces || q.live() {
			return false
		}
		ended--
		return true
	})
	ps.list = append(ps.list, p)
	return p, nil
}

// expected is an error if an image of that name is to come. The lock is held.
func (ps *places) expected(image string) error {
	if other := ps.busy(image); other != nil {
		return &events.Error{Code: events.CodeConflict, Message: fmt.Sprintf("an image %s is being saved already, for %s", image, other.lease),
			Hint: "take another name, or wait for it"}
	}
	return nil
}

// free is an error if an image of that name is to come.
func (ps *places) free(image string) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.expected(image)
}

// claim lets the one request in that a token is good for. The second result
// says that somebody showed a good token once more.
func (ps *places) claim(id, token string) (*place, bool, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	i := slices.IndexFunc(ps.list, func(p *place) bool { return p.id == id && p.byHTTP() })
	if i < 0 {
		return nil, false, errNoPlace
	}
	p := ps.list[i]
	// Of equal length, so that the comparison takes the same time for all.
	want, got := sha256.Sum256([]byte(p.token)), sha256.Sum256([]byte(token))
	switch {
	case subtle.ConstantTimeCompare(want[:], got[:]) != 1:
		return p, false, errWrongToken
	case p.used:
		return p, true, errTokenUsed
	case p.state != events.PlaceOpen:
		return p, false, fmt.Errorf("%w: %s", errPlaceOver, p.message)
	}
	p.used, p.state = true, events.PlaceReceiving
	return p, false, nil
}

// byHTTP says whether images come to the place by HTTP.
func (p *place) byHTTP() bool { return !p.plain && p.file == "" }

// complete notes that the file of a place in the shared directory is whole.
func (ps *places) complete(p *place) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.file != "" && p.state == events.PlaceOpen {
		p.used, p.state = true, events.PlaceReceiving
		close(p.written)
	}
}

// receiving notes that a plain place has got its connection; false if the
// place is over.
func (ps *places) receiving(p *place) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.state != events.PlaceOpen {
		return false
	}
	p.used, p.state = true, events.PlaceReceiving
	return true
}

// end sets what has become of a place: stored, or the error why not. Only the
// first call counts. Whoever receives calls it when nothing is left of what
// came.
func (ps *places) end(p *place, stored *events.Image, err error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !p.live() {
		return
	}
	p.state, p.stored = events.PlaceStored, stored
	if err != nil {
		p.state, p.stored, p.message = events.PlaceFailed, nil, err.Error()
	}
	p.cancel(err)
	close(p.done)
}

// stop ends a place before its time. One that receives ends by itself then,
// soon: wait for done.
func (ps *places) stop(p *place, why error) {
	p.cancel(why)
	ps.mu.Lock()
	open := p.state == events.PlaceOpen
	ps.mu.Unlock()
	if open && p.byHTTP() {
		ps.end(p, nil, why)
	}
}

// expire ends the places whose time has passed.
func (ps *places) expire(now time.Time) {
	for _, p := range ps.all() {
		if !p.expires.After(now) {
			ps.stop(p, fmt.Errorf("%w at %s", errExpired, p.expires.Format(time.RFC3339)))
		}
	}
}

// all lists the places that have not ended.
func (ps *places) all() []*place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var out []*place
	for _, p := range ps.list {
		if p.live() {
			out = append(out, p)
		}
	}
	return out
}

// close ends all places and waits until nothing is left of what they received.
func (ps *places) close() {
	live := ps.all()
	for _, p := range live {
		ps.stop(p, errTermOver)
	}
	for _, p := range live {
		<-p.done
	}
}

// view is what is told of a place. Its token is told only as long as it is of
// use.
func (ps *places) view(t *term, p *place) events.Place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return t.viewLocked(p)
}

func (t *term) viewLocked(p *place) events.Place {
	out := events.Place{Image: p.image, Expires: p.expires, State: p.state, Bytes: p.bytes.Load(), Message: p.message}
	if p.stored != nil {
		stored := *p.stored
		out.Stored = &stored
	}
	switch {
	case p.plain:
		out.Address = p.listener.Addr().String()
	case p.file != "":
		out.File = p.file
	default:
		out.URL = t.s.cfg.HTTPBase + "/v1/save/" + p.id
		if p.state == events.PlaceOpen {
			out.Token = p.token
		}
	}
	return out
}

// views lists all places, without their tokens.
func (ps *places) views(t *term) events.PlaceList {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out := events.PlaceList{Places: make([]events.Place, len(ps.list))}
	for i, p := range ps.list {
		out.Places[i] = t.viewLocked(p)
		out.Places[i].Token = ""
	}
	return out
}
