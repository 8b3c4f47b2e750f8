package compat

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"loadnode/events"
)

// Defaults of Config for /saveimage (§b.3).
const (
	DefaultSaveTimeout = 30 * time.Minute
	DefaultSaveOwner   = "nobody"
)

// saver is what a legacy client takes for a netcat that waits for an image: a plain place of the image service.
type saver struct {
	lease, image, user, address string
	expires                     time.Time
}

// savers are the places of these services.
type savers struct {
	mu     sync.Mutex // held over a request: there are few
	all    map[key]*saver
	serial int
}

// saveimage is a service of OMF 5 alone: it answers as that does, whatever the form of the request.
func (s *Service) saveimage() group {
	img := arg{name: "img", value: "[imgName]", info: "name of image to save.", required: true}
	user := arg{name: "user", value: "[user]", info: "user who will own the image."}
	return group{"saveimage", "Service to receive and save disk images", []call{
		{"getAddress", "Get the address and port number of a netcat server that saves to a specified image (start a new server if none exists)",
			[]arg{img, user, argDomain}, version5(saveAddress)},
		{"status", "Returns the list of all images that are being saved",
			[]arg{{name: "img", value: "[imgName]", info: "If defined, only report about that image."}, argDomain}, version5(saveStatus)},
		{"stop", "Stop saving to a specified image", []arg{img, argDomain}, version5(saveStop)},
	}}
}

func version5(answer func(*request) (reply, error)) func(*request) (reply, error) {
	return func(r *request) (reply, error) {
		r.v5 = true
		return answer(r)
	}
}

// userName is what a user may be called: it stood in a shell command once.
var userName = regexp.MustCompile(`^\w{1,64}$`)

// saveUser is the owner of an image that is saved. There are no accounts here to look a user up in, so a user who is not
// named is the owner of the configuration, and one who is named is believed, but for root.
func (r *request) saveUser() (string, error) {
	user := cmp.Or(r.get("user"), r.s.cfg.SaveOwner)
	switch {
	case !userName.MatchString(user):
		return "", &refusal{http.StatusBadRequest, "Found unsafe characters in parameter 'user'", false}
	case user == "root":
		return "", &refusal{http.StatusBadRequest, "Images cannot be saved as user 'root'", false}
	}
	return user, nil
}

// saveImage is the image of a request. What is left to be refused is the catalogue's to say.
func (r *request) saveImage() (string, error) {
	if strings.ContainsAny(r.get("img"), "/;:&$|") || len(r.get("img")) > events.MaxNameLen {
		return "", &refusal{http.StatusBadRequest, "Found unsafe characters in parameter 'img'", false}
	}
	return r.get("img"), nil
}

func saveAddress(r *request) (reply, error) {
	user, err := r.saveUser()
	if err != nil {
		return reply{}, err
	}
	image, err := r.saveImage()
	if err != nil {
		return reply{}, err
	}
	s, k := &r.s.savers, key{r.testbed, image}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(r); err != nil {
		return reply{}, err
	}
	if x := s.all[k]; x != nil {
		return xml("<OK>" + x.address + "</OK>")
	}
	if len(s.all) >= r.s.cfg.MaxDaemons {
		return reply{}, errMany
	}
	s.serial++
	now := r.s.cfg.Now()
	lease := fmt.Sprintf("%ssave:%d:%d", leasePrefix, now.UnixNano(), s.serial)
	var place events.Place
	err = r.frisbee(events.FrisbeeReceive, events.ReceiveRequest{
		Image: image, Lease: lease, Plain: true, Life: events.Duration(r.s.cfg.SaveTimeout),
		Provenance: events.Provenance{Testbed: r.testbed, Requester: user, Time: now.UTC()},
	}, &place)
	var e *events.Error
	switch {
	case errors.As(err, &e) && e.Code == events.CodeConflict && r.frisbee(events.FrisbeeCheck, events.ImageQuery{Image: image}, &events.Image{}) == nil:
		return reply{}, &refusal{http.StatusBadRequest, fmt.Sprintf("File '%s' already exists!", image), false}
	case e != nil && (e.Code == events.CodeConflict || e.Code == events.CodeBadRequest):
		return reply{}, &refusal{http.StatusBadRequest, e.Message, false}
	case err != nil:
		return reply{}, err
	}
	s.all[k] = &saver{lease: lease, image: image, user: user, address: place.Address, expires: place.Expires}
	return xml("<OK>" + place.Address + "</OK>")
}

// saveStop gives up a place that nobody has connected to. One that receives ends with its connection: the original's
// clients ask for the stop when the node says that it is done, and by then the image may still be looked through.
func saveStop(r *request) (reply, error) {
	image, err := r.saveImage()
	if err != nil {
		return reply{}, err
	}
	s, k := &r.s.savers, key{r.testbed, image}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(r); err != nil {
		return reply{}, err
	}
	x := s.all[k]
	if x == nil {
		return reply{}, &refusal{http.StatusBadRequest, fmt.Sprintf("Not currently saving to '%s'", image), false}
	}
	// By its own lease, which tells what has become of it.
	var place events.Place
	err = r.frisbee(events.FrisbeeReceive, events.ReceiveRequest{Image: image, Lease: x.lease, Plain: true}, &place)
	if err == nil && place.State == events.PlaceOpen {
		err = r.frisbee(events.FrisbeeAbandon, events.LeaseRelease{Image: image, Lease: x.lease}, nil)
	}
	if err != nil {
		return reply{}, err
	}
	delete(s.all, k)
	return xml(fmt.Sprintf("<OK>Stopped saving to '%s' at %s</OK>", escape(image), x.address))
}

func saveStatus(r *request) (reply, error) {
	image, err := r.saveImage()
	if err != nil {
		return reply{}, err
	}
	s := &r.s.savers
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(r); err != nil {
		return reply{}, err
	}
	var list []*saver
	for k, x := range s.all {
		if k.testbed == r.testbed && (image == "" || x.image == image) {
			list = append(list, x)
		}
	}
	switch {
	case len(list) == 0 && image != "":
		return xml("<OK>Not currently saving to '" + escape(image) + "'</OK>")
	case len(list) == 0:
		return xml("<OK>No saveimage (netcat) daemons are running</OK>")
	}
	slices.SortFunc(list, func(a, b *saver) int { return cmp.Compare(a.address, b.address) })
	var b strings.Builder
	b.WriteString("<saveimage_status>")
	for _, x := range list {
		port := x.address[strings.LastIndexByte(x.address, ':')+1:]
		fmt.Fprintf(&b, "<daemon img='%s' port='%s' timeLeft='%s' user='%s'/>", escape(x.image), port, seconds(max(0, x.expires.Sub(r.s.cfg.Now()))), escape(x.user))
	}
	b.WriteString("</saveimage_status>")
	return xml(b.String())
}

// refresh forgets the places that have ended. s.mu is held.
func (s *savers) refresh(r *request) error {
	asked := map[string]map[string]bool{} // by testbed, the addresses that are open
	for k, x := range s.all {
		open, ok := asked[k.testbed]
		if !ok {
			var list events.PlaceList
			if err := r.s.cfg.Ask(r.ctx, events.FrisbeeSubject(k.testbed, events.FrisbeePlaces), events.Empty{}, &list); err != nil {
				return err
			}
			open = map[string]bool{}
			for _, p := range list.Places {
				if p.Address != "" && (p.State == events.PlaceOpen || p.State == events.PlaceReceiving) {
					open[p.Image+" "+p.Address] = true
				}
			}
			asked[k.testbed] = open
		}
		if !open[x.image+" "+x.address] {
			delete(s.all, k)
		}
	}
	return nil
}
