package compat

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"loadnode/events"
)

var (
	argDomain = arg{name: "domain", value: "[domain]", info: "domain for request."}
	argImage  = arg{name: "img", value: "[imgName]", info: "name of image to serve [defaultImage]."}
)

func (s *Service) frisbee() group {
	return group{"frisbee", "Service to control frisbee servers to stream specific images", []call{
		{"checkImage", "Check if a given disk image really exist on the repository", // sic
			[]arg{{name: "img", value: "[imgName]", info: "name of image to check."}}, checkImage},
		{"getAddress", "Get the port number of a frisbee server serving a specified image (start a new server if none exists)",
			[]arg{argImage, argDomain}, getAddress},
		{"status", "Returns the list of all served image", // sic
			[]arg{{name: "img", value: "[imgName]", info: "If defined, only report about that image."}, argDomain}, status},
		{"stop", "Stop serving a specified image", []arg{argImage, argDomain}, stop},
	}}
}

// image is the image a request means. OMF 5 names the characters it refuses; what a name may be is the catalogue's to say.
func (r *request) image() string { return cmp.Or(r.get("img"), r.s.cfg.Image) }

// safe is what OMF 5 allows in images and users (§b.2).
func safe(s string) bool {
	return strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.-_") == ""
}

func (r *request) checkSafe() error {
	if !r.v5 {
		return nil
	}
	for _, name := range []string{"img", "user"} {
		if !safe(r.get(name)) {
			return &refusal{http.StatusBadRequest, "Found unsafe characters in parameter '" + name + "'", false}
		}
	}
	return nil
}

// frisbee asks the image service.
func (r *request) frisbee(verb string, req, resp any) error {
	return r.s.cfg.Ask(r.ctx, events.FrisbeeSubject(r.testbed, verb), req, resp)
}

// noImage reports whether an error says that there is no such image, or none with such a name.
func noImage(err error) bool {
	var e *events.Error
	return errors.As(err, &e) && (e.Code == events.CodeImage || e.Code == events.CodeNotFound || e.Code == events.CodeBadRequest)
}

func checkImage(r *request) (reply, error) {
	if err := r.checkSafe(); err != nil {
		return reply{}, err
	}
	var image events.Image
	err := r.frisbee(events.FrisbeeCheck, events.ImageQuery{Image: r.image()}, &image)
	switch {
	case err == nil && r.v5:
		return xml("<OK>Image found and readable</OK>")
	case err == nil:
		return text("OK")
	case !noImage(err):
		return reply{}, err
	case r.v5:
		return reply{}, &refusal{http.StatusBadRequest, fmt.Sprintf("Image file '%s' not found or not readable by user '%s'", r.image(), r.get("user")), false}
	}
	return text("IMAGE NOT FOUND")
}

func getAddress(r *request) (reply, error) {
	if err := r.checkSafe(); err != nil {
		return reply{}, err
	}
	d, err := r.s.daemons.open(r, r.image())
	switch {
	case noImage(err):
		by := ""
		if r.v5 {
			by = fmt.Sprintf(" or not readable by user '%s'", r.get("user"))
		}
		return reply{}, &refusal{http.StatusBadRequest, fmt.Sprintf("Image file '%s' not found%s", r.image(), by), false}
	case err != nil:
		return reply{}, err
	}
	address := d.Group + ":" + strconv.Itoa(int(d.Port))
	if r.v5 {
		return xml("<OK>" + address + "</OK>")
	}
	return text(address)
}

func stop(r *request) (reply, error) {
	if err := r.checkSafe(); err != nil {
		return reply{}, err
	}
	session, stopped, err := r.s.daemons.stop(r, r.image())
	switch {
	case err != nil:
		return reply{}, err
	case !r.v5:
		return text("OK")
	case stopped:
		return xml(fmt.Sprintf("<OK>Stopped serving '%s' at %s:%d</OK>", escape(r.image()), session.Group, session.Port))
	}
	return reply{}, &refusal{http.StatusConflict, fmt.Sprintf("Did not stop the frisbeed serving '%s'.Either it is not running or some clients are still receiving data from it.", r.image()), false}
}

// status shows all sessions of the image service, those of jobs too.
func status(r *request) (reply, error) {
	if err := r.checkSafe(); err != nil {
		return reply{}, err
	}
	var st events.FrisbeeState
	if err := r.frisbee(events.FrisbeeStatus, events.StatusQuery{}, &st); err != nil {
		return reply{}, err
	}
	img := r.get("img")
	sessions := slices.DeleteFunc(st.Sessions, func(x events.SessionState) bool { return img != "" && x.Image != img })
	if len(sessions) == 0 && r.v5 {
		if img == "" {
			return xml("<OK>No frisbee daemons are running</OK>")
		}
		return xml("<OK>No frisbee daemons are currently serving '" + escape(img) + "'</OK>")
	}
	slices.SortStableFunc(sessions, func(a, b events.SessionState) int { return cmp.Compare(a.Port, b.Port) })
	var b strings.Builder
	bandwidth, group := r.s.cfg.Bandwidth, r.s.cfg.Group
	if len(sessions) > 0 {
		bandwidth, group = cmp.Or(sessions[0].Rate, bandwidth), sessions[0].Group
	}
	b.WriteString("<frisbee_status><bandwidth>" + megabits(bandwidth) + "</bandwidth>")
	if group != "" {
		b.WriteString("<mc_address>" + group + "</mc_address>")
	}
	for _, x := range sessions {
		other := "" // OMF's page has one group for all; sessions may have their own
		if x.Group != group {
			other = " mc_address='" + x.Group + "'"
		}
		left := max(time.Duration(x.IdleLeft), r.s.daemons.left(r, x.Image))
		fmt.Fprintf(&b, "<daemon img='%s'%s port='%d' timeLeft='%s'/>", escape(x.Image), other, x.Port, seconds(left))
	}
	b.WriteString("</frisbee_status>")
	return xml(b.String())
}

// megabits is a rate as OMF shows it: with at least one decimal.
func megabits(rate int64) string { return decimal(float64(rate) / 1e6) }

func seconds(d time.Duration) string { return decimal(d.Seconds()) }

func decimal(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
